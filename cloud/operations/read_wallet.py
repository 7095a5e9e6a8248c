"""What an attendee sees of their own wallet: balances, open events, the latest transactions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    Connection,
    Executable,
    Integer,
    Select,
    Uuid,
    bindparam,
    literal_column,
    or_,
    select,
)
from sqlalchemy.sql.functions import coalesce
from sqlalchemy.sql.selectable import FromClause

from cloud.operations.people.sign_in_attendee import Attendee, attendees_of
from cloud.store.database import Database
from cloud.store.rows import BatchStatement
from cloud.store.tables import UtcTime, credit_transactions, credit_wallets, events, stalls
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


def read_wallets(
    database: Database, session_tokens: Sequence[str], now: datetime
) -> list[WalletView | None]:
    """For each session its attendee's own; None where nobody is signed in."""
    with database.reading() as connection:
        attendees = attendees_of(connection, session_tokens, now)
        wanted = [(asker, each.user_id) for asker, each in enumerate(attendees) if each is not None]
        open_events = _open_events(connection, now)
        balances = _by_asker(_BALANCES.run(connection, wanted))
        recent = _by_asker(_RECENT.run(connection, wanted))
    return [
        None
        if each is None
        else WalletView(
            tuple(Money(row.balance_in_cents, row.currency) for row in balances.get(asker, ())),
            open_events,
            tuple(_entry(row) for row in recent.get(asker, ())),
        )
        for asker, each in enumerate(attendees)
    ]


def read_history(
    database: Database, attendee: Attendee, before: UUID | None, limit: int
) -> list[Entry]:
    """At most `limit` of their transactions, newest first, from those before this one."""
    statement = (
        _described()
        .where(credit_transactions.c.user_id == attendee.row_id)
        .limit(limit)
        # UUIDv7: by id is by time.
        .order_by(credit_transactions.c.id.desc())
    )
    if before is not None:
        statement = statement.where(credit_transactions.c.id < before)
    with database.reading() as connection:
        return [_entry(row) for row in connection.execute(statement)]


def _open_events(connection: Connection, now: datetime) -> tuple[OpenEvent, ...]:
    rows = connection.execute(_OPEN_EVENTS, {"now": now})
    return tuple(OpenEvent(row.event_id, row.name, row.currency, row.locale) for row in rows)


def _by_asker(rows: Iterable[Any]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for row in rows:
        found.setdefault(row.asker, []).append(row)
    return found


def _described() -> Select[*tuple[Any, ...]]:
    of = credit_transactions.c
    return (
        select(
            *(of.id, of.type, of.direction, of.amount_in_cents, of.currency),
            *(of.reference, of.created_at, of.order_id.is_not(None).label("is_of_order")),
            stalls.c.name.label("stall_name"),
            events.c.name.label("event_name"),
        )
        .outerjoin(stalls, (stalls.c.event_id == of.event_id) & (stalls.c.stall_id == of.stall_id))
        .outerjoin(events, events.c.event_id == of.event_id)
    )


def _select_balances(wanted: FromClause) -> Executable:
    return (
        select(wanted.c.asker, credit_wallets.c.currency, credit_wallets.c.balance_in_cents)
        .join(wanted, credit_wallets.c.user_id == wanted.c.user_id)
        .order_by(credit_wallets.c.currency)
    )


def _select_recent(wanted: FromClause) -> Executable:
    """From the tenth newest on, or the oldest: a step down the one index there is, for each."""
    earlier = credit_transactions.alias("earlier")
    own = select(earlier.c.id).where(earlier.c.user_id == wanted.c.user_id)
    # Spelled out: the statement takes no parameters but `wanted`.
    one = literal_column("1", type_=Integer())
    others = literal_column(f"{RECENT_MAX - 1}", type_=Integer())
    tenth = own.order_by(earlier.c.id.desc()).limit(one).offset(others).scalar_subquery()
    oldest = own.order_by(earlier.c.id).limit(one).scalar_subquery()
    return (
        _described()
        .add_columns(wanted.c.asker)
        .join(
            wanted,
            (credit_transactions.c.user_id == wanted.c.user_id)
            & (credit_transactions.c.id >= coalesce(tenth, oldest)),
        )
        .order_by(credit_transactions.c.id.desc())
    )


_OPEN_EVENTS: Final = (
    select(events.c.event_id, events.c.name, events.c.currency, events.c.locale)
    .where(or_(events.c.ends_at.is_(None), events.c.ends_at > bindparam("now", type_=UtcTime)))
    .order_by(events.c.starts_at, events.c.event_id)
)
_ASKERS: Final = {"asker": Integer(), "user_id": Uuid()}
"""Numbered: comparing small numbers is quicker than reading ids."""
_BALANCES: Final = BatchStatement(_ASKERS, _select_balances)
_RECENT: Final = BatchStatement(_ASKERS, _select_recent)


def _entry(row: Any) -> Entry:
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


def _title(row: Any) -> str:
    where = row.stall_name if not row.is_of_order else f"Tickets: {row.event_name}"
    match row.type:
        case "Purchase":
            return "Top-up"
        case "Deduct":
            return where or "Purchase"
        case "Refund":
            return f"Given back: {where}" if where else "Given back"
        case _:
            return "Correction"
