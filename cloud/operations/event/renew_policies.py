"""Policies are issued anew before they expire, so that no till goes dumb on its sixtieth day."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, select

from cloud.keys import KeyRing
from cloud.operations.event.issue_policy import expires_at, issue_to
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.locks import lock_devices
from cloud.store.tables import devices, events, policies
from protocol.ids import DeviceId

BEFORE: Final = timedelta(days=20)
"""An appliance that is switched on once in that time has its next policy before this one ends."""
GAIN_MIN: Final = timedelta(days=1)
AT_ONCE_MAX: Final = 200
"""What one transaction holds the locks of; the rest has its turn in the next."""
_ACTOR: Final = "cloud:policies"


def renew_policies(connection: Connection, keys: KeyRing, now: datetime) -> dict[DeviceId, int]:
    """A new version for each appliance whose policy ends soon though its event does not; each
    with its version. In a transaction of its own; as often as one likes, by as many as like.

    A policy that ends with its event is left to end: two days after the last guest the till sells
    nothing more.
    """
    due = _due(connection, now)
    if not due:
        return {}
    lock_devices(connection, due)
    # Another one may just have done it: only what is due under the locks.
    still_due = set(_due(connection, now, due))
    renewed = issue_to(connection, keys, [each for each in due if each in still_due], now)
    if renewed:
        deed = AuditRow(
            at=now,
            actor=_ACTOR,
            action="policies_renewed",
            outcome="done",
            detail={"policies": dict(renewed)},
        )
        write_audit_records(connection, [deed])
    return renewed


def _due(
    connection: Connection, now: datetime, among: Iterable[DeviceId] | None = None
) -> list[DeviceId]:
    wanted = (
        select(devices.c.device_id, policies.c.expires_at, events.c.ends_at)
        .join(
            policies,
            (policies.c.device_id == devices.c.device_id)
            & (policies.c.version == devices.c.policy_version),
        )
        .join(events, events.c.event_id == devices.c.event_id)
        .where(
            devices.c.status == "active",
            devices.c.stall_id.is_not(None),
            policies.c.expires_at < now + BEFORE,
        )
        .order_by(policies.c.expires_at, devices.c.device_id)
    )
    if among is not None:
        wanted = wanted.where(devices.c.device_id.in_(list(among)))
    due = [
        DeviceId(row.device_id)
        for row in connection.execute(wanted)
        if expires_at(row.ends_at, now, after_the_end=False) >= row.expires_at + GAIN_MIN
    ]
    return sorted(due[:AT_ONCE_MAX])
