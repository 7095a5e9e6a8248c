"""Does what an order's step says with tickets, stock, Credits and card, under their locks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, case, func, select, update
from uuid_utils.compat import uuid7

from cloud.ledger.postings import Direction, Posting, TransactionType, post
from cloud.operations.cards.card_postings import put_back
from cloud.operations.cards.card_refunds import RefundReason, ask_card_refund, refundable_in_cents
from cloud.store.letters import Letter, LetterLine, OrderClosed, OrderPaid, post_letter
from cloud.store.locks import lock_wallets
from cloud.store.postings import write_postings
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.tables import (
    credit_transactions,
    events,
    order_lines,
    orders,
    payments,
    ticket_types,
    tickets,
    users,
)
from cloud.tickets.life import Deed, OrderState, OrderStep
from protocol.ids import CorrelationId, EventId, IdempotencyKey, TransactionId, UserId
from protocol.money import Money


@dataclass(frozen=True, slots=True)
class LockedOrder:
    """An order and the payment of its card part, held until the commit."""

    order: Row[Any]
    payment: Row[Any] | None

    @property
    def state(self) -> OrderState:
        return OrderState(self.order.state)


@dataclass(frozen=True, slots=True)
class GivenBack:
    credits_part: Money
    card_part: Money


def lock_order(connection: Connection, order_id: UUID) -> LockedOrder | None:
    """The order, then its payment: whoever locks both does it in this order."""
    order = connection.execute(
        select(orders).where(orders.c.order_id == order_id).with_for_update()
    ).one_or_none()
    if order is None:
        return None
    payment = None
    if order.payment_id is not None:
        payment = connection.execute(
            select(payments).where(payments.c.id == order.payment_id).with_for_update()
        ).one()
    return LockedOrder(order, payment)


def lock_ticket_types(
    connection: Connection, event_id: str, names: Iterable[str]
) -> Sequence[Row[Any]]:
    """These kinds of tickets, in their one order: after orders and payments, before wallets."""
    return connection.execute(
        select(ticket_types)
        .where(ticket_types.c.event_id == event_id, ticket_types.c.ticket_type_id.in_(list(names)))
        .order_by(ticket_types.c.ticket_type_id)
        .with_for_update()
    ).all()


def carry_out(
    connection: Connection,
    locked: LockedOrder,
    taken: OrderStep,
    *,
    actor: str,
    now: datetime,
    reason: str | None = None,
) -> GivenBack:
    """The order as the step leaves it, all of its deeds done, the audit record and the letter.

    To ask the provider is not done here: no remote call in a transaction.
    """
    order = locked.order
    if Deed.VOID_TICKETS in taken.deeds:
        connection.execute(
            update(tickets)
            .where(tickets.c.order_id == order.order_id)
            .values(state="void", voided_at=now)
        )
    if Deed.RELEASE_STOCK in taken.deeds:
        _release_stock(connection, order)
    nothing = Money.zero(order.currency)
    credits_back = card_back = nothing
    if Deed.GIVE_CARD_BACK in taken.deeds:
        card_back = _give_card_back(connection, locked, taken.state, now)
    if Deed.GIVE_CREDITS_BACK in taken.deeds:
        credits_back = _undo_corrections(connection, locked, now)
        credits_back += _give_credits_back(connection, order, actor, now)
    given_back = GivenBack(credits_back, card_back)

    if taken.state is not locked.state:
        _move(connection, order, taken.state, now, reason)
    if taken.state is not locked.state or given_back != GivenBack(nothing, nothing):
        _record(connection, locked, taken.state, given_back, actor=actor, now=now, reason=reason)
    if Deed.ISSUE_TICKETS in taken.deeds:
        _issue_tickets(connection, order, now)
    if taken.deeds & {Deed.RELEASE_STOCK, Deed.GIVE_CARD_BACK}:
        _tell_given_back(connection, order, given_back, now)
    return given_back


def _issue_tickets(connection: Connection, order: Row[Any], now: datetime) -> None:
    """They were signed with the order, and held: from now on they let people in."""
    connection.execute(
        update(tickets)
        .where(tickets.c.order_id == order.order_id)
        .values(state="valid", issued_at=now)
    )
    lines = connection.execute(
        select(order_lines)
        .where(order_lines.c.order_id == order.order_id)
        .order_by(order_lines.c.ticket_type_id)
    )
    codes = connection.execute(
        select(tickets.c.code)
        .where(tickets.c.order_id == order.order_id)
        .order_by(tickets.c.ticket_type_id, tickets.c.ticket_id)
    ).scalars()
    event = _event_of(connection, order)
    letter = OrderPaid(
        locale=event.locale,
        timezone=event.timezone,
        at_ms=round(now.timestamp() * 1000),
        event_name=event.name,
        order_id=str(order.order_id),
        lines=tuple(
            LetterLine(line.name, line.quantity, line.unit_price_in_cents) for line in lines
        ),
        total=Money(order.total_in_cents, order.currency),
        credits_part=Money(order.credits_in_cents, order.currency),
        card_part=Money(order.card_in_cents, order.currency),
        ticket_codes=tuple(codes),
    )
    _post_letter(connection, order, letter, now)


def _release_stock(connection: Connection, order: Row[Any]) -> None:
    lines = connection.execute(
        select(order_lines).where(order_lines.c.order_id == order.order_id)
    ).all()
    lock_ticket_types(connection, order.event_id, [line.ticket_type_id for line in lines])
    for line in lines:
        connection.execute(
            update(ticket_types)
            .where(
                ticket_types.c.event_id == order.event_id,
                ticket_types.c.ticket_type_id == line.ticket_type_id,
            )
            .values(taken=ticket_types.c.taken - line.quantity)
        )


def _give_credits_back(connection: Connection, order: Row[Any], actor: str, now: datetime) -> Money:
    """A `Refund` that names the order's `Deduct`, of what is left of it."""
    nothing = Money.zero(order.currency)
    if order.transaction_id is None:
        return nothing
    wallet_key = (UserId(str(order.user_id)), order.currency)
    before = lock_wallets(connection, [wallet_key])
    # Read under the wallet's lock: reversals never exceed what was taken.
    reversed_in_cents = connection.execute(
        select(func.coalesce(func.sum(credit_transactions.c.amount_in_cents), 0)).where(
            credit_transactions.c.user_id == order.user_id,
            credit_transactions.c.reversal_of_transaction_id == order.transaction_id,
        )
    ).scalar_one()
    left = Money(order.credits_in_cents - int(reversed_in_cents), order.currency)
    if left <= nothing:
        return nothing
    posting = Posting(
        id=TransactionId(str(uuid7())),
        user_id=wallet_key[0],
        type=TransactionType.REFUND,
        direction=Direction.IN,
        amount=left,
        reference=str(order.order_id),
        idempotency_key=IdempotencyKey(order.idempotency_key),
        correlation_id=CorrelationId(order.correlation_id),
        created_at=now,
        created_by=actor,
        reversal_of=TransactionId(str(order.transaction_id)),
        event_id=EventId(order.event_id),
        order_id=str(order.order_id),
    )
    after = {wallet_key: post(before[wallet_key], posting)}
    write_postings(connection, [posting], before, after, now)
    connection.execute(
        update(orders)
        .where(orders.c.order_id == order.order_id)
        .values(reversal_transaction_id=UUID(posting.id))
    )
    return left


def _undo_corrections(connection: Connection, locked: LockedOrder, now: datetime) -> Money:
    """What the wallet owes for tickets whose card part its bank, or the provider, took back: with
    the tickets goes the debt."""
    order, payment = locked.order, locked.payment
    signed = case(
        (
            credit_transactions.c.direction == Direction.OUT.value,
            credit_transactions.c.amount_in_cents,
        ),
        else_=-credit_transactions.c.amount_in_cents,
    )
    owed_in_cents = connection.execute(
        select(func.coalesce(func.sum(signed), 0)).where(
            credit_transactions.c.user_id == order.user_id,
            credit_transactions.c.type == TransactionType.ADJUSTMENT.value,
            credit_transactions.c.order_id == order.order_id,
        )
    ).scalar_one()
    owed = Money(max(0, int(owed_in_cents)), order.currency)
    if payment is not None and owed.amount_in_cents > 0:
        put_back(connection, payment, owed, str(order.order_id), now)
    return owed


def _give_card_back(
    connection: Connection, locked: LockedOrder, state: OrderState, now: datetime
) -> Money:
    """What of the card part is still there: somebody may have given some back at the provider."""
    order, payment = locked.order, locked.payment
    if payment is None:
        return Money.zero(order.currency)
    amount = Money(refundable_in_cents(connection, payment), order.currency)
    if amount.amount_in_cents > 0:
        ask_card_refund(
            connection,
            payment=payment,
            amount=amount,
            reason=_REFUND_REASON[state],
            now=now,
            order_id=order.order_id,
        )
    return amount


def _move(
    connection: Connection,
    order: Row[Any],
    state: OrderState,
    now: datetime,
    reason: str | None,
) -> None:
    values: dict[str, Any] = {"state": state.value}
    match state:
        case OrderState.PAID:
            values |= {"paid_at": now, "expires_at": None, "close_reason": None}
        case OrderState.CLOSING:
            # Due at once: should this program end here, another goes on.
            values |= {"expires_at": now, "close_reason": reason}
        case OrderState.CLOSED | OrderState.CANCELLED:
            values |= {
                "closed_at": now,
                "expires_at": None,
                "close_reason": order.close_reason or reason,
            }
        case OrderState.OPEN:
            raise AssertionError("no order opens again")
    connection.execute(update(orders).where(orders.c.order_id == order.order_id).values(**values))


def _record(
    connection: Connection,
    locked: LockedOrder,
    state: OrderState,
    given_back: GivenBack,
    *,
    actor: str,
    now: datetime,
    reason: str | None,
) -> None:
    order = locked.order
    moved = state is not locked.state
    detail = {
        "credits_back_in_cents": given_back.credits_part.amount_in_cents,
        "card_back_in_cents": given_back.card_part.amount_in_cents,
    }
    write_audit_records(
        connection,
        [
            AuditRow(
                at=now,
                actor=actor,
                action=f"order_{state.value}" if moved else "order_card_given_back",
                outcome="done",
                event_id=order.event_id,
                user_id=str(order.user_id),
                subject=str(order.order_id),
                detail=detail if reason is None else detail | {"reason": reason},
            )
        ],
    )


def _tell_given_back(
    connection: Connection, order: Row[Any], given_back: GivenBack, now: datetime
) -> None:
    event = _event_of(connection, order)
    letter = OrderClosed(
        locale=event.locale,
        timezone=event.timezone,
        at_ms=round(now.timestamp() * 1000),
        event_name=event.name,
        order_id=str(order.order_id),
        credits_back=given_back.credits_part,
        card_back=given_back.card_part,
    )
    _post_letter(connection, order, letter, now)


def _event_of(connection: Connection, order: Row[Any]) -> Row[Any]:
    return connection.execute(select(events).where(events.c.event_id == order.event_id)).one()


def _post_letter(connection: Connection, order: Row[Any], letter: Letter, now: datetime) -> None:
    """To the attendee, where an address of theirs is known."""
    address = connection.execute(
        select(users.c.email).where(users.c.user_id == order.user_id)
    ).scalar_one()
    if address is not None:
        post_letter(connection, address, letter, now)


_REFUND_REASON: Final = {
    OrderState.CLOSED: RefundReason.CLOSED_ORDER,
    OrderState.CANCELLED: RefundReason.CANCELLED_ORDER,
}
