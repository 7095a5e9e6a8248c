"""What an attendee sees of their own wallet: balances, open events, the latest transactions."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, or_, select

from cloud.operations.sign_in_attendee import Attendee
from cloud.store.database import Database
from cloud.store.tables import credit_transactions, credit_wallets, events, stalls
from protocol.ids import EventId
from protocol.money import Money

RECENT_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class OpenEvent:
    event_id: EventId
    name: str
    currency: str
    locale: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One transaction, in words an attendee knows."""

    id: UUID
    type: str
    direction: str
    amount: Money
    title: str
    place: str | None
    """The stall's name, where it happened at one."""
    reference: str
    at: datetime


@dataclass(frozen=True, slots=True)
class WalletView:
    balances: tuple[Money, ...]
    events: tuple[OpenEvent, ...]
    recent: tuple[Entry, ...]


def read_wallet(database: Database, attendee: Attendee, now: datetime) -> WalletView:
    with database.reading() as connection:
        return WalletView(
            _balances(connection, attendee),
            _open_events(connection, now),
            _recent(connection, attendee),
        )


def _balances(connection: Connection, attendee: Attendee) -> tuple[Money, ...]:
    rows = connection.execute(
        select(credit_wallets.c.balance_in_cents, credit_wallets.c.currency)
        .where(credit_wallets.c.user_id == attendee.row_id)
        .order_by(credit_wallets.c.currency)
    )
    return tuple(Money(row.balance_in_cents, row.currency) for row in rows)


def _open_events(connection: Connection, now: datetime) -> tuple[OpenEvent, ...]:
    rows = connection.execute(
        select(events)
        .where(or_(events.c.ends_at.is_(None), events.c.ends_at > now))
        .order_by(events.c.starts_at, events.c.event_id)
    )
    return tuple(OpenEvent(row.event_id, row.name, row.currency, row.locale) for row in rows)


def _recent(connection: Connection, attendee: Attendee) -> tuple[Entry, ...]:
    rows = connection.execute(
        select(
            credit_transactions,
            stalls.c.name.label("stall_name"),
            events.c.name.label("event_name"),
        )
        .outerjoin(
            stalls,
            (stalls.c.event_id == credit_transactions.c.event_id)
            & (stalls.c.stall_id == credit_transactions.c.stall_id),
        )
        .outerjoin(events, events.c.event_id == credit_transactions.c.event_id)
        .where(credit_transactions.c.user_id == attendee.row_id)
        # UUIDv7: by id is by time.
        .order_by(credit_transactions.c.id.desc())
        .limit(RECENT_MAX)
    )
    return tuple(_entry(row) for row in rows)


def _entry(row: Row[Any]) -> Entry:
    return Entry(
        row.id,
        row.type,
        row.direction,
        Money(row.amount_in_cents, row.currency),
        _title(row),
        row.stall_name,
        row.reference,
        row.created_at,
    )


def _title(row: Row[Any]) -> str:
    where = row.stall_name if row.order_id is None else f"Tickets: {row.event_name}"
    match row.type:
        case "Purchase":
            return "Top-up"
        case "Deduct":
            return where or "Purchase"
        case "Refund":
            return f"Given back: {where}" if where else "Given back"
        case _:
            return "Correction"
