"""The badges of an event's staff, to print: those they have, and new ones where one is needed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from cloud.keys import KeyRing
from cloud.operations.refusals import Refusal
from cloud.operations.staff.issue_badge import make_badge, refuse_staff, sign_for
from cloud.operations.staff.read_staff import StaffMember, name_of_event, read_staff
from cloud.store.database import Database
from cloud.store.keeping import AuditRow, write_audit_records
from protocol.ids import EventId, StaffId


@dataclass(frozen=True, slots=True)
class PrintedBadge:
    member: StaffMember
    jws: str = field(repr=False)
    """What the badge's QR says."""


@dataclass(frozen=True, slots=True)
class Sheet:
    event_name: str
    badges: tuple[PrintedBadge, ...]


def print_badges(
    database: Database,
    keys: KeyRing,
    event_id: EventId,
    staff_ids: Sequence[StaffId] | None,
    *,
    anew: bool,
    actor: str,
    now: datetime,
) -> Sheet | Refusal:
    """A badge for each of these, or for all who work at the event.

    Whoever has one that still signs in, or still lets its holder choose a PIN, keeps it: a sheet
    printed twice leaves the first one good. `anew`: everybody gets another.
    """
    with database.transaction() as connection:
        named = name_of_event(connection, event_id)
        if isinstance(named, Refusal):
            return named
        for staff_id in staff_ids or ():
            refusal = refuse_staff(connection, event_id, staff_id)
            if refusal is not None:
                return refusal
        members = _with_badges(connection, event_id, staff_ids, anew=anew, actor=actor, now=now)
        deed = AuditRow(
            at=now,
            actor=actor,
            action="badges_printed",
            outcome="done",
            event_id=event_id,
            detail={"badges": [badge_of(each) for each in members]},
        )
        write_audit_records(connection, [deed])
    return Sheet(
        named,
        tuple(
            PrintedBadge(each, sign_for(keys, event_id, each.staff_id, badge_of(each)))
            for each in members
        ),
    )


def badge_of(member: StaffMember) -> str:
    assert member.badge is not None, "everybody has one by now"
    return member.badge.badge_id


def choose_until_of(member: StaffMember) -> datetime | None:
    assert member.badge is not None, "everybody has one by now"
    return member.badge.choose_until


def _with_badges(
    connection: Connection,
    event_id: EventId,
    staff_ids: Sequence[StaffId] | None,
    *,
    anew: bool,
    actor: str,
    now: datetime,
) -> list[StaffMember]:
    # By id, however they were named: two sheets at once do not wait for each other in a circle.
    for each in sorted(_wanted(connection, event_id, staff_ids, now), key=_id_of):
        if anew or each.badge is None or not each.badge.is_good:
            make_badge(connection, event_id, each.staff_id, None, actor=actor, now=now)
    return _wanted(connection, event_id, staff_ids, now)


def _id_of(member: StaffMember) -> StaffId:
    return member.staff_id


def _wanted(
    connection: Connection, event_id: EventId, staff_ids: Sequence[StaffId] | None, now: datetime
) -> list[StaffMember]:
    members = read_staff(connection, event_id, now)
    if staff_ids is None:
        return members
    by_id = {each.staff_id: each for each in members}
    return [by_id[each] for each in dict.fromkeys(staff_ids)]
