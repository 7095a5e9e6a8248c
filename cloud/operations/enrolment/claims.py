"""Claims: a code for one appliance, good for 15 minutes, that says where it will stand."""

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, insert, select, update
from sqlalchemy.engine import Connection

from cloud.operations.fleet.register_device import (
    ELSEWHERE,
    Place,
    Within,
    is_stall,
    is_within,
    no_stall,
    refuse_inactive,
    refuse_outside,
)
from cloud.operations.refusals import Code, Refusal
from cloud.store.database import Database
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.locks import lock_claims
from cloud.store.tables import claims, devices
from protocol.claim_qr import CLAIM_ID_CHARS, SECRET_CHARS
from protocol.encoding import to_base64url
from protocol.ids import DeviceId, EventId, StallId
from provisioning.authority import certificates

VALID: Final = timedelta(minutes=15)
TRIES_MAX: Final = 5
SHOWN_FOR: Final = timedelta(days=1)
"""How long the list tells of a claim that is over."""
_NAME_CHARS_MAX: Final = 40


@dataclass(frozen=True, slots=True)
class Wanted:
    """What ops ask a claim for."""

    place: Place
    device_id: DeviceId | None = None
    """None: the stall's lowest name that is free."""
    serial: str | None = None
    replaces: DeviceId | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """As the people who run the event see it; its secret is nowhere."""

    claim_id: str
    device_id: DeviceId
    event_id: EventId
    stall_id: StallId
    serial: str | None
    replaces: DeviceId | None
    created_at: datetime
    created_by: str
    expires_at: datetime
    state: str
    """`open`, `used`, `expired`, `locked` or `withdrawn`."""
    tries: int
    used_at: datetime | None


@dataclass(frozen=True, slots=True)
class MadeClaim:
    """Handed over once, as a QR."""

    claim: Claim
    secret: str = field(repr=False)


def make_claim(
    database: Database, wanted: Wanted, *, actor: str, now: datetime, within: Within = None
) -> MadeClaim | Refusal:
    """A claim with a name of its own; one that was open for the same name is withdrawn."""
    claim_id, secret = _draw(CLAIM_ID_CHARS), _draw(SECRET_CHARS)
    with database.transaction() as connection:
        lock_claims(connection)
        refusal = _refuse(connection, wanted, within, now)
        if refusal is not None:
            return refusal
        device_id = wanted.device_id or _free_name(connection, wanted.place.stall_id, now)
        refusal = _refuse_name(device_id)
        if refusal is not None:
            return refusal
        deeds = [
            _deed("claim_withdrawn", row, actor, now)
            for row in connection.execute(
                update(claims)
                .where(
                    claims.c.device_id == device_id,
                    claims.c.used_at.is_(None),
                    claims.c.withdrawn_at.is_(None),
                )
                .values(withdrawn_at=now)
                .returning(claims)
            )
            if row.expires_at > now
        ]
        made = connection.execute(
            insert(claims)
            .values(
                claim_id=claim_id,
                secret_hash=hash_secret(secret),
                event_id=wanted.place.event_id,
                stall_id=wanted.place.stall_id,
                device_id=device_id,
                serial=wanted.serial,
                replaces=wanted.replaces,
                created_at=now,
                created_by=actor,
                expires_at=now + VALID,
            )
            .returning(claims)
        ).one()
        write_audit_records(connection, [*deeds, _deed("claim_made", made, actor, now)])
        return MadeClaim(_claim(made, now), secret)


def list_claims(database: Database, now: datetime, within: Within = None) -> list[Claim]:
    """The open ones and those that ended within a day, the newest first."""
    wanted = (
        select(claims)
        .where(claims.c.expires_at > now - SHOWN_FOR)
        .order_by(claims.c.created_at.desc(), claims.c.claim_id)
    )
    if within is not None:
        wanted = wanted.where(claims.c.event_id.in_(within))
    with database.reading() as connection:
        return [_claim(row, now) for row in connection.execute(wanted)]


def find_claim(
    database: Database, claim_id: str, now: datetime, within: Within = None
) -> Claim | Refusal:
    with database.reading() as connection:
        found = connection.execute(
            select(claims).where(claims.c.claim_id == claim_id)
        ).one_or_none()
    if found is None:
        return _unknown(claim_id)
    return _claim(found, now) if is_within(within, found.event_id) else ELSEWHERE


def withdraw_claim(
    database: Database, claim_id: str, *, actor: str, now: datetime, within: Within = None
) -> Claim | Refusal:
    """Nobody enrols with it any more; one that is over stays as it ended."""
    with database.transaction() as connection:
        found = connection.execute(
            select(claims).where(claims.c.claim_id == claim_id).with_for_update()
        ).one_or_none()
        if found is None:
            return _unknown(claim_id)
        if not is_within(within, found.event_id):
            return ELSEWHERE
        if found.used_at is not None:
            return Refusal(
                Code.CLAIM_USED,
                f"{found.device_id} has enrolled with this claim already.",
                f"`railtix-ops device revoke {found.device_id}` where that was somebody else.",
            )
        if found.withdrawn_at is None:
            found = connection.execute(
                update(claims)
                .where(claims.c.claim_id == claim_id)
                .values(withdrawn_at=now)
                .returning(claims)
            ).one()
            write_audit_records(connection, [_deed("claim_withdrawn", found, actor, now)])
        return _claim(found, now)


def hash_secret(secret: str) -> str:
    """SHA-256, base64url. No salt and no stretching: there is no dictionary of 160 random bits."""
    return to_base64url(hashlib.sha256(b"railtix claim " + secret.encode()).digest())


def _refuse(
    connection: Connection, wanted: Wanted, within: Within, now: datetime
) -> Refusal | None:
    if not is_within(within, wanted.place.event_id):
        return ELSEWHERE
    if not is_stall(connection, wanted.place):
        return no_stall(wanted.place)
    if wanted.replaces is not None:
        refusal = refuse_outside(connection, wanted.replaces, within)
        if refusal is not None:
            return refusal
        if wanted.replaces == wanted.device_id:
            return Refusal(
                Code.NAME_NOT_ALLOWED,
                "An appliance does not take its own place.",
                "Leave out what it replaces, to enrol it again under its name.",
            )
    if wanted.device_id is None:
        return None
    if _is_promised_elsewhere(connection, wanted.device_id, within, now):
        return ELSEWHERE
    if _is_known(connection, wanted.device_id):
        return refuse_outside(connection, wanted.device_id, within) or refuse_inactive(
            connection, wanted.device_id
        )
    return None


def _is_promised_elsewhere(
    connection: Connection, device_id: DeviceId, within: Within, now: datetime
) -> bool:
    """A new claim would withdraw one that is not theirs."""
    if within is None:
        return False
    promised = select(claims.c.claim_id).where(
        claims.c.device_id == device_id,
        claims.c.event_id.not_in(within),
        claims.c.used_at.is_(None),
        claims.c.withdrawn_at.is_(None),
        claims.c.expires_at > now,
    )
    return connection.execute(promised.limit(1)).one_or_none() is not None


def _is_known(connection: Connection, device_id: DeviceId) -> bool:
    found = select(devices.c.device_id).where(devices.c.device_id == device_id)
    return connection.execute(found).one_or_none() is not None


def _free_name(connection: Connection, stall_id: StallId, now: datetime) -> DeviceId:
    """`STALL-N`, the lowest that no appliance ever had and no open claim promises."""
    promised = select(claims.c.device_id).where(
        claims.c.used_at.is_(None), claims.c.withdrawn_at.is_(None), claims.c.expires_at > now
    )
    taken = set(connection.execute(select(devices.c.device_id)).scalars())
    taken |= set(connection.execute(promised).scalars())
    number, name = 0, ""
    while not name or name in taken:
        number += 1
        ending = f"-{number}"
        name = f"{stall_id[: _NAME_CHARS_MAX - len(ending)].rstrip('-')}{ending}"
    return DeviceId(name)


def _refuse_name(device_id: DeviceId) -> Refusal | None:
    refused = certificates.refuse_name(certificates.Device(device_id))
    if refused is None:
        return None
    return Refusal(
        Code.NAME_NOT_ALLOWED,
        f"No appliance can be called {device_id!r}: {refused.rule}.",
        "Give it another name.",
    )


def _draw(chars: int) -> str:
    """Base32: 5 random bits a character."""
    return base64.b32encode(secrets.token_bytes(chars * 5 // 8 + 1)).decode()[:chars]


def _claim(row: Row[Any], now: datetime) -> Claim:
    return Claim(
        row.claim_id,
        row.device_id,
        row.event_id,
        row.stall_id,
        row.serial,
        row.replaces,
        row.created_at,
        row.created_by,
        row.expires_at,
        _state(row, now),
        row.tries,
        row.used_at,
    )


def _state(row: Row[Any], now: datetime) -> str:
    if row.used_at is not None:
        return "used"
    if row.withdrawn_at is not None:
        return "withdrawn"
    if row.expires_at <= now:
        return "expired"
    return "locked" if row.tries >= TRIES_MAX else "open"


def _deed(action: str, row: Row[Any], actor: str, now: datetime) -> AuditRow:
    return AuditRow(
        at=now,
        actor=actor,
        action=action,
        outcome="done",
        subject=row.claim_id,
        device_id=row.device_id,
        event_id=row.event_id,
        detail={
            name: value
            for name, value in (
                ("stall_id", row.stall_id),
                ("serial", row.serial),
                ("replaces", row.replaces),
            )
            if value is not None
        },
    )


def _unknown(claim_id: str) -> Refusal:
    return Refusal(
        Code.CLAIM_UNKNOWN,
        f"There is no claim {claim_id!r}.",
        "`railtix-ops device claims` lists them.",
    )
