"""An attendee's cash-outs as they see them: how far each is, and what became of its parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, select

from cloud.operations.cards.card_refunds import CardRefundState
from cloud.operations.people.sign_in_attendee import Attendee
from cloud.operations.refusals import Code, Refusal
from cloud.store.database import Database
from cloud.store.tables import card_refunds, cash_outs
from protocol.money import Money


class CashOutState(StrEnum):
    WAITING = "waiting"
    """For appliances that may hold sales which the cloud has not seen."""
    POSTED = "posted"
    """Out of the wallet; the card provider has not answered for every part."""
    PAID = "paid"
    """To the cards, save for what stands in `back`."""
    REVERSED = "reversed"
    """The provider refused all of it: in the wallet again."""
    WITHDRAWN = "withdrawn"
    """It came to nothing; no Credits moved."""


@dataclass(frozen=True, slots=True)
class CashOutPart:
    """What goes back to the card of one top-up."""

    payment_id: UUID
    amount: Money
    state: CardRefundState


@dataclass(frozen=True, slots=True)
class CashOut:
    id: UUID
    currency: str
    state: CashOutState
    asked: Money | None
    """None: all there is."""
    amount: Money | None
    """What was taken from the wallet, once it was."""
    parts: tuple[CashOutPart, ...]
    waits_until: datetime
    ended_because: str | None
    created_at: datetime
    ended_at: datetime | None

    def sum_of(self, *states: CardRefundState) -> Money:
        total = sum(each.amount.amount_in_cents for each in self.parts if each.state in states)
        return Money(total, self.currency)


def find_cash_out(database: Database, attendee: Attendee, cash_out_id: str) -> CashOut | Refusal:
    """The attendee's own; anybody else's is as unknown as none."""
    try:
        wanted = UUID(cash_out_id)
    except ValueError:
        return unknown_cash_out()
    with database.reading() as connection:
        row = connection.execute(
            select(cash_outs).where(
                cash_outs.c.cash_out_id == wanted, cash_outs.c.user_id == attendee.row_id
            )
        ).one_or_none()
        return unknown_cash_out() if row is None else cash_outs_of(connection, [row])[0]


def list_cash_outs(
    database: Database, attendee: Attendee, limit: int, before: str | None
) -> list[CashOut]:
    """Newest first; `before`: the id of the last one on the page before."""
    statement = select(cash_outs).where(cash_outs.c.user_id == attendee.row_id)
    if before is not None:
        try:
            statement = statement.where(cash_outs.c.cash_out_id < UUID(before))
        except ValueError:
            return []
    statement = statement.order_by(cash_outs.c.cash_out_id.desc()).limit(limit)
    with database.reading() as connection:
        return cash_outs_of(connection, connection.execute(statement).all())


def cash_outs_of(connection: Connection, rows: Sequence[Row[Any]]) -> list[CashOut]:
    parts: dict[UUID, list[CashOutPart]] = {row.cash_out_id: [] for row in rows}
    for part in connection.execute(
        select(card_refunds)
        .where(card_refunds.c.cash_out_id.in_(parts))
        .order_by(card_refunds.c.refund_id)
    ):
        amount = Money(part.amount_in_cents, part.currency)
        state = CardRefundState(part.state)
        parts[part.cash_out_id].append(CashOutPart(part.payment_id, amount, state))
    return [_cash_out(row, tuple(parts[row.cash_out_id])) for row in rows]


def unknown_cash_out() -> Refusal:
    return Refusal(
        Code.CASH_OUT_UNKNOWN,
        "There is no such cash-out.",
        "Look at GET /v1/wallet/cash-outs.",
    )


def _cash_out(row: Row[Any], parts: tuple[CashOutPart, ...]) -> CashOut:
    asked, amount = row.asked_in_cents, row.amount_in_cents
    return CashOut(
        id=row.cash_out_id,
        currency=row.currency,
        state=CashOutState(row.state),
        asked=None if asked is None else Money(asked, row.currency),
        amount=None if amount is None else Money(amount, row.currency),
        parts=parts,
        waits_until=row.waits_until,
        ended_because=row.ended_because,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )
