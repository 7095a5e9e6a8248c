"""A staff badge and its PIN: the badge is a signed QR, the PIN is kept as a hash."""

import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, insert, select, update

from cloud.access.pins import hash_pin
from cloud.access.refusals import PinNotAllowed
from cloud.keys import KeyRing
from cloud.operations.refusals import Code, Refusal
from cloud.store.database import Database
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.tables import badges, staff, staff_assignments
from protocol.encoding import to_base64url
from protocol.ids import EventId, StaffId
from protocol.policy import Badge, sign_badge

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


def issue_badge(
    database: Database,
    keys: KeyRing,
    event_id: EventId,
    staff_id: StaffId,
    pin: str | None,
    *,
    actor: str,
    now: datetime,
) -> IssuedBadge | Refusal:
    """A new badge for someone assigned to the event; the one they had no longer counts.

    Without a `pin` one is drawn.
    """
    chosen = _draw_pin() if pin is None else pin
    pin_hash = hash_pin(chosen)
    if isinstance(pin_hash, PinNotAllowed):
        return Refusal(
            Code.PIN_NOT_ALLOWED, str(pin_hash).capitalize() + ".", "Choose another one."
        )
    badge_id = to_base64url(secrets.token_bytes(_BADGE_ID_BYTES))
    with database.transaction() as connection:
        refusal = _refuse(connection, event_id, staff_id)
        if refusal is not None:
            return refusal
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
            detail={"badge_id": badge_id},
        )
        write_audit_records(connection, [deed])
    badge = Badge(v=1, badge_id=badge_id, staff_id=staff_id, event_id=event_id)
    jws = sign_badge(badge, keys.badge.private, keys.badge.kid)
    return IssuedBadge(staff_id, event_id, badge_id, jws, chosen if pin is None else None)


def _refuse(connection: Connection, event_id: EventId, staff_id: StaffId) -> Refusal | None:
    known = connection.execute(select(staff.c.staff_id).where(staff.c.staff_id == staff_id))
    if known.one_or_none() is None:
        return Refusal(
            Code.STAFF_UNKNOWN,
            f"There is no member of staff {staff_id!r}.",
            "Name them in the event's document and apply it.",
        )
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


def _draw_pin() -> str:
    while True:
        pin = f"{secrets.randbelow(10**_DRAWN_PIN_DIGITS):0{_DRAWN_PIN_DIGITS}d}"
        # The hash is slow on purpose, so the rule is asked by way of a PIN that is kept.
        if not isinstance(hash_pin(pin), PinNotAllowed):
            return pin
