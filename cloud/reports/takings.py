"""What an event's ledger rows add up to, asked of the database in groups: never row by row."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Row,
    Select,
    Subquery,
    and_,
    case,
    cast,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.functions import coalesce

from cloud.ledger.postings import Direction, TransactionType
from cloud.store.tables import credit_transactions, order_lines, orders
from protocol.ids import EventId

QUARTER_S: Final = 900
"""Every time zone in use is a whole number of quarter hours away from UTC."""

AnyRow = Row[*tuple[Any, ...]]
Rows = Sequence[AnyRow]
_OF: Final = credit_transactions.c


def totals(connection: Connection, event_id: EventId) -> Rows:
    """A row a currency: `currency`, `rows`, `signed_in_cents`, with no further distinction."""
    signed = case(
        (_OF.direction == Direction.IN.value, _OF.amount_in_cents), else_=-_OF.amount_in_cents
    )
    return connection.execute(
        select(_OF.currency, func.count().label("rows"), _sum(signed).label("signed_in_cents"))
        .where(_OF.event_id == event_id)
        .group_by(_OF.currency)
    ).all()


def by_place_and_quarter(connection: Connection, event_id: EventId) -> Rows:
    """`stall_id`, `of_order`, `type`, `direction`, `currency`, `offline`, `quarter`, `rows`,
    `in_cents`.

    `quarter`: whole quarter hours since 1970 until the goods changed hands, which for an offline
    sale is when the till accepted it.
    """
    columns = (
        _OF.stall_id.label("stall_id"),
        _OF.order_id.is_not(None).label("of_order"),
        _OF.type.label("type"),
        _OF.direction.label("direction"),
        _OF.currency.label("currency"),
        _OF.accepted_offline_at.is_not(None).label("offline"),
        _quarter(connection, coalesce(_OF.accepted_offline_at, _OF.created_at)).label("quarter"),
    )
    grouped = select(*columns, _OF.amount_in_cents).where(_OF.event_id == event_id).subquery()
    names = [grouped.c[column.name] for column in columns]
    return connection.execute(
        select(
            *names, func.count().label("rows"), _sum(grouped.c.amount_in_cents).label("in_cents")
        ).group_by(*names)
    ).all()


def products_sold(connection: Connection, event_id: EventId, currency: str) -> Rows:
    """`stall_id`, `product`, `unit_price_in_cents`, `quantity`."""
    sales = _sales(event_id, currency).subquery()
    return _by_product(connection, sales)


def products_given_back(connection: Connection, event_id: EventId, currency: str) -> Rows:
    """The same of sales that were given back in whole, at the stall where they were made."""
    return _by_product(connection, _given_back(event_id, currency))


def keyed_sold(connection: Connection, event_id: EventId, currency: str) -> Rows:
    """Sales of an amount that staff keyed in: `stall_id`, `rows`, `in_cents`."""
    return _keyed(connection, _sales(event_id, currency).subquery())


def keyed_given_back(connection: Connection, event_id: EventId, currency: str) -> Rows:
    """The same of those that were given back in whole."""
    return _keyed(connection, _given_back(event_id, currency))


def ticket_orders(connection: Connection, event_id: EventId) -> AnyRow:
    """Of all paid orders: `orders`, `card_in_cents`, `tickets`."""
    is_paid = and_(orders.c.event_id == event_id, orders.c.state == "paid")
    tickets = (
        select(coalesce(_sum(order_lines.c.quantity), 0))
        .select_from(order_lines.join(orders, orders.c.order_id == order_lines.c.order_id))
        .where(is_paid)
        .scalar_subquery()
    )
    return connection.execute(
        select(
            func.count().label("orders"),
            coalesce(_sum(orders.c.card_in_cents), 0).label("card_in_cents"),
            tickets.label("tickets"),
        ).where(is_paid)
    ).one()


def _sales(event_id: EventId, currency: str) -> Select[*tuple[Any, ...]]:
    return select(_OF.stall_id, _OF.amount_in_cents, _OF.lines).where(
        _OF.event_id == event_id,
        _OF.currency == currency,
        _OF.stall_id.is_not(None),
        _OF.type == TransactionType.DEDUCT.value,
    )


def _given_back(event_id: EventId, currency: str) -> Subquery:
    """A partial refund says nothing of what it was for; one in whole gives all lines back."""
    back = (
        select(
            _OF.user_id,
            _OF.reversal_of_transaction_id.label("sale_id"),
            _OF.stall_id,
            _sum(_OF.amount_in_cents).label("in_cents"),
        )
        .where(
            _OF.event_id == event_id,
            _OF.currency == currency,
            _OF.stall_id.is_not(None),
            _OF.type == TransactionType.REFUND.value,
            _OF.reversal_of_transaction_id.is_not(None),
        )
        .group_by(_OF.user_id, _OF.reversal_of_transaction_id, _OF.stall_id)
        .subquery()
    )
    return (
        _sales(event_id, currency)
        .join_from(
            back,
            credit_transactions,
            and_(
                _OF.user_id == back.c.user_id,
                _OF.id == back.c.sale_id,
                _OF.stall_id == back.c.stall_id,
                _OF.amount_in_cents == back.c.in_cents,
            ),
        )
        .subquery()
    )


def _by_product(connection: Connection, sales: Subquery) -> Rows:
    if connection.dialect.name == "postgresql":
        line = func.jsonb_array_elements(sales.c.lines, type_=JSONB).table_valued(
            "value", joins_implicitly=True
        )

        def member(name: str) -> ColumnElement[int]:
            return cast(func.jsonb_extract_path_text(line.c.value, name), Integer)
    else:
        line = func.json_each(sales.c.lines).table_valued("value", joins_implicitly=True)

        def member(name: str) -> ColumnElement[int]:
            return func.json_extract(line.c.value, f"$.{name}", type_=Integer)

    each = select(
        sales.c.stall_id,
        member("product").label("product"),
        member("unit_price_in_cents").label("unit_price_in_cents"),
        member("quantity").label("quantity"),
    ).subquery()
    names = (each.c.stall_id, each.c.product, each.c.unit_price_in_cents)
    return connection.execute(
        select(*names, _sum(each.c.quantity).label("quantity")).group_by(*names).order_by(*names)
    ).all()


def _keyed(connection: Connection, sales: Subquery) -> Rows:
    return connection.execute(
        select(
            sales.c.stall_id,
            func.count().label("rows"),
            _sum(sales.c.amount_in_cents).label("in_cents"),
        )
        .where(sales.c.lines.is_(None))
        .group_by(sales.c.stall_id)
    ).all()


def _quarter(connection: Connection, moment: ColumnElement[Any]) -> ColumnElement[int]:
    if connection.dialect.name == "postgresql":
        return cast(func.floor(func.extract("epoch", moment) / QUARTER_S), BigInteger)
    # SQLite keeps UTC as text, and divides whole numbers into whole numbers.
    return cast(func.strftime("%s", moment), Integer).op("/")(QUARTER_S)


def _sum(column: ColumnElement[Any]) -> ColumnElement[int]:
    # PostgreSQL adds bigint up as numeric.
    return cast(func.sum(column), BigInteger)
