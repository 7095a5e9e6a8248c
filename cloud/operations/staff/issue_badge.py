"""A staff badge: a signed QR, and the PIN that its holder chooses with it, or gets with it."""

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, insert, select, update

from cloud.access.pins import hash_pin, refuse_pin
from cloud.access.refusals import PinNotAllowed
from cloud.keys import KeyRing
from cloud.operations.refusals import Code, Refusal
from cloud.store.database import Database
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.tables import badges, staff, staff_assignments
from protocol.encoding import to_base64url
from protocol.ids import EventId, StaffId
from protocol.policy import Badge, sign_badge

CHOOSE_WITHIN: Final = timedelta(days=14)
"""A badge without a PIN is all that it takes to become its holder: long enough to print the sheet
before the event, and no longer (docs/decisions/0032)."""

_BADGE_ID_BYTES: Final = 12
_DRAWN_PIN_DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class IssuedBadge:
    staff_id: StaffId
    event_id: EventId
    badge_id: str
    jws: str = field(repr=False)
    """What the badge's QR says."""
    pin: str | None = field(repr=False)
    """The PIN, where it was drawn here: shown this once."""
    choose_until: datetime | None
    """Until then its holder chooses a PIN with it; None: it has one."""


def issue_badge(
    database: Database,
    keys: KeyRing,
    event_id: EventId,
    staff_id: StaffId,
    pin: str | None = None,
    *,
    draw: bool = False,
    actor: str,
    now: datetime,
) -> IssuedBadge | Refusal:
    """A new badge for someone assigned to the event; the one they had no longer counts.

    With this `pin`, or with one that is drawn; else its holder chooses one at the first sign-in.
    """
    chosen = draw_pin() if draw else pin
    pin_hash = None if chosen is None else hash_pin(chosen)
    if isinstance(pin_hash, PinNotAllowed):
        return pin_refused(pin_hash)
    with database.transaction() as connection:
        refusal = refuse_staff(connection, event_id, staff_id)
        if refusal is not None:
            return refusal
        badge_id = make_badge(connection, event_id, staff_id, pin_hash, actor=actor, now=now)
    return IssuedBadge(
        staff_id,
        event_id,
        badge_id,
        sign_for(keys, event_id, staff_id, badge_id),
        chosen if draw else None,
        now + CHOOSE_WITHIN if pin_hash is None else None,
    )


def make_badge(
    connection: Connection,
    event_id: EventId,
    staff_id: StaffId,
    pin_hash: str | None,
    *,
    actor: str,
    now: datetime,
) -> str:
    """The new badge's id; whatever badge they had at the event no longer counts."""
    # Two new badges at once: the second sees the first, and ends it. Not so strong a lock that a
    # session, which names its staff, waits for it: whoever signs in holds the badge (key_share).
    connection.execute(
        select(staff.c.staff_id).where(staff.c.staff_id == staff_id).with_for_update(key_share=True)
    )
    badge_id = to_base64url(secrets.token_bytes(_BADGE_ID_BYTES))
    connection.execute(
        update(badges)
        .where(
            badges.c.staff_id == staff_id,
            badges.c.event_id == event_id,
            badges.c.revoked_at.is_(None),
        )
        .values(revoked_at=now)
    )
    connection.execute(
        insert(badges).values(
            badge_id=badge_id,
            staff_id=staff_id,
            event_id=event_id,
            pin_hash=pin_hash,
            choose_until=now + CHOOSE_WITHIN if pin_hash is None else None,
            created_at=now,
        )
    )
    deed = AuditRow(
        at=now,
        actor=actor,
        action="badge_issued",
        outcome="done",
        subject=staff_id,
        event_id=event_id,
        detail={"badge_id": badge_id, "pin": "to_be_chosen" if pin_hash is None else "set"},
    )
    write_audit_records(connection, [deed])
    return badge_id


def sign_for(keys: KeyRing, event_id: EventId, staff_id: StaffId, badge_id: str) -> str:
    badge = Badge(v=1, badge_id=badge_id, staff_id=staff_id, event_id=event_id)
    return sign_badge(badge, keys.badge.private, keys.badge.kid)


def refuse_staff(connection: Connection, event_id: EventId, staff_id: StaffId) -> Refusal | None:
    refusal = refuse_stranger(connection, staff_id)
    if refusal is not None:
        return refusal
    assigned = connection.execute(
        select(staff_assignments.c.staff_id)
        .where(staff_assignments.c.staff_id == staff_id, staff_assignments.c.event_id == event_id)
        .limit(1)
    )
    if assigned.one_or_none() is None:
        return Refusal(
            Code.STAFF_NOT_ASSIGNED,
            f"{staff_id} does not work at event {event_id!r}.",
            "Name them in the event's document and apply it.",
        )
    return None


def refuse_stranger(connection: Connection, staff_id: StaffId) -> Refusal | None:
    known = connection.execute(select(staff.c.staff_id).where(staff.c.staff_id == staff_id))
    if known.one_or_none() is not None:
        return None
    return Refusal(
        Code.STAFF_UNKNOWN,
        f"There is no member of staff {staff_id!r}.",
        "Name them in the event's document and apply it.",
    )


def pin_refused(why: PinNotAllowed) -> Refusal:
    return Refusal(Code.PIN_NOT_ALLOWED, str(why).capitalize() + ".", "Choose another one.")


def draw_pin() -> str:
    while True:
        pin = f"{secrets.randbelow(10**_DRAWN_PIN_DIGITS):0{_DRAWN_PIN_DIGITS}d}"
        if refuse_pin(pin) is None:
            return pin
