"""Each appliance's policy says what it is due: whoever is told something else gets a new one."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, select

from cloud.keys import KeyRing
from cloud.operations.event.issue_policy import due_for, is_news, issue_to
from cloud.operations.updates.due import read_releases
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.locks import lock_devices
from cloud.store.tables import devices
from protocol.ids import DeviceId

AT_ONCE_MAX: Final = 200
"""What one transaction holds the locks of; the rest has its turn in the next."""
ACTOR: Final = "cloud:updates"


def announce_updates(connection: Connection, keys: KeyRing, now: datetime) -> dict[DeviceId, int]:
    """A new policy for each appliance that is due another version than it was told, or that is
    due none any more; each with its version. In a transaction of its own; as often as one likes,
    by as many as like.

    A release, a pause, a percentage, a move to another channel and a first word of a new appliance
    all come to their policies here: none of them waits for the fleet.
    """
    behind = who_is_behind(connection)[:AT_ONCE_MAX]
    if not behind:
        return {}
    lock_devices(connection, behind)
    # Another one may just have done it: only who lags behind under the locks.
    still_behind = who_is_behind(connection, behind)
    # In winter too: hearing of an update is no leave to sell on after the event.
    issued = issue_to(connection, keys, still_behind, now, after_the_end=False)
    if issued:
        deed = AuditRow(
            at=now,
            actor=ACTOR,
            action="updates_announced",
            outcome="done",
            detail={"policies": dict(issued)},
        )
        write_audit_records(connection, [deed])
    return issued


def who_is_behind(
    connection: Connection, among: Iterable[DeviceId] | None = None
) -> list[DeviceId]:
    """Those whose newest policy says something else than what they are due, by name."""
    releases = read_releases(connection)
    wanted = (
        select(
            devices.c.device_id,
            devices.c.channel,
            devices.c.compatible,
            devices.c.slot,
            devices.c.announced_version,
            devices.c.announced_downgrade,
        )
        .where(devices.c.status == "active", devices.c.stall_id.is_not(None))
        .order_by(devices.c.device_id)
    )
    # Most of the time most appliances are not in it.
    is_concerned = devices.c.announced_version.is_not(None)
    wanted = wanted.where(is_concerned | devices.c.slot.is_not(None) if releases else is_concerned)
    if among is not None:
        wanted = wanted.where(devices.c.device_id.in_(list(among)))
    return [
        DeviceId(row.device_id)
        for row in connection.execute(wanted)
        if is_news(due_for(releases, row), row)
    ]
