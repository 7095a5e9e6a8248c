"""Ends orders that nobody pays: first the provider lets go, then Credits and tickets come back."""

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from sqlalchemy import Row, select, update

from cloud.operations.cards.card_events import take_provider_event, told_by_look_up
from cloud.operations.cards.card_payments import PaymentState, open_card_page
from cloud.operations.once import claim, digest_of
from cloud.operations.orders.order_deeds import carry_out, lock_order
from cloud.operations.orders.order_refusals import UNKNOWN_ORDER, explain_impossible
from cloud.operations.orders.settle_order import ACTOR, settle
from cloud.operations.people.sign_in_attendee import Attendee
from cloud.operations.refusals import Code, Refusal
from cloud.payments.provider import CardProvider, ProviderUnreachableError
from cloud.store.database import Database
from cloud.store.tables import orders, payments
from cloud.tickets.life import Deed, Happening, Impossible, OrderState, step
from protocol.ids import IdempotencyKey

AT_ONCE_MAX: Final = 20
ASK_AGAIN_AFTER: Final = timedelta(seconds=30)

_log = structlog.stdlib.get_logger("cloud.orders")


def close_expired_orders(database: Database, provider: CardProvider, now: datetime) -> int:
    """End what is due: paid after all, or closed. How many ended; the others are tried later.

    Whatever line this program ends at, another run goes on from there.

    Raises:
        ProviderUnreachableError: the others are as far away; this one is tried again later.
    """
    with database.reading() as connection:
        due = connection.execute(
            select(orders.c.order_id)
            .where(orders.c.expires_at <= now)
            .order_by(orders.c.expires_at)
            .limit(AT_ONCE_MAX)
        ).scalars()
        order_ids = due.all()
    return sum(_close_order(database, provider, order_id, now) for order_id in order_ids)


def cancel_order(
    database: Database,
    provider: CardProvider | None,
    attendee: Attendee,
    order_id: UUID,
    *,
    key: IdempotencyKey,
    now: datetime,
) -> Refusal | None:
    """The attendee lets go of an order that is not paid; doing so twice changes nothing.

    None: it is closed, or closing where the provider does not answer; or it was paid just before
    the provider let go, and the tickets are theirs.
    """
    actor = f"user:{attendee.user_id}"
    with database.transaction() as connection:
        known = claim(
            connection,
            actor,
            key,
            operation="cancel_order",
            digest=digest_of(str(order_id)),
            now=now,
        )
        if isinstance(known, Refusal):
            return known
        locked = lock_order(connection, order_id)
        if locked is None or locked.order.user_id != attendee.row_id:
            return UNKNOWN_ORDER
        taken = step(locked.state, Happening.CANCEL_ASKED)
        if isinstance(taken, Impossible):
            return explain_impossible(taken)
        carry_out(connection, locked, taken, actor=actor, now=now, reason="cancelled")
    if provider is not None and Deed.EXPIRE_CHECKOUT in taken.deeds:
        # Where it does not answer, the courier asks again.
        with suppress(ProviderUnreachableError):
            _close_order(database, provider, order_id, now)
    return None


def _close_order(database: Database, provider: CardProvider, order_id: UUID, now: datetime) -> bool:
    """Whether it has ended."""
    payment = _begin(database, order_id, now)
    if payment is None:
        return False
    # No transaction is open while the provider is asked.
    try:
        _let_go(database, provider, payment, now)
    except ProviderUnreachableError:
        _end(database, order_id, now)
        raise
    return _end(database, order_id, now)


def _begin(database: Database, order_id: UUID, now: datetime) -> Row[Any] | None:
    """Say that it is closing, committed before the provider is asked; its payment.

    None: it has ended meanwhile.
    """
    with database.transaction() as connection:
        locked = lock_order(connection, order_id)
        assert locked is not None, "orders are never deleted"
        taken = step(locked.state, Happening.TIME_UP)
        assert not isinstance(taken, Impossible), "time passes for every order"
        if Deed.EXPIRE_CHECKOUT not in taken.deeds:
            return None
        carry_out(connection, locked, taken, actor=ACTOR, now=now, reason="expired")
    return locked.payment


def _let_go(database: Database, provider: CardProvider, payment: Row[Any], now: datetime) -> None:
    """Ask the provider to close its page, and take its answer as if it had told by itself.

    Raises ProviderUnreachableError.
    """
    if payment.provider != provider.name:
        _log.error("order_of_another_provider", payment_id=str(payment.id))
        return
    reference = payment.provider_reference or _learn_reference(database, provider, payment.id, now)
    if reference is None:
        return
    event = told_by_look_up(provider.name, provider.expire_checkout(reference))
    if event is not None:
        take_provider_event(database, event, now)


def _learn_reference(
    database: Database, provider: CardProvider, payment_id: UUID, now: datetime
) -> str | None:
    """Its answer was lost, or it was never asked: asked again, it names the one checkout.

    None: it opens none.
    """
    opened = open_card_page(database, provider, payment_id, now)
    if isinstance(opened, Refusal) and opened.code is Code.PROVIDER_UNREACHABLE:
        raise ProviderUnreachableError
    with database.reading() as connection:
        return connection.execute(
            select(payments.c.provider_reference).where(payments.c.id == payment_id)
        ).scalar_one()


def _end(database: Database, order_id: UUID, now: datetime) -> bool:
    """By what the payment's row says now; where that is nothing certain, later once more."""
    with database.transaction() as connection:
        locked = lock_order(connection, order_id)
        assert locked is not None, "orders are never deleted"
        if locked.state is not OrderState.CLOSING:
            return True
        assert locked.payment is not None, "only a card part keeps an order open"
        match PaymentState(locked.payment.state):
            case PaymentState.SUCCEEDED | PaymentState.REFUNDED:
                settle(connection, locked, Happening.CARD_PAID, now)
            case PaymentState.EXPIRED:
                settle(connection, locked, Happening.CARD_EXPIRED, now)
            case PaymentState.CREATED | PaymentState.PENDING | PaymentState.FAILED:
                connection.execute(
                    update(orders)
                    .where(orders.c.order_id == order_id)
                    .values(expires_at=now + ASK_AGAIN_AFTER)
                )
                return False
    return True
