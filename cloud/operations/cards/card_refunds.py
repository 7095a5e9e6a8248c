"""Money back to cards: a row first, which the provider is then asked for under its id."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, func, insert, or_, select, update
from uuid_utils.compat import uuid7

from cloud.operations.cards.card_payments import PaymentState
from cloud.store.tables import card_refunds, payments
from protocol.money import Money


class RefundReason(StrEnum):
    CASH_OUT = "cash_out"
    CLOSED_ORDER = "closed_order"
    CANCELLED_ORDER = "cancelled_order"
    DASHBOARD = "dashboard"
    """Not asked by us: somebody made it at the provider."""


class CardRefundState(StrEnum):
    ASKED = "asked"
    """The row stands; what the provider made of it is not known."""
    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"
    """For good: the money is with the provider."""


UNDER_WAY: Final = (CardRefundState.ASKED, CardRefundState.PENDING)


def refundable_in_cents(connection: Connection, payment: Row[Any]) -> int:
    """What of a payment may still be asked back; its row is locked.

    What went back, what is on its way, and what a bank took back are no longer there.
    """
    on_its_way = connection.execute(
        select(func.coalesce(func.sum(card_refunds.c.amount_in_cents), 0)).where(
            card_refunds.c.payment_id == payment.id,
            card_refunds.c.state.in_(UNDER_WAY),
        )
    ).scalar_one()
    gone = payment.refunded_in_cents + payment.disputed_in_cents + int(on_its_way)
    return max(0, payment.amount_in_cents - gone)


def ask_card_refund(
    connection: Connection,
    *,
    payment: Row[Any],
    amount: Money,
    reason: RefundReason,
    now: datetime,
    cash_out_id: UUID | None = None,
    order_id: UUID | None = None,
) -> UUID:
    """Write down that this goes back to the card; `make_card_refunds` sees to it.

    The payment's row is locked, and `amount` is within `refundable_in_cents`.
    """
    assert amount.currency == payment.currency, "back in the currency it was paid in"
    assert 0 < amount.amount_in_cents <= refundable_in_cents(connection, payment), "more than paid"
    refund_id = uuid7()
    connection.execute(
        insert(card_refunds).values(
            refund_id=refund_id,
            payment_id=payment.id,
            cash_out_id=cash_out_id,
            order_id=order_id,
            amount_in_cents=amount.amount_in_cents,
            currency=amount.currency,
            reason=reason,
            state=CardRefundState.ASKED,
            next_try_at=now,
            created_at=now,
            updated_at=now,
        )
    )
    return refund_id


def find_card_refund(
    connection: Connection, payment: Row[Any], refund_id: str | None, about: str | None
) -> Row[Any] | None:
    """A refund of this payment by our name for it, or by the provider's.

    None: not one of ours, and not heard of. The payment's row is locked, and with it its refunds'.
    """
    named = [card_refunds.c.provider_reference == about]
    ours = None if refund_id is None else _uuid(refund_id)
    if ours is not None:
        named.append(card_refunds.c.refund_id == ours)
    return connection.execute(
        select(card_refunds).where(card_refunds.c.payment_id == payment.id, or_(*named))
    ).one_or_none()


def count_refunded(
    connection: Connection, payment: Row[Any], amount_in_cents: int, now: datetime
) -> None:
    """This much more of the payment is back on the card; its row is locked."""
    refunded = payment.refunded_in_cents + amount_in_cents
    is_all = refunded == payment.amount_in_cents
    connection.execute(
        update(payments)
        .where(payments.c.id == payment.id)
        .values(
            refunded_in_cents=refunded,
            state=PaymentState.REFUNDED if is_all else PaymentState.SUCCEEDED,
            updated_at=now,
        )
    )


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
