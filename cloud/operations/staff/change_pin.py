"""A badge's PIN forgotten, so that its holder chooses another, or set from the desk."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, select, update

from cloud.access.pins import hash_pin
from cloud.access.refusals import PinNotAllowed
from cloud.operations.refusals import Code, Refusal
from cloud.operations.staff.issue_badge import draw_pin, pin_refused, refuse_stranger
from cloud.store.database import Database
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.tables import badges, sign_in_failures
from protocol.ids import EventId, StaffId

CHOOSE_AGAIN_WITHIN: Final = timedelta(days=1)
"""Whoever forgot it stands at the desk, badge in hand."""


@dataclass(frozen=True, slots=True)
class PinChanged:
    staff_id: StaffId
    event_id: EventId
    badge_id: str
    pin: str | None = field(repr=False)
    """The PIN, where it was drawn here: shown this once."""
    choose_until: datetime | None
    """Until then its holder chooses a PIN; None: it has one."""


def change_pin(
    database: Database,
    event_id: EventId,
    staff_id: StaffId,
    pin: str | None = None,
    *,
    draw: bool = False,
    actor: str,
    now: datetime,
) -> PinChanged | Refusal:
    """This PIN, or one that is drawn, else none until its holder chooses one; tries at the old one
    are forgotten. Whoever is signed in stays so: that ends with `revoke_staff`."""
    chosen = draw_pin() if draw else pin
    pin_hash = None if chosen is None else hash_pin(chosen)
    if isinstance(pin_hash, PinNotAllowed):
        return pin_refused(pin_hash)
    choose_until = now + CHOOSE_AGAIN_WITHIN if pin_hash is None else None
    with database.transaction() as connection:
        refusal = refuse_stranger(connection, staff_id)
        if refusal is not None:
            return refusal
        badge_id = connection.execute(
            select(badges.c.badge_id)
            .where(
                badges.c.staff_id == staff_id,
                badges.c.event_id == event_id,
                badges.c.revoked_at.is_(None),
            )
            .order_by(badges.c.created_at.desc())
            .limit(1)
            .with_for_update()
        ).scalar_one_or_none()
        if badge_id is None:
            return Refusal(
                Code.BADGE_UNKNOWN,
                f"{staff_id} has no badge for event {event_id!r} that counts.",
                "Make one: `railtix-ops staff badge`.",
            )
        connection.execute(
            update(badges)
            .where(badges.c.badge_id == badge_id)
            .values(pin_hash=pin_hash, choose_until=choose_until)
        )
        connection.execute(delete(sign_in_failures).where(sign_in_failures.c.badge_id == badge_id))
        deed = AuditRow(
            at=now,
            actor=actor,
            action="pin_changed",
            outcome="to_be_chosen" if pin_hash is None else "set",
            subject=staff_id,
            event_id=event_id,
            detail={"badge_id": badge_id},
        )
        write_audit_records(connection, [deed])
    return PinChanged(staff_id, event_id, badge_id, chosen if draw else None, choose_until)
