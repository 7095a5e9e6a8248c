"""Buying Credits: how much is allowed, the payment's row, then its card page."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, Select, func, or_, select

from cloud.operations.cards.card_payments import (
    PAGE_VALID,
    Payment,
    Purpose,
    enter_payment,
    open_card_page,
    payment_of,
)
from cloud.operations.people.sign_in_attendee import Attendee
from cloud.operations.refusals import Code, Refusal
from cloud.payments.provider import CardProvider
from cloud.store.database import Database
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.tables import events, payments
from protocol.ids import EventId, IdempotencyKey
from protocol.money import Money, format_cents


def start_top_up(
    database: Database,
    provider: CardProvider,
    attendee: Attendee,
    amount: Money,
    *,
    event_id: EventId | None,
    key: IdempotencyKey,
    return_url: str,
    now: datetime,
) -> Payment | Refusal:
    """A card page for this amount. The same key again: the same page, or a refusal where the
    content differs.

    `event_id`: whose limits count; None: the widest of the open events in that currency.
    `return_url` gets `?topup=ID` appended.
    """
    with database.transaction() as connection:
        stands = _find_by_key(connection, attendee, key)
        if stands is None:
            refusal = _refuse_amount(connection, amount, event_id, now)
            if refusal is not None:
                return refusal
            stands = enter_payment(
                connection,
                provider=provider.name,
                user_id=attendee.row_id,
                amount=amount,
                purpose=Purpose.TOP_UP,
                event_id=event_id,
                return_url=f"{return_url}?topup=",
                key=key,
                now=now,
                expires_at=now + PAGE_VALID,
            )
            _record(connection, attendee, stands, amount, now)
    if not _is_same(stands, amount, event_id):
        return Refusal(
            Code.KEY_REUSED,
            "This Idempotency-Key belongs to another payment.",
            "Use a new key for another top-up.",
        )
    # No transaction is open while the provider is asked.
    return open_card_page(database, provider, stands.id, now)


def find_payment(database: Database, attendee: Attendee, payment_id: str) -> Payment | Refusal:
    """The attendee's own top-up; anybody else's is as unknown as none."""
    try:
        wanted = UUID(payment_id)
    except ValueError:
        return _UNKNOWN
    with database.reading() as connection:
        row = connection.execute(_own(attendee).where(payments.c.id == wanted)).one_or_none()
    return _UNKNOWN if row is None else payment_of(row)


def list_payments(
    database: Database, attendee: Attendee, *, before: UUID | None, limit: int
) -> list[Payment]:
    """The attendee's own top-ups, newest first; those older than `before`."""
    # UUIDv7: by id is by time.
    wanted = _own(attendee).order_by(payments.c.id.desc()).limit(limit)
    if before is not None:
        wanted = wanted.where(payments.c.id < before)
    with database.reading() as connection:
        return [payment_of(row) for row in connection.execute(wanted)]


def _own(attendee: Attendee) -> Select[Any]:
    return select(payments).where(
        payments.c.user_id == attendee.row_id, payments.c.purpose == Purpose.TOP_UP
    )


def _find_by_key(
    connection: Connection, attendee: Attendee, key: IdempotencyKey
) -> Row[Any] | None:
    return connection.execute(
        select(payments).where(
            payments.c.user_id == attendee.row_id, payments.c.idempotency_key == key
        )
    ).one_or_none()


def _is_same(stands: Row[Any], amount: Money, event_id: EventId | None) -> bool:
    return (
        stands.purpose == Purpose.TOP_UP
        and Money(stands.amount_in_cents, stands.currency) == amount
        and stands.event_id == event_id
    )


def _refuse_amount(
    connection: Connection, amount: Money, event_id: EventId | None, now: datetime
) -> Refusal | None:
    if event_id is not None:
        refusal = _refuse_event(connection, amount, event_id, now)
        if refusal is not None:
            return refusal
    limits = select(
        func.min(events.c.top_up_min_in_cents).label("low"),
        func.max(events.c.top_up_max_in_cents).label("high"),
    ).where(
        events.c.currency == amount.currency,
        or_(events.c.ends_at.is_(None), events.c.ends_at > now),
    )
    if event_id is not None:
        limits = limits.where(events.c.event_id == event_id)
    found = connection.execute(limits).one()
    if found.low is None:
        return Refusal(
            Code.CURRENCY_NOT_SOLD,
            f"No open event sells in {amount.currency}.",
            "Use a currency of the events in GET /v1/wallet.",
        )
    if not found.low <= amount.amount_in_cents <= found.high:
        return Refusal(
            Code.AMOUNT_OUT_OF_RANGE,
            f"A top-up is {format_cents(found.low)} to {format_cents(found.high)}.",
            "Choose an amount in between.",
        )
    return None


def _refuse_event(
    connection: Connection, amount: Money, event_id: EventId, now: datetime
) -> Refusal | None:
    event = connection.execute(
        select(events.c.currency, events.c.ends_at).where(events.c.event_id == event_id)
    ).one_or_none()
    next_step = "Choose one of the events in GET /v1/wallet."
    if event is None:
        return Refusal(Code.EVENT_UNKNOWN, "There is no such event.", next_step)
    if event.ends_at is not None and event.ends_at <= now:
        return Refusal(Code.EVENT_CLOSED, "The event is over.", next_step)
    if event.currency != amount.currency:
        return Refusal(
            Code.CURRENCY_NOT_SOLD,
            f"The event sells in {event.currency}.",
            "Top up in the event's currency.",
        )
    return None


def _record(
    connection: Connection, attendee: Attendee, payment: Row[Any], amount: Money, now: datetime
) -> None:
    row = AuditRow(
        at=now,
        actor=f"user:{attendee.user_id}",
        action="top_up_asked",
        outcome="done",
        event_id=payment.event_id,
        user_id=attendee.user_id,
        subject=str(payment.id),
        detail={"amount": str(amount)},
    )
    write_audit_records(connection, [row])


_UNKNOWN: Final = Refusal(
    Code.PAYMENT_UNKNOWN,
    "There is no such payment.",
    "Look at GET /v1/topups.",
)
