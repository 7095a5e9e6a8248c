"""What an attendee sees of their own orders: what was ordered, what became of it, the tickets."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, func, select

from cloud.operations.orders.order_refusals import UNKNOWN_ORDER
from cloud.operations.people.sign_in_attendee import Attendee
from cloud.operations.refusals import Refusal
from cloud.store.database import Database
from cloud.store.tables import (
    credit_transactions,
    events,
    order_lines,
    orders,
    payments,
    tickets,
)
from cloud.tickets.life import OrderState
from cloud.tickets.ordering import Line
from protocol.encoding import from_base64url, to_base64url
from protocol.money import Money


@dataclass(frozen=True, slots=True)
class Ticket:
    ticket_id: UUID
    ticket_type_id: str
    state: str
    code: str | None
    """What its QR says, while it lets somebody in."""


@dataclass(frozen=True, slots=True)
class Order:
    order_id: UUID
    event_id: str
    event_name: str
    state: OrderState
    lines: tuple[Line, ...]
    total: Money
    credits_part: Money
    card_part: Money
    credits_back: Money
    close_reason: str | None
    card_page: str | None
    """While it is open: where the card part is paid."""
    created_at: datetime
    expires_at: datetime | None
    paid_at: datetime | None
    closed_at: datetime | None
    tickets: tuple[Ticket, ...] = ()
    """Of one order looked at alone, once it was paid."""


@dataclass(frozen=True, slots=True)
class OrderPage:
    orders: tuple[Order, ...]
    next_cursor: str | None


def find_order(database: Database, attendee: Attendee, order_id: UUID) -> Order | Refusal:
    """The attendee's own; anybody else's is as unknown as none."""
    with database.reading() as connection:
        found = _read(
            connection,
            _ORDERS.where(orders.c.order_id == order_id, orders.c.user_id == attendee.row_id),
        )
        if not found:
            return UNKNOWN_ORDER
        [row] = found
        [order] = _with_lines(connection, [row], {order_id: _read_tickets(connection, row)})
    return order


def list_orders(
    database: Database, attendee: Attendee, limit: int, cursor: str | None
) -> OrderPage | None:
    """Newest first. None: the cursor is none of ours."""
    statement = _ORDERS.where(orders.c.user_id == attendee.row_id)
    if cursor is not None:
        raw = from_base64url(cursor.encode())
        if raw is None or len(raw) != 16:
            return None
        statement = statement.where(orders.c.order_id < UUID(bytes=raw))
    with database.reading() as connection:
        # UUIDv7: by id is by time. One more than asked for says whether more follow.
        rows = _read(connection, statement.order_by(orders.c.order_id.desc()).limit(limit + 1))
        page = rows[:limit]
        found = _with_lines(connection, page, {})
    has_more = len(rows) > limit
    return OrderPage(found, to_base64url(page[-1].order_id.bytes) if has_more else None)


_ORDERS = (
    select(
        orders,
        events.c.name.label("event_name"),
        payments.c.checkout_url,
        func.coalesce(credit_transactions.c.amount_in_cents, 0).label("credits_back_in_cents"),
    )
    .join(events, events.c.event_id == orders.c.event_id)
    .outerjoin(payments, payments.c.id == orders.c.payment_id)
    .outerjoin(
        credit_transactions,
        (credit_transactions.c.user_id == orders.c.user_id)
        & (credit_transactions.c.id == orders.c.reversal_transaction_id),
    )
)


def _read(connection: Connection, statement: Any) -> Sequence[Row[Any]]:
    return connection.execute(statement).all()


def _with_lines(
    connection: Connection, rows: Sequence[Row[Any]], known: dict[UUID, tuple[Ticket, ...]]
) -> tuple[Order, ...]:
    lines: dict[UUID, list[Line]] = {row.order_id: [] for row in rows}
    for line in connection.execute(
        select(order_lines)
        .where(order_lines.c.order_id.in_(list(lines)))
        .order_by(order_lines.c.ticket_type_id)
    ):
        lines[line.order_id].append(
            Line(line.ticket_type_id, line.name, line.quantity, line.unit_price_in_cents)
        )
    return tuple(
        _order(row, tuple(lines[row.order_id]), known.get(row.order_id, ())) for row in rows
    )


def _order(row: Row[Any], lines: tuple[Line, ...], of_order: tuple[Ticket, ...]) -> Order:
    state = OrderState(row.state)
    is_open = state is OrderState.OPEN
    return Order(
        order_id=row.order_id,
        event_id=row.event_id,
        event_name=row.event_name,
        state=state,
        lines=lines,
        total=Money(row.total_in_cents, row.currency),
        credits_part=Money(row.credits_in_cents, row.currency),
        card_part=Money(row.card_in_cents, row.currency),
        credits_back=Money(row.credits_back_in_cents, row.currency),
        close_reason=row.close_reason,
        card_page=row.checkout_url if is_open else None,
        created_at=row.created_at,
        expires_at=row.expires_at if is_open else None,
        paid_at=row.paid_at,
        closed_at=row.closed_at,
        tickets=of_order,
    )


def _read_tickets(connection: Connection, order: Row[Any]) -> tuple[Ticket, ...]:
    """A ticket that is only held has been given to nobody, and is not shown."""
    rows = connection.execute(
        select(tickets)
        .where(tickets.c.order_id == order.order_id, tickets.c.issued_at.is_not(None))
        .order_by(tickets.c.ticket_type_id, tickets.c.ticket_id)
    )
    return tuple(
        Ticket(
            row.ticket_id,
            row.ticket_type_id,
            row.state,
            row.code if row.state == "valid" else None,
        )
        for row in rows
    )
