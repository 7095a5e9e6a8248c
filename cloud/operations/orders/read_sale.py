"""What everybody sees: events that are not over, and the tickets they sell."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, or_, select

from cloud.operations.orders.order_refusals import unknown_event
from cloud.operations.refusals import Refusal
from cloud.store.database import Database
from cloud.store.tables import events, ticket_types
from cloud.tickets.ordering import TicketType
from protocol.encoding import from_base64url, to_base64url
from protocol.ids import EventId, is_slug


@dataclass(frozen=True, slots=True)
class TicketOnSale:
    ticket_type_id: str
    name: str
    price_in_cents: int
    per_order_max: int
    on_sale_from: datetime | None
    on_sale_until: datetime | None
    is_on_sale: bool
    available: int
    """How many may be ordered at once just now; not how many are left."""


@dataclass(frozen=True, slots=True)
class EventOnSale:
    event_id: str
    name: str
    currency: str
    locale: str
    timezone: str
    starts_at: datetime | None
    ends_at: datetime | None
    tickets: tuple[TicketOnSale, ...]


@dataclass(frozen=True, slots=True)
class EventPage:
    events: tuple[EventOnSale, ...]
    next_cursor: str | None


def ticket_type_of(row: Row[Any]) -> TicketType:
    return TicketType(
        row.ticket_type_id,
        row.name,
        row.price_in_cents,
        row.stock,
        row.taken,
        row.per_order_max,
        row.on_sale_from,
        row.on_sale_until,
    )


def list_events_on_sale(
    database: Database, now: datetime, limit: int, cursor: str | None
) -> EventPage | None:
    """Events that are not over, by name in addresses. None: the cursor is none of ours."""
    statement = select(events).where(or_(events.c.ends_at.is_(None), events.c.ends_at > now))
    if cursor is not None:
        after = _read_cursor(cursor)
        if after is None:
            return None
        statement = statement.where(events.c.event_id > after)
    with database.reading() as connection:
        # One more than asked for says whether more follow.
        rows = connection.execute(statement.order_by(events.c.event_id).limit(limit + 1)).all()
        page = rows[:limit]
        found = _with_tickets(connection, page, now)
    has_more = len(rows) > limit
    return EventPage(found, to_base64url(page[-1].event_id.encode()) if has_more else None)


def find_event_on_sale(
    database: Database, event_id: EventId, now: datetime
) -> EventOnSale | Refusal:
    """One event, also when it is over: nothing is on sale there then."""
    with database.reading() as connection:
        rows = connection.execute(select(events).where(events.c.event_id == event_id)).all()
        found = _with_tickets(connection, rows, now)
    return found[0] if found else unknown_event(event_id)


def _with_tickets(
    connection: Connection, rows: Sequence[Row[Any]], now: datetime
) -> tuple[EventOnSale, ...]:
    kinds: dict[str, list[TicketType]] = {row.event_id: [] for row in rows}
    for row in connection.execute(
        select(ticket_types)
        .where(ticket_types.c.event_id.in_(list(kinds)))
        .order_by(ticket_types.c.ticket_type_id)
    ):
        kinds[row.event_id].append(ticket_type_of(row))
    return tuple(
        EventOnSale(
            row.event_id,
            row.name,
            row.currency,
            row.locale,
            row.timezone,
            row.starts_at,
            row.ends_at,
            _on_sale(kinds[row.event_id], row.ends_at, now),
        )
        for row in rows
    )


def _on_sale(
    kinds: Iterable[TicketType], ends_at: datetime | None, now: datetime
) -> tuple[TicketOnSale, ...]:
    is_over = ends_at is not None and ends_at <= now
    return tuple(
        TicketOnSale(
            kind.ticket_type_id,
            kind.name,
            kind.price_in_cents,
            kind.per_order_max,
            kind.on_sale_from,
            kind.on_sale_until,
            is_on_sale,
            min(kind.left, kind.per_order_max) if is_on_sale else 0,
        )
        for kind in kinds
        for is_on_sale in [not is_over and kind.is_on_sale(now)]
    )


def _read_cursor(cursor: str) -> str | None:
    raw = from_base64url(cursor.encode())
    if raw is None or not raw.isascii():
        return None
    text = raw.decode("ascii")
    return text if is_slug(text) else None
