"""Money back to cards: a row first, then the provider, keyed by the row; each ends once."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, func, insert, select
from uuid_utils.compat import uuid7

from cloud.store.tables import card_refunds
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


def refundable_in_cents(connection: Connection, payment: Row[Any]) -> int:
    """What of a payment may still be asked back; its row is locked.

    What went back, what is on its way, and what a bank took back are no longer there.
    """
    on_its_way = connection.execute(
        select(func.coalesce(func.sum(card_refunds.c.amount_in_cents), 0)).where(
            card_refunds.c.payment_id == payment.id,
            card_refunds.c.state.in_((CardRefundState.ASKED, CardRefundState.PENDING)),
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
