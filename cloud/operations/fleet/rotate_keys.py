"""A new signing key: made known in signed policies first, and signing once appliances know it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, select

from cloud.keys import KeyRing
from cloud.operations.event.issue_policy import issue_to
from cloud.operations.refusals import Code, Refusal
from cloud.store.database import Database
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.locks import lock_devices
from cloud.store.tables import devices, events, policies
from protocol.ids import DeviceId, EventId, KeyId
from protocol.policy import Policy, find, open_policy

CHECKED_BY_ANYBODY: Final = ("checkpoint", "ticket")
"""Whoever checks these asks /.well-known/jwks.json: a new key may sign at once."""
CHECKED_BY_APPLIANCES: Final = ("reply", "badge")
WALLET: Final = "wallet."
"""Followed by the event: its wallet QRs are checked by its own appliances."""


@dataclass(frozen=True, slots=True)
class Prepared:
    name: str
    kid: KeyId
    policies: dict[DeviceId, int]
    """The new policy version of each appliance that is told."""


@dataclass(frozen=True, slots=True)
class Activated:
    name: str
    kid: KeyId


def prepare_key(
    database: Database, keys: KeyRing, name: str, *, actor: str, now: datetime
) -> Prepared | Refusal:
    """Make a key that will sign, and tell the appliances; asked again, the same key."""
    event_id = _event_of(name)
    with database.reading() as connection:
        refusal = _refuse_name(connection, name, event_id)
    if refusal is not None:
        return refusal
    if event_id is not None:
        keys.wallet_for(event_id)
    kid = keys.prepare(name)

    told: dict[DeviceId, int] = {}
    with database.transaction() as connection:
        if name not in CHECKED_BY_ANYBODY:
            tills = _placed_devices(connection, event_id)
            lock_devices(connection, tills)
            told = issue_to(connection, keys, tills, now)
        _record(connection, actor, "key_prepared", name, kid=kid, now=now)
    return Prepared(name, kid, told)


def activate_key(
    database: Database, keys: KeyRing, name: str, *, actor: str, now: datetime, force: bool = False
) -> Activated | Refusal:
    """Let the prepared key sign, once every appliance that checks it has said that it knows it.

    With `force` at once: an appliance that was away learns of the key with its next policy, and
    takes no answer before that.
    """
    with database.reading() as connection:
        refusal = _refuse_name(connection, name, _event_of(name))
    if refusal is not None:
        return refusal
    kid = keys.prepared(name)
    if kid is None:
        return Refusal(
            Code.KEY_NOT_PREPARED,
            f"No new key is prepared for {name}.",
            f"Run `railtix-cloud keys prepare {name}` first.",
        )
    if not force and name not in CHECKED_BY_ANYBODY:
        with database.reading() as connection:
            behind = _behind(connection, keys, name, kid)
        if behind:
            return Refusal(
                Code.KEY_NOT_KNOWN_YET,
                f"These appliances have not acknowledged the new key yet: {', '.join(behind)}.",
                "Switch them on and wait for their heartbeat; or use --force, and they take no "
                "answer until their policy has reached them.",
            )

    activated = keys.activate(name)
    with database.transaction() as connection:
        _record(connection, actor, "key_activated", name, kid=activated, now=now)
    return Activated(name, activated)


def _event_of(name: str) -> EventId | None:
    return EventId(name.removeprefix(WALLET)) if name.startswith(WALLET) else None


def _refuse_name(connection: Connection, name: str, event_id: EventId | None) -> Refusal | None:
    if event_id is not None:
        known = select(events.c.event_id).where(events.c.event_id == event_id)
        if connection.execute(known).one_or_none() is not None:
            return None
        return Refusal(
            Code.EVENT_UNKNOWN, f"There is no event {event_id!r}.", "Name one that exists."
        )
    if name in CHECKED_BY_ANYBODY or name in CHECKED_BY_APPLIANCES:
        return None
    return Refusal(
        Code.KEY_UNKNOWN,
        f"No key named {name!r} can be changed this way.",
        "Use reply, badge, checkpoint, ticket, or wallet.EVENT.",
    )


def _placed_devices(connection: Connection, event_id: EventId | None) -> list[DeviceId]:
    found = select(devices.c.device_id).where(
        devices.c.status == "active", devices.c.stall_id.is_not(None)
    )
    if event_id is not None:
        found = found.where(devices.c.event_id == event_id)
    named = connection.execute(found.order_by(devices.c.device_id)).scalars()
    return [DeviceId(device_id) for device_id in named]


def _behind(connection: Connection, keys: KeyRing, name: str, kid: KeyId) -> list[DeviceId]:
    """Those whose newest acknowledged policy does not hold the key."""
    placed = _placed_devices(connection, _event_of(name))
    rows = connection.execute(
        select(policies.c.device_id, policies.c.jws)
        .join(devices, devices.c.device_id == policies.c.device_id)
        .where(policies.c.device_id.in_(placed), policies.c.version == devices.c.policy_acked)
    )
    trusted = find((keys.policy.named,))
    knowing: set[str] = set()
    for row in rows:
        policy = open_policy(row.jws.encode(), trusted, DeviceId(row.device_id), 0)
        assert isinstance(policy, Policy), "a policy of our own"
        held = {
            "reply": policy.reply_keys,
            "badge": policy.badge_keys,
        }.get(name, policy.wallet_keys)
        if kid in {each.kid for each in held}:
            knowing.add(row.device_id)
    return [device_id for device_id in placed if device_id not in knowing]


def _record(
    connection: Connection, actor: str, action: str, name: str, *, kid: KeyId, now: datetime
) -> None:
    deed = AuditRow(
        at=now,
        actor=actor,
        action=action,
        outcome="done",
        subject=name,
        event_id=_event_of(name),
        detail={"kid": kid},
    )
    write_audit_records(connection, [deed])
