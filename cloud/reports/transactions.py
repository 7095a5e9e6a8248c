"""The ledger's rows as reports tell them: chosen, named, in order, and never all at once."""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, false, func, or_, select

from cloud.ledger.postings import Direction, TransactionType
from cloud.store.tables import credit_transactions, events, stalls
from protocol.ids import EventId, StallId
from protocol.money import format_cents

PAGE_ROWS: Final = 1000


class Line(msgspec.Struct, frozen=True):
    """So many of one product in a sale."""

    product: int
    quantity: int
    unit_price_in_cents: int


class Transaction(msgspec.Struct, frozen=True):
    """One row of the ledger with its event's and stall's names; its fields are a report's columns.

    Times are UTC. `accepted_offline_at`: when a till took the sale without the cloud.
    """

    created_at: datetime
    id: UUID
    type: str
    direction: str
    amount_in_cents: int
    signed_amount_in_cents: int
    """What it added to the wallet."""
    signed_amount: str
    """The same for people: `-3.50`."""
    currency: str
    event_id: str | None
    event_name: str | None
    stall_id: str | None
    stall_name: str | None
    reference: str
    correlation_id: str
    idempotency_key: str
    reversal_of_transaction_id: UUID | None
    order_id: UUID | None
    device_id: str | None
    staff_id: str | None
    created_by: str
    accepted_offline_at: datetime | None
    lines: tuple[Line, ...]
    user_id: UUID | None
    """None also where whoever asks has no business with it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where somebody may look: one stall, or a whole event."""

    event_id: EventId
    stall_id: StallId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which transactions; what is left out leaves out nothing."""

    since: datetime | None = None
    until: datetime | None = None
    """Not itself."""
    type: TransactionType | None = None
    event_id: EventId | None = None
    stall_id: StallId | None = None
    transaction_id: UUID | None = None
    reference: str | None = None
    correlation_id: str | None = None
    within: tuple[Place, ...] | None = None
    """What whoever asks may see; None: everything, top-ups too, which belong to no event."""
    shows_users: bool = True


@dataclass(frozen=True, slots=True)
class Position:
    """Between two transactions, in the order of reports."""

    created_at: datetime
    id: UUID


@dataclass(slots=True)
class Tally:
    """What went by so far: how many, and how much of each type in each currency."""

    rows: int = 0
    signed_in_cents: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    """By currency and type."""

    def add(self, page: Sequence[Transaction]) -> None:
        self.rows += len(page)
        sums = self.signed_in_cents
        for each in page:
            key = (each.currency, each.type)
            sums[key] = sums.get(key, 0) + each.signed_amount_in_cents


def knows_event(connection: Connection, event_id: EventId) -> bool:
    found = connection.execute(select(events.c.event_id).where(events.c.event_id == event_id))
    return found.first() is not None


def count_transactions(connection: Connection, selection: Selection) -> int:
    counted = select(func.count()).select_from(credit_transactions).where(_chosen(selection))
    return connection.execute(counted).scalar_one()


def read_transactions(
    connection: Connection, selection: Selection
) -> Generator[Sequence[Transaction]]:
    """All of them, a thousand at a time, by time and then id; memory does not grow with them.

    PostgreSQL sorts them and keeps a cursor open; SQLite sorts them into files of its own.
    """
    statement = _described(selection).order_by(
        credit_transactions.c.created_at, credit_transactions.c.id
    )
    # Of this statement alone: on the connection the option would stay.
    result = connection.execute(statement, execution_options={"yield_per": PAGE_ROWS})
    with closing(result):
        for rows in result.partitions():
            yield [_transaction(row, shows_user=selection.shows_users) for row in rows]


def newest_transactions(
    connection: Connection, selection: Selection, before: Position | None, limit: int
) -> list[Transaction]:
    """At most `limit`, newest first, from those that come before the position."""
    statement = (
        _described(selection)
        .order_by(credit_transactions.c.created_at.desc(), credit_transactions.c.id.desc())
        .limit(limit)
    )
    if before is not None:
        created_at, row_id = credit_transactions.c.created_at, credit_transactions.c.id
        statement = statement.where(
            or_(
                created_at < before.created_at,
                and_(created_at == before.created_at, row_id < before.id),
            )
        )
    rows = connection.execute(statement)
    return [_transaction(row, shows_user=selection.shows_users) for row in rows]


def _described(selection: Selection) -> Select[*tuple[Any, ...]]:
    return (
        select(
            credit_transactions,
            events.c.name.label("event_name"),
            stalls.c.name.label("stall_name"),
        )
        .outerjoin(events, events.c.event_id == credit_transactions.c.event_id)
        .outerjoin(
            stalls,
            (stalls.c.event_id == credit_transactions.c.event_id)
            & (stalls.c.stall_id == credit_transactions.c.stall_id),
        )
        .where(_chosen(selection))
    )


def _chosen(selection: Selection) -> ColumnElement[bool]:
    of = credit_transactions.c
    exact: list[tuple[ColumnElement[Any], Any]] = [
        (of.type, None if selection.type is None else selection.type.value),
        (of.event_id, selection.event_id),
        (of.stall_id, selection.stall_id),
        (of.id, selection.transaction_id),
        (of.reference, selection.reference),
        (of.correlation_id, selection.correlation_id),
    ]
    conditions = [column == wanted for column, wanted in exact if wanted is not None]
    if selection.since is not None:
        conditions.append(of.created_at >= selection.since)
    if selection.until is not None:
        conditions.append(of.created_at < selection.until)
    if selection.within is not None:
        conditions.append(or_(false(), *(_at(place) for place in selection.within)))
    return and_(*conditions) if conditions else ~false()


def _at(place: Place) -> ColumnElement[bool]:
    in_event = credit_transactions.c.event_id == place.event_id
    if place.stall_id is None:
        return in_event
    return and_(in_event, credit_transactions.c.stall_id == place.stall_id)


def _transaction(row: Row[Any], *, shows_user: bool) -> Transaction:
    cents: int = row.amount_in_cents
    signed = cents if row.direction == Direction.IN else -cents
    return Transaction(
        created_at=row.created_at,
        id=row.id,
        type=row.type,
        direction=row.direction,
        amount_in_cents=cents,
        signed_amount_in_cents=signed,
        signed_amount=format_cents(signed),
        currency=row.currency,
        event_id=row.event_id,
        event_name=row.event_name,
        stall_id=row.stall_id,
        stall_name=row.stall_name,
        reference=row.reference,
        correlation_id=row.correlation_id,
        idempotency_key=row.idempotency_key,
        reversal_of_transaction_id=row.reversal_of_transaction_id,
        order_id=row.order_id,
        device_id=row.device_id,
        staff_id=row.staff_id,
        created_by=row.created_by,
        accepted_offline_at=row.accepted_offline_at,
        lines=tuple(Line(**each) for each in row.lines or ()),
        user_id=row.user_id if shows_user else None,
    )
