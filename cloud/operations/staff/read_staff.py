"""Who works at an event: where, with which badge, and at which appliances they are signed in."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from cloud.operations.refusals import Code, Refusal
from cloud.store.database import Database
from cloud.store.tables import badges, events, staff, staff_assignments, staff_sessions
from protocol.ids import DeviceId, EventId, StaffId, StallId


@dataclass(frozen=True, slots=True)
class StaffBadge:
    """The newest badge that was not revoked."""

    badge_id: str
    created_at: datetime
    has_pin: bool
    choose_until: datetime | None
    is_good: bool
    """It signs in, or its holder may still choose a PIN with it."""


@dataclass(frozen=True, slots=True)
class StaffMember:
    staff_id: StaffId
    name: str
    initials: str
    is_supervisor: bool
    stalls: tuple[StallId, ...] | None
    """None: every stall of the event."""
    badge: StaffBadge | None
    signed_in_at: tuple[DeviceId, ...]


def list_staff(database: Database, event_id: EventId, now: datetime) -> list[StaffMember] | Refusal:
    with database.reading() as connection:
        named = name_of_event(connection, event_id)
        return named if isinstance(named, Refusal) else read_staff(connection, event_id, now)


def name_of_event(connection: Connection, event_id: EventId) -> str | Refusal:
    named = connection.execute(
        select(events.c.name).where(events.c.event_id == event_id)
    ).scalar_one_or_none()
    if named is None:
        return Refusal(
            Code.EVENT_UNKNOWN, f"There is no event {event_id!r}.", "Apply its document first."
        )
    return named


def read_staff(connection: Connection, event_id: EventId, now: datetime) -> list[StaffMember]:
    """By id."""
    held = _badges(connection, event_id, now)
    signed_in = _signed_in(connection, event_id, now)
    places: dict[StaffId, list[StallId | None]] = {}
    people: dict[StaffId, tuple[str, str, bool]] = {}
    for row in connection.execute(
        select(staff, staff_assignments.c.stall_id, staff_assignments.c.is_supervisor)
        .join(staff_assignments, staff_assignments.c.staff_id == staff.c.staff_id)
        .where(staff_assignments.c.event_id == event_id)
        .order_by(staff.c.staff_id, staff_assignments.c.stall_id)
    ):
        staff_id = StaffId(row.staff_id)
        people[staff_id] = (row.name, row.initials, row.is_supervisor)
        places.setdefault(staff_id, []).append(
            None if row.stall_id is None else StallId(row.stall_id)
        )
    return [
        StaffMember(
            staff_id,
            name,
            initials,
            is_supervisor,
            None
            if None in places[staff_id]
            else tuple(each for each in places[staff_id] if each is not None),
            held.get(staff_id),
            tuple(signed_in.get(staff_id, ())),
        )
        for staff_id, (name, initials, is_supervisor) in people.items()
    ]


def _badges(connection: Connection, event_id: EventId, now: datetime) -> dict[StaffId, StaffBadge]:
    rows = connection.execute(
        select(badges)
        .where(badges.c.event_id == event_id, badges.c.revoked_at.is_(None))
        .order_by(badges.c.created_at)
    )
    return {
        StaffId(row.staff_id): StaffBadge(
            row.badge_id,
            row.created_at,
            row.pin_hash is not None,
            row.choose_until,
            row.pin_hash is not None or (row.choose_until is not None and now < row.choose_until),
        )
        for row in rows
    }


def _signed_in(
    connection: Connection, event_id: EventId, now: datetime
) -> dict[StaffId, list[DeviceId]]:
    rows = connection.execute(
        select(staff_sessions.c.staff_id, staff_sessions.c.device_id)
        .where(
            staff_sessions.c.event_id == event_id,
            staff_sessions.c.ended_at.is_(None),
            staff_sessions.c.expires_at > now,
        )
        .order_by(staff_sessions.c.device_id)
    )
    signed_in: dict[StaffId, list[DeviceId]] = {}
    for row in rows:
        signed_in.setdefault(StaffId(row.staff_id), []).append(DeviceId(row.device_id))
    return signed_in
