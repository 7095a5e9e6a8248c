"""What a till says when it gives back, and the staff who approve it."""

import secrets
from typing import Any

from sqlalchemy import insert, select, update
from uuid_utils.compat import uuid7

from cloud.access.pins import hash_pin
from cloud.store.tables import approvals, badges, events, staff, staff_assignments
from protocol.ids import IdempotencyKey
from protocol.messages import (
    Approve,
    Deduct,
    LastReceiptRequest,
    OfflineAcceptance,
    Refund,
    SaleName,
    ShiftReportRequest,
)
from protocol.policy import Badge, sign_badge
from protocol.sealing import seal_pin
from tests.cloud.floor import EVENT, Floor, Guest, Till, eur

SUES_PIN = "8642"
_PIN_HASH = hash_pin(SUES_PIN)


def sold(floor: Floor, till: Till, guest: Guest, cents: int = 350) -> Deduct:
    """A sale that was approved."""
    sale = till.deduct(floor.qr(guest), cents)
    floor.ask(till, sale)
    return sale


def refund(
    till: Till, sale: Deduct | OfflineAcceptance, cents: int | None = None, /, **changes: Any
) -> Refund:
    said: dict[str, Any] = _envelope(till) | {
        "session_id": till.session_id,
        "event_id": EVENT,
        "stall_id": till.stall_id,
        "policy_version": 1,
        "entry": till.entry,
        "correlation_id": secrets.token_urlsafe(16),
        "sale": SaleName(sale.device_id, sale.key),
        "amount": None if cents is None else eur(cents),
    }
    return Refund(**(said | changes))


def approve(
    floor: Floor,
    till: Till,
    sale: Deduct | OfflineAcceptance,
    cents: int | None = None,
    *,
    staff_id: str = "sue",
    pin: str = SUES_PIN,
    **changes: Any,
) -> Approve:
    envelope = _envelope(till) | changes
    badge = Badge(1, f"{staff_id}s-badge-01", staff_id, EVENT)
    key = IdempotencyKey(envelope["key"])
    said: dict[str, Any] = {
        "session_id": till.session_id,
        "event_id": EVENT,
        "stall_id": till.stall_id,
        "sale": SaleName(sale.device_id, sale.key),
        "amount": None if cents is None else eur(cents),
        "badge": sign_badge(badge, floor.keys.badge.private, floor.keys.badge.kid),
        "sealed_pin": seal_pin(pin, floor.keys.pin.private.public_key(), till.device_id, key),
    }
    return Approve(**(said | envelope))


def last_receipt(till: Till) -> LastReceiptRequest:
    return LastReceiptRequest(session_id=till.session_id, **_envelope(till))


def shift_report(till: Till) -> ShiftReportRequest:
    return ShiftReportRequest(session_id=till.session_id, **_envelope(till))


def add_staff(floor: Floor, staff_id: str = "sue", *, is_supervisor: bool = True) -> None:
    """Someone with a badge who may sign in at every stall."""
    now = floor.now()
    with floor.database.transaction() as connection:
        connection.execute(
            insert(staff).values(
                staff_id=staff_id, name=staff_id, initials=staff_id[:2], created_at=now
            )
        )
        connection.execute(
            insert(staff_assignments).values(
                assignment_id=uuid7(),
                staff_id=staff_id,
                event_id=EVENT,
                is_supervisor=is_supervisor,
            )
        )
        connection.execute(
            insert(badges).values(
                badge_id=f"{staff_id}s-badge-01",
                staff_id=staff_id,
                event_id=EVENT,
                pin_hash=_PIN_HASH,
                created_at=now,
            )
        )


def make_mia_a_supervisor(floor: Floor) -> None:
    with floor.database.transaction() as connection:
        connection.execute(
            update(staff_assignments)
            .where(staff_assignments.c.staff_id == "mia")
            .values(is_supervisor=True)
        )


def set_terms(floor: Floor, **values: Any) -> None:
    """As the event's document would: `refund_window_s`, `ends_at` and so on."""
    with floor.database.transaction() as connection:
        connection.execute(update(events).values(**values))


def approval_rows(floor: Floor) -> list[Any]:
    with floor.database.reading() as connection:
        return list(connection.execute(select(approvals).order_by(approvals.c.approval_id)))


def refunds_of(floor: Floor, guest: Guest) -> list[Any]:
    return [row for row in floor.transactions(guest) if row.type == "Refund"]


def _envelope(till: Till) -> dict[str, Any]:
    till.entry += 1
    return {
        "device_id": till.device_id,
        "key": secrets.token_urlsafe(16),
        "journal": till.position(),
        "sent_at_ms": till.now_ms(),
    }
