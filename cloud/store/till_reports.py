"""What one appliance sold and gave back, found through its own keys: nobody else's sales.

Slower than a sale, since a key's row says nothing of time: it is read outside every batch.
"""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, select

from cloud.ledger.facts import KeyState, StaffSession
from cloud.ledger.shifts import Sold
from cloud.store.gathering import posted_sale
from cloud.store.sales import read_what_is_left
from cloud.store.tables import credit_transactions, events, outcomes, staff_sessions
from protocol.messages import Approved, LastReceipt, SaleLine, SaleName, decode_outcome

_SOLD: Final = [each.value for each in (KeyState.APPROVED, KeyState.POSTED_OFFLINE)]
_SOLD_AT: Final = func.coalesce(
    credit_transactions.c.accepted_offline_at, credit_transactions.c.created_at
)
_given_back = credit_transactions.alias("given_back")


def read_last_receipt(connection: Connection, session: StaffSession) -> LastReceipt | None:
    """The appliance's newest sale at the session's stall that was not cancelled."""
    row = connection.execute(
        _of_device(session)
        .where(
            outcomes.c.state.in_(_SOLD),
            credit_transactions.c.event_id == session.event_id,
            credit_transactions.c.stall_id == session.stall_id,
        )
        .order_by(_SOLD_AT.desc(), credit_transactions.c.id.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    sale = read_what_is_left(connection, posted_sale(row))
    answer = decode_outcome(bytes(row.answer))
    return LastReceipt(
        sale=SaleName(session.device_id, row.key),
        code=row.reference,
        amount=sale.amount,
        left_in_cents=sale.left_in_cents,
        lines=_lines(row),
        at_ms=round(sale.sold_at.timestamp() * 1000),
        balance=answer.balance if isinstance(answer, Approved) else None,
    )


def read_shift(
    connection: Connection, session: StaffSession, now: datetime
) -> tuple[str, datetime, list[Sold], list[int]]:
    """The currency, since when, the session's sales, and what was given back meanwhile here."""
    began = connection.execute(
        select(staff_sessions.c.created_at, events.c.currency)
        .join(events, events.c.event_id == staff_sessions.c.event_id)
        .where(staff_sessions.c.session_id == UUID(session.session_id))
    ).one()
    sales = connection.execute(
        _of_device(session).where(
            outcomes.c.created_at >= began.created_at,
            credit_transactions.c.type == "Deduct",
            credit_transactions.c.staff_id == session.staff_id,
            _SOLD_AT.between(began.created_at, now),
        )
    ).all()
    refunds = [
        *connection.execute(
            _given_back_since(
                session, began.created_at, _given_back.c.id == outcomes.c.transaction_id
            )
        ),
        *connection.execute(
            _given_back_since(
                session,
                began.created_at,
                _given_back.c.reversal_of_transaction_id == outcomes.c.transaction_id,
            )
        ),
    ]
    refunds = list({row.id: row for row in refunds}.values())
    given_back: dict[UUID, int] = {}
    for each in refunds:
        sale_id = each.reversal_of_transaction_id
        given_back[sale_id] = given_back.get(sale_id, 0) + each.amount_in_cents
    sold = [
        Sold(
            row.amount_in_cents,
            given_back.get(row.id, 0),
            _lines(row),
            row.accepted_offline_at is not None,
        )
        for row in sales
    ]
    here = (session.device_id, session.staff_id)
    meanwhile = [
        each.amount_in_cents
        for each in refunds
        if (each.device_id, each.staff_id) == here and began.created_at <= each.created_at <= now
    ]
    return began.currency, began.created_at, sold, meanwhile


def _of_device(session: StaffSession) -> Select[*tuple[Any, ...]]:
    """What the appliance's keys posted, with the answers they got."""
    return (
        select(credit_transactions, outcomes.c.key, outcomes.c.answer)
        .select_from(outcomes)
        .join(
            credit_transactions,
            and_(
                credit_transactions.c.user_id == outcomes.c.user_id,
                credit_transactions.c.id == outcomes.c.transaction_id,
            ),
        )
        .where(outcomes.c.device_id == session.device_id)
    )


def _given_back_since(
    session: StaffSession, since: datetime, of_key: ColumnElement[bool]
) -> Select[*tuple[Any, ...]]:
    """Refunds that a key of the appliance made, or that were made of what it sold."""
    return (
        select(_given_back)
        .select_from(outcomes)
        .join(_given_back, and_(_given_back.c.user_id == outcomes.c.user_id, of_key))
        .where(
            outcomes.c.device_id == session.device_id,
            _given_back.c.type == "Refund",
            _given_back.c.created_at >= since,
        )
    )


def _lines(row: Row[*tuple[Any, ...]]) -> tuple[SaleLine, ...]:
    return msgspec.convert(row.lines or (), tuple[SaleLine, ...])
