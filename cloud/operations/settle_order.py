"""What a provider says of an order's card part: tickets issued, Credits back, or the card's money.

A payment that was made stays made, and each order is settled once, in whatever order it is told.
"""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, update

from cloud.operations.card_payments import PaymentState, WebhookOutcome
from cloud.operations.order_deeds import LockedOrder, carry_out, lock_order
from cloud.payments.provider import EventKind, ProviderEvent
from cloud.store.tables import payments
from cloud.tickets.life import Deed, Happening, Impossible, step

ACTOR: Final = "system:orders"


def settle_order_payment(
    connection: Connection, payment_row: Row[Any], event: ProviderEvent, now: datetime
) -> WebhookOutcome:
    """The payment and its order after this word of the provider's, whose amount was compared.

    Whoever calls has locked the order, and then the payment: `payment_row`, as it was before.
    """
    locked = lock_order(connection, payment_row.order_id)
    assert locked is not None, "a payment of an order has one"
    state = PaymentState(payment_row.state)
    if state in {PaymentState.SUCCEEDED, PaymentState.REFUNDED}:
        return WebhookOutcome.KNOWN_ALREADY
    match event.kind:
        case EventKind.PAID:
            _write_payment(connection, locked, now, state=PaymentState.SUCCEEDED, poll_at=None)
            return settle(connection, locked, Happening.CARD_PAID, now)
        case EventKind.EXPIRED:
            _write_payment(connection, locked, now, state=PaymentState.EXPIRED, poll_at=None)
            return settle(connection, locked, Happening.CARD_EXPIRED, now, reason="expired")
        case EventKind.FAILED:
            if state is not PaymentState.EXPIRED:
                _write_payment(connection, locked, now, state=PaymentState.FAILED)
            return settle(connection, locked, Happening.CARD_DECLINED, now)
        case (
            EventKind.REFUND_DONE
            | EventKind.REFUND_FAILED
            | EventKind.DISPUTED
            | EventKind.DISPUTE_WON
        ):
            # About money that came: an order does not move by these.
            return WebhookOutcome.NOTED


def settle(
    connection: Connection,
    locked: LockedOrder,
    happening: Happening,
    now: datetime,
    *,
    reason: str | None = None,
) -> WebhookOutcome:
    """The order after what happened to its card part; its payment's row says so already."""
    taken = step(locked.state, happening)
    assert not isinstance(taken, Impossible), "the table has an answer to every word of a provider"
    carry_out(connection, locked, taken, actor=ACTOR, now=now, reason=reason)
    return WebhookOutcome.CREDITED if Deed.ISSUE_TICKETS in taken.deeds else WebhookOutcome.NOTED


def close_unopened(connection: Connection, order_id: UUID, now: datetime) -> None:
    """The provider refused to open a card page: nobody can have paid, nothing is waited for."""
    locked = lock_order(connection, order_id)
    assert locked is not None, "orders are never deleted"
    settle(connection, locked, Happening.CARD_EXPIRED, now, reason="card_refused")


def _write_payment(
    connection: Connection, locked: LockedOrder, now: datetime, **values: Any
) -> None:
    connection.execute(
        update(payments)
        .where(payments.c.id == locked.order.payment_id)
        .values(updated_at=now, **values)
    )
