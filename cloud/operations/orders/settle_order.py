"""What a provider says of an order's card part: tickets, Credits back, or the card's money."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row

from cloud.operations.orders.order_deeds import LockedOrder, carry_out, lock_order
from cloud.payments.provider import EventKind, ProviderEvent
from cloud.tickets.life import Happening, Impossible, step

ACTOR: Final = "system:orders"


def settle_order_payment(
    connection: Connection, payment_row: Row[Any], event: ProviderEvent, now: datetime
) -> None:
    """The order after this word of the provider's, told for the first time.

    Whoever calls has locked the order and then the payment, compared the amount, and written down
    what became of the payment, in this same transaction.
    """
    locked = lock_order(connection, payment_row.order_id)
    assert locked is not None, "a payment of an order has one"
    match event.kind:
        case EventKind.PAID:
            settle(connection, locked, Happening.CARD_PAID, now)
        case EventKind.EXPIRED:
            settle(connection, locked, Happening.CARD_EXPIRED, now, reason="expired")
        case EventKind.FAILED:
            settle(connection, locked, Happening.CARD_DECLINED, now)
        case (
            EventKind.REFUND_DONE
            | EventKind.REFUND_FAILED
            | EventKind.DISPUTED
            | EventKind.DISPUTE_WON
        ):
            raise AssertionError("about money that came: an order does not move by these")


def settle(
    connection: Connection,
    locked: LockedOrder,
    happening: Happening,
    now: datetime,
    *,
    reason: str | None = None,
) -> None:
    """The order after what happened to its card part; its payment's row says so already."""
    taken = step(locked.state, happening)
    assert not isinstance(taken, Impossible), "the table has an answer to every word of a provider"
    carry_out(connection, locked, taken, actor=ACTOR, now=now, reason=reason)


def close_unopened(connection: Connection, order_id: UUID, now: datetime) -> None:
    """The provider refused to open a card page: nobody can have paid, nothing is waited for."""
    locked = lock_order(connection, order_id)
    assert locked is not None, "orders are never deleted"
    settle(connection, locked, Happening.CARD_EXPIRED, now, reason="card_refused")
