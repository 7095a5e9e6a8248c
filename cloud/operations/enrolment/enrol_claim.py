"""Enrolment: a claim and a key become an appliance with a name, a certificate, a stall, a policy.

The authority's register first, the database second: a certificate that was issued and never stored
was never handed out. What the claim and the key are good for is looked at before, and again under
the locks.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Connection, Row, select, update

from cloud.keys import KeyRing
from cloud.operations.enrolment.claims import TRIES_MAX
from cloud.operations.enrolment.enrol_request import Requested, read_request
from cloud.operations.enrolment.enrol_tries import ACTOR
from cloud.operations.fleet.register_device import (
    Place,
    assign,
    is_stall,
    keep_certificate,
    no_stall,
    read_certificate,
    refuse_inactive,
    refuse_known_key,
)
from cloud.operations.fleet.retire_device import retire_replaced
from cloud.operations.refusals import Code, Refusal
from cloud.operations.rows import insert_if_new
from cloud.store.database import Database
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.locks import lock_devices, lock_event
from cloud.store.tables import claims, devices
from protocol.ids import DeviceId
from provisioning.authority import certificates, refusals
from provisioning.authority.folder import Authority

_log = structlog.stdlib.get_logger("cloud.enrolment")

_Row = Row[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What the appliance is answered."""

    device_id: DeviceId
    chain_pem: bytes
    """Its certificate, then the issuing one."""


def enrol(
    database: Database,
    keys: KeyRing,
    authority: Authority,
    claim_id: str,
    csr: bytes,
    *,
    now: datetime,
    top_up_url: str | None = None,
) -> Enrolled | Refusal:
    """For whoever showed the claim's secret. The same key may ask again while the claim lasts, and
    is given the same certificate; another key is refused."""
    with database.reading() as connection:
        claim = connection.execute(select(claims).where(claims.c.claim_id == claim_id)).one()
    enrolled = _enrol(database, keys, authority, claim, csr, now=now, top_up_url=top_up_url)
    if isinstance(enrolled, Refusal):
        refused = _deed(claim, "claim_refused", now, outcome="refused", why=enrolled.code.value)
        with database.transaction() as connection:
            write_audit_records(connection, [refused])
    return enrolled


def _enrol(
    database: Database,
    keys: KeyRing,
    authority: Authority,
    claim: _Row,
    csr: bytes,
    *,
    now: datetime,
    top_up_url: str | None,
) -> Enrolled | Refusal:
    requested = read_request(csr)
    if isinstance(requested, Refusal):
        return requested
    with database.reading() as connection:
        judged = _judge(connection, claim, requested, now)
    if judged is not None:
        return judged
    chain_pem = certify(authority, claim.device_id, requested, now)
    if isinstance(chain_pem, Refusal):
        return chain_pem
    return _store(database, keys, claim, requested, chain_pem, now=now, top_up_url=top_up_url)


def certify(
    authority: Authority, device_id: DeviceId, requested: Requested, now: datetime
) -> bytes | Refusal:
    """A certificate under this name, in the authority's register, and what goes before its root."""
    try:
        issued = authority.issue(certificates.Device(device_id), requested.key, now)
    except (OSError, ValueError) as error:
        # Away, full, damaged, or its issuing key was replaced since. A parser's message may quote.
        why = error.strerror if isinstance(error, OSError) else type(error).__name__
        _log.error("authority_not_usable", device_id=device_id, fault=why)
        return _cannot_certify("its folder cannot be used")
    if isinstance(issued, refusals.Refusal):
        return _cannot_certify(str(issued))
    return issued.chain_pem


def _cannot_certify(why: str) -> Refusal:
    return Refusal(
        Code.ENROLMENT_CLOSED,
        f"The authority cannot certify this: {why}.",
        "Look at `railtix-ops ca show` where the authority is.",
    )


def _store(
    database: Database,
    keys: KeyRing,
    asked: _Row,
    requested: Requested,
    chain_pem: bytes,
    *,
    now: datetime,
    top_up_url: str | None,
) -> Enrolled | Refusal:
    device_id = DeviceId(asked.device_id)
    certificate = read_certificate(device_id, chain_pem, now)
    assert not isinstance(certificate, Refusal), "our own authority made it"
    involved = [device_id] if asked.replaces is None else [device_id, DeviceId(asked.replaces)]
    place = Place(asked.event_id, asked.stall_id)
    with database.transaction() as connection:
        lock_event(connection, place.event_id, to_change=False)
        lock_devices(connection, involved, key=requested.spki)
        claim = connection.execute(
            select(claims).where(claims.c.claim_id == asked.claim_id).with_for_update()
        ).one()
        judged = _judge(connection, claim, requested, now)
        if judged is not None:
            return judged
        insert_if_new(connection, devices, {"device_id": device_id, "created_at": now})
        keep_certificate(connection, device_id, certificate)
        assign(connection, keys, device_id, place, now, top_up_url=top_up_url)
        if claim.replaces is not None:
            retire_replaced(connection, DeviceId(claim.replaces), by=device_id, now=now)
        connection.execute(
            update(claims)
            .where(claims.c.claim_id == claim.claim_id)
            .values(used_at=now, used_spki=requested.spki, certificate_pem=chain_pem.decode())
        )
        used = _deed(claim, "claim_used", now)
        issued = AuditRow(
            at=now,
            actor=ACTOR,
            action="certificate_issued",
            outcome="done",
            subject=certificate.thumbprint,
            device_id=device_id,
            event_id=claim.event_id,
            detail={"serial": certificate.serial, "until": certificate.not_after.isoformat()},
        )
        write_audit_records(connection, [used, issued])
    return Enrolled(device_id, chain_pem)


def _judge(
    connection: Connection, claim: _Row, requested: Requested, now: datetime
) -> Enrolled | Refusal | None:
    """None: a certificate is due. Enrolled: this key has been given its own already."""
    if claim.withdrawn_at is not None:
        return Refusal(Code.CLAIM_WITHDRAWN, "This claim was withdrawn.", _ANOTHER)
    if claim.expires_at <= now:
        return Refusal(Code.CLAIM_EXPIRED, "This claim has expired.", _ANOTHER)
    if claim.used_at is not None and claim.used_spki != requested.spki:
        return Refusal(Code.CLAIM_USED, "Another appliance has used this claim.", _ANOTHER)
    if claim.tries > TRIES_MAX:
        return Refusal(Code.CLAIM_LOCKED, "This claim is locked.", _ANOTHER)
    if claim.serial is not None and claim.serial != requested.serial:
        return Refusal(
            Code.SERIAL_WRONG,
            "This claim is for an appliance with another serial number.",
            "Show it to that one, or make a claim for this one.",
        )
    device_id = DeviceId(claim.device_id)
    device = connection.execute(
        select(devices.c.created_at).where(devices.c.device_id == device_id)
    ).one_or_none()
    if device is not None:
        refusal = refuse_inactive(connection, device_id)
        if refusal is not None:
            return refusal
    if claim.used_at is not None:
        return Enrolled(device_id, claim.certificate_pem.encode())
    if device is not None and device.created_at > claim.created_at:
        return Refusal(
            Code.CLAIM_WITHDRAWN,
            f"Another appliance was registered as {device_id} since the claim was made.",
            _ANOTHER,
        )
    if not is_stall(connection, Place(claim.event_id, claim.stall_id)):
        return no_stall(Place(claim.event_id, claim.stall_id))
    return refuse_known_key(connection, device_id, requested.spki)


def _deed(
    claim: _Row, action: str, now: datetime, *, outcome: str = "done", why: str | None = None
) -> AuditRow:
    return AuditRow(
        at=now,
        actor=ACTOR,
        action=action,
        outcome=outcome,
        subject=claim.claim_id,
        device_id=claim.device_id,
        event_id=claim.event_id,
        detail=None if why is None else {"why": why},
    )


_ANOTHER = "Show the appliance the QR of a new claim."
