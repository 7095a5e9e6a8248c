"""What an event owes each stall, to the cent: figures that do not add up to the ledger are none."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from itertools import groupby
from operator import attrgetter
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, select

from cloud.ledger.postings import Direction, TransactionType
from cloud.reports import takings
from cloud.reports.snapshot import snapshot
from cloud.reports.takings import QUARTER_S, AnyRow, Rows
from cloud.store.database import Database
from cloud.store.tables import events, products, stalls
from protocol.ids import EventId, StallId


class DoesNotAddUpError(RuntimeError):
    """Two ways to the same sum differ: what, and by how much. Nobody is to see such figures."""


@dataclass(slots=True)
class Figures:
    """Cents. `refunds_in_cents` holds cancels; `offline_in_cents` is a part of the sales."""

    sales: int = 0
    sales_in_cents: int = 0
    offline_sales: int = 0
    offline_in_cents: int = 0
    refunds: int = 0
    refunds_in_cents: int = 0
    adjustments: int = 0
    adjustments_in_cents: int = 0
    """What people corrected: positive where the stall gets more."""

    @property
    def net_in_cents(self) -> int:
        return self.sales_in_cents - self.refunds_in_cents + self.adjustments_in_cents

    @property
    def rows(self) -> int:
        return self.sales + self.refunds + self.adjustments

    def __add__(self, other: "Figures") -> "Figures":
        names = [each.name for each in fields(self)]
        return Figures(*(getattr(self, name) + getattr(other, name) for name in names))


@dataclass(frozen=True, slots=True)
class ProductFigures:
    """One product at one price. `number` None: amounts that staff keyed in."""

    number: int | None
    name: str | None
    """As the price list has it today."""
    unit_price_in_cents: int | None
    quantity: int
    sales_in_cents: int
    quantity_given_back: int
    given_back_in_cents: int
    """Of sales given back in whole; what partial refunds were for, nobody said."""


@dataclass(frozen=True, slots=True)
class HourFigures:
    begins_at: datetime
    """With the offset that the event's clocks had: in autumn one hour comes twice."""
    figures: Figures


@dataclass(frozen=True, slots=True)
class StallSettlement:
    stall_id: StallId
    name: str
    figures: Figures
    products: tuple[ProductFigures, ...]
    partial_refunds_in_cents: int
    """The part of the refunds that stands with no product."""
    hours: tuple[HourFigures, ...]


@dataclass(frozen=True, slots=True)
class TicketFigures:
    credits: Figures
    """Held for open orders too: they come back where the order is not paid."""
    paid_orders: int
    tickets: int
    card_in_cents: int
    """Paid at the card provider for the rest: never in the ledger."""


@dataclass(frozen=True, slots=True)
class OtherFigures:
    """What the event's transactions of one type moved that belong to no stall and to no order."""

    type: TransactionType
    rows: int
    in_cents: int
    """Out of wallets; negative for what went in."""


@dataclass(frozen=True, slots=True)
class OtherCurrency:
    currency: str
    in_cents: int


@dataclass(frozen=True, slots=True)
class EventSettlement:
    event_id: EventId
    name: str
    currency: str
    locale: str
    timezone: str
    at: datetime
    stalls: tuple[StallSettlement, ...]
    all_stalls: Figures
    tickets: TicketFigures
    others: tuple[OtherFigures, ...]
    ledger_in_cents: int
    """What the event's transactions took out of wallets, all in all: the sum of the above."""
    other_currencies: tuple[OtherCurrency, ...]
    """Transactions of the event in a currency it does not sell in; in no figure above."""


def settle_event(database: Database, event_id: EventId, now: datetime) -> EventSettlement | None:
    """The whole event, as it stands; None: there is no such event. Raises DoesNotAddUpError."""
    with snapshot(database) as connection:
        event = connection.execute(
            select(events).where(events.c.event_id == event_id)
        ).one_or_none()
        if event is None:
            return None
        books = _read(connection, event)
        return _settle(event, books, now)


def stall_of(settlement: EventSettlement, stall_id: StallId) -> StallSettlement | None:
    return next((each for each in settlement.stalls if each.stall_id == stall_id), None)


@dataclass(frozen=True, slots=True)
class _Books:
    totals: Rows
    grouped: Rows
    sold: Rows
    given_back: Rows
    keyed_sold: Rows
    keyed_given_back: Rows
    orders: AnyRow
    stalls: dict[str, str]
    products: dict[tuple[str, int], str]


def _read(connection: Connection, event: AnyRow) -> _Books:
    event_id, currency = EventId(event.event_id), str(event.currency)
    names = connection.execute(
        select(stalls).where(stalls.c.event_id == event_id).order_by(stalls.c.stall_id)
    )
    price_lists = connection.execute(select(products).where(products.c.event_id == event_id))
    return _Books(
        totals=takings.totals(connection, event_id),
        grouped=takings.by_place_and_quarter(connection, event_id),
        sold=takings.products_sold(connection, event_id, currency),
        given_back=takings.products_given_back(connection, event_id, currency),
        keyed_sold=takings.keyed_sold(connection, event_id, currency),
        keyed_given_back=takings.keyed_given_back(connection, event_id, currency),
        orders=takings.ticket_orders(connection, event_id),
        stalls={row.stall_id: row.name for row in names},
        products={(row.stall_id, row.number): row.name for row in price_lists},
    )


def _settle(event: AnyRow, books: _Books, now: datetime) -> EventSettlement:
    ours = [row for row in books.grouped if row.currency == event.currency]
    zone = ZoneInfo(event.timezone)
    # A stall that was taken off the event's list keeps what it sold.
    ids = dict.fromkeys([*books.stalls, *(row.stall_id for row in ours if row.stall_id)])
    settled = tuple(_settle_stall(StallId(each), ours, books, zone) for each in ids)
    all_stalls = sum((each.figures for each in settled), Figures())
    away = [row for row in ours if row.stall_id is None]
    tickets = TicketFigures(
        _fold(row for row in away if row.of_order),
        books.orders.orders,
        books.orders.tickets,
        books.orders.card_in_cents,
    )
    others = tuple(_others(row for row in away if not row.of_order))
    ledger = {row.currency: -row.signed_in_cents for row in books.totals}
    ledger_in_cents = ledger.pop(event.currency, 0)

    at_places = all_stalls + tickets.credits
    net_in_cents = at_places.net_in_cents + sum(each.in_cents for each in others)
    _compare("the event's parts and its ledger", net_in_cents, ledger_in_cents)
    counted = sum(row.rows for row in books.totals if row.currency == event.currency)
    rows = at_places.rows + sum(each.rows for each in others)
    _compare("the rows of the event's parts and of its ledger", rows, counted)
    return EventSettlement(
        event_id=EventId(event.event_id),
        name=event.name,
        currency=event.currency,
        locale=event.locale,
        timezone=event.timezone,
        at=now,
        stalls=settled,
        all_stalls=all_stalls,
        tickets=tickets,
        others=others,
        ledger_in_cents=ledger_in_cents,
        other_currencies=tuple(OtherCurrency(*each) for each in sorted(ledger.items())),
    )


def _settle_stall(
    stall_id: StallId, grouped: Iterable[AnyRow], books: _Books, zone: ZoneInfo
) -> StallSettlement:
    rows = [row for row in grouped if row.stall_id == stall_id]
    figures = _fold(rows)
    listed = tuple(_products(stall_id, books))
    sold_in_cents = sum(each.sales_in_cents for each in listed)
    _compare(f"{stall_id}: its products and its sales", sold_in_cents, figures.sales_in_cents)
    partial_in_cents = figures.refunds_in_cents - sum(each.given_back_in_cents for each in listed)
    if partial_in_cents < 0:
        raise DoesNotAddUpError(f"{stall_id}: more goods than money came back")
    return StallSettlement(
        stall_id,
        books.stalls.get(stall_id, stall_id),
        figures,
        listed,
        partial_in_cents,
        tuple(_by_hour(rows, zone)),
    )


def _products(stall_id: StallId, books: _Books) -> Iterator[ProductFigures]:
    """The price list's products that were sold, then what was keyed in."""
    back = {
        (row.product, row.unit_price_in_cents): row.quantity
        for row in books.given_back
        if row.stall_id == stall_id
    }
    for row in books.sold:
        if row.stall_id == stall_id:
            price = row.unit_price_in_cents
            returned = back.get((row.product, price), 0)
            yield ProductFigures(
                number=row.product,
                name=books.products.get((stall_id, row.product)),
                unit_price_in_cents=price,
                quantity=row.quantity,
                sales_in_cents=row.quantity * price,
                quantity_given_back=returned,
                given_back_in_cents=returned * price,
            )
    sold, sold_in_cents = _of_stall(books.keyed_sold, stall_id)
    returned, returned_in_cents = _of_stall(books.keyed_given_back, stall_id)
    if sold:
        yield ProductFigures(None, None, None, sold, sold_in_cents, returned, returned_in_cents)


def _of_stall(rows: Rows, stall_id: StallId) -> tuple[int, int]:
    found = next((row for row in rows if row.stall_id == stall_id), None)
    return (0, 0) if found is None else (found.rows, found.in_cents)


def _by_hour(rows: Sequence[AnyRow], zone: ZoneInfo) -> Iterator[HourFigures]:
    hours: dict[datetime, list[AnyRow]] = {}
    for row in rows:
        hours.setdefault(_hour_of(row.quarter, zone), []).append(row)
    for begins_at in sorted(hours):
        yield HourFigures(begins_at, _fold(hours[begins_at]))


def _hour_of(quarter: int, zone: ZoneInfo) -> datetime:
    """When the event's clocks last showed a full hour, at the offset they showed it with: without
    that the hour that autumn brings twice would be one of two hours."""
    local = datetime.fromtimestamp(quarter * QUARTER_S, zone)
    offset = local.utcoffset()
    assert offset is not None, "the zone is known"
    return local.replace(minute=0, second=0, tzinfo=timezone(offset))


def _fold(rows: Iterable[AnyRow]) -> Figures:
    figures = Figures()
    for row in rows:
        match TransactionType(row.type):
            case TransactionType.DEDUCT:
                figures.sales += row.rows
                figures.sales_in_cents += row.in_cents
                if row.offline:
                    figures.offline_sales += row.rows
                    figures.offline_in_cents += row.in_cents
            case TransactionType.REFUND:
                figures.refunds += row.rows
                figures.refunds_in_cents += row.in_cents
            case TransactionType.ADJUSTMENT | TransactionType.PURCHASE:
                # Nobody buys Credits at a stall; were it so, the sum would still be right.
                figures.adjustments += row.rows
                figures.adjustments_in_cents += _out_of_wallets(row)
    return figures


def _others(rows: Iterable[AnyRow]) -> Iterator[OtherFigures]:
    by_type = attrgetter("type")
    for name, same in groupby(sorted(rows, key=by_type), by_type):
        members = list(same)
        yield OtherFigures(
            TransactionType(name),
            sum(row.rows for row in members),
            sum(_out_of_wallets(row) for row in members),
        )


def _out_of_wallets(row: AnyRow) -> int:
    return -row.in_cents if row.direction == Direction.IN else row.in_cents


def _compare(what: str, one_in_cents: int, other_in_cents: int) -> None:
    if one_in_cents != other_in_cents:
        raise DoesNotAddUpError(f"{what} differ: {one_in_cents} and {other_in_cents}")
