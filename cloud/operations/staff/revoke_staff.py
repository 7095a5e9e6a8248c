"""The end of somebody's work at an event: badge dead, sessions over, before the answer is given."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, update

from cloud.operations.refusals import Refusal
from cloud.operations.staff.issue_badge import refuse_stranger
from cloud.store.database import Database
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.locks import lock_devices
from cloud.store.tables import badges, staff_sessions
from protocol.ids import DeviceId, EventId, StaffId


@dataclass(frozen=True, slots=True)
class StaffRevoked:
    staff_id: StaffId
    event_id: EventId
    badges: int
    """How many counted until now."""
    signed_out_at: tuple[DeviceId, ...]
    """The appliances where they were signed in."""


def revoke_staff(
    database: Database,
    event_id: EventId,
    staff_id: StaffId,
    reason: str,
    *,
    actor: str,
    now: datetime,
) -> StaffRevoked | Refusal:
    """From the very next transaction on nothing is sold or given back in their name.

    A batch of an appliance where they are signed in is over before this one, or sees it: their
    appliances are locked first. Which these are is known for certain once the badge is held, since
    nobody signs in with it any more; where one was missed, all is let go and tried with it too.
    """
    appliances: frozenset[DeviceId] = frozenset()
    while True:
        with database.transaction() as connection:
            lock_devices(connection, appliances)
            refusal = refuse_stranger(connection, staff_id)
            if refusal is not None:
                return refusal
            held = _hold_badges(connection, event_id, staff_id)
            standing = _signed_in(connection, event_id, staff_id)
            if standing <= appliances:
                revoked = StaffRevoked(staff_id, event_id, len(held), tuple(sorted(standing)))
                _store(connection, revoked, held, reason, actor=actor, now=now)
                return revoked
        appliances = standing


def _hold_badges(connection: Connection, event_id: EventId, staff_id: StaffId) -> list[str]:
    rows = connection.execute(
        select(badges.c.badge_id)
        .where(
            badges.c.staff_id == staff_id,
            badges.c.event_id == event_id,
            badges.c.revoked_at.is_(None),
        )
        .order_by(badges.c.badge_id)
        .with_for_update()
    )
    return list(rows.scalars())


def _signed_in(connection: Connection, event_id: EventId, staff_id: StaffId) -> frozenset[DeviceId]:
    rows = connection.execute(
        select(staff_sessions.c.device_id).where(
            staff_sessions.c.staff_id == staff_id,
            staff_sessions.c.event_id == event_id,
            staff_sessions.c.ended_at.is_(None),
        )
    )
    return frozenset(DeviceId(each) for each in rows.scalars())


def _store(
    connection: Connection,
    revoked: StaffRevoked,
    held: list[str],
    reason: str,
    *,
    actor: str,
    now: datetime,
) -> None:
    connection.execute(update(badges).where(badges.c.badge_id.in_(held)).values(revoked_at=now))
    connection.execute(
        update(staff_sessions)
        .where(
            staff_sessions.c.staff_id == revoked.staff_id,
            staff_sessions.c.event_id == revoked.event_id,
            staff_sessions.c.ended_at.is_(None),
        )
        .values(ended_at=now)
    )
    deed = AuditRow(
        at=now,
        actor=actor,
        action="staff_revoked",
        outcome="done",
        subject=revoked.staff_id,
        event_id=revoked.event_id,
        detail={"reason": reason, "badges": held, "signed_out_at": list(revoked.signed_out_at)},
    )
    write_audit_records(connection, [deed])
