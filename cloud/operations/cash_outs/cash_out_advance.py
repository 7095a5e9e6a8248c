"""The courier's part of a cash-out: out of the wallet, once the appliances allow it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, assert_never
from uuid import UUID

from sqlalchemy import Connection, Row, select, update
from uuid_utils.compat import uuid7

from cloud.ledger.cash_out import (
    Decision,
    Holdings,
    NotPaidBecause,
    Pay,
    Wait,
    decide_cash_out,
    deduct_for_cash_out,
    held_back,
)
from cloud.ledger.postings import Wallet, post
from cloud.operations.cards.card_refunds import RefundReason, ask_card_refund
from cloud.operations.cash_outs.cash_out_facts import find_purchases, find_unsettled, purchases_of
from cloud.operations.cash_outs.cash_out_letters import tell_owner
from cloud.operations.cash_outs.read_cash_outs import CashOutState
from cloud.store.database import Database
from cloud.store.letters import CashOutNotPaid
from cloud.store.locks import lock_wallets
from cloud.store.postings import write_postings
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.tables import cash_outs
from protocol.ids import IdempotencyKey, TransactionId, UserId
from protocol.money import Money

LOOKED_AT_EVERY: Final = timedelta(seconds=5)
AT_ONCE_MAX: Final = 50
COURIER: Final = "system:courier"


def advance_cash_outs(database: Database, now: datetime) -> int:
    """Look at each that is due, in a transaction of its own; how many were posted or ended."""
    with database.reading() as connection:
        due = connection.execute(
            select(cash_outs.c.cash_out_id)
            .where(cash_outs.c.look_at <= now)
            .order_by(cash_outs.c.look_at)
            .limit(AT_ONCE_MAX)
        ).scalars()
        waiting = list(due)
    return sum(_advance(database, cash_out_id, now) for cash_out_id in waiting)


def _advance(database: Database, cash_out_id: UUID, now: datetime) -> bool:
    """Payments, then the cash-out, then the wallet: the one order of locks."""
    with database.transaction() as connection:
        asked = connection.execute(
            select(cash_outs).where(cash_outs.c.cash_out_id == cash_out_id)
        ).one()
        purchases = find_purchases(connection, asked.user_id, asked.currency, lock=True)
        asked = connection.execute(
            select(cash_outs).where(cash_outs.c.cash_out_id == cash_out_id).with_for_update()
        ).one()
        if asked.state != CashOutState.WAITING:
            # Withdrawn, or another courier was here just now.
            return False
        unsettled = find_unsettled(connection, asked.user_id, asked.currency, asked.created_at)
        key = UserId(str(asked.user_id)), asked.currency
        wallets = lock_wallets(connection, [key])
        wallet = wallets.get(key, Wallet.empty(*key))
        holdings = Holdings(
            wallet.balance.amount_in_cents,
            wallet.offline_frozen,
            purchases_of(connection, purchases),
        )

        held = held_back(unsettled, waits_until=asked.waits_until, now=now)
        decision = decide_cash_out(asked.asked_in_cents, holdings, held)

        match decision:
            case Wait():
                _keep(connection, asked, look_at=now + LOOKED_AT_EVERY)
                return False
            case NotPaidBecause():
                _end_unpaid(connection, asked, decision, now)
            case Pay():
                _post(connection, asked, decision, wallet=wallet, purchases=purchases, now=now)
            case _:
                assert_never(decision)
        _audit(connection, asked, decision, now)
    return True


def _post(
    connection: Connection,
    asked: Row[Any],
    pay: Pay,
    *,
    wallet: Wallet,
    purchases: Sequence[Row[Any]],
    now: datetime,
) -> None:
    """Out of the wallet, and a row for each part, which the provider is asked for afterwards."""
    amount = Money(pay.amount_in_cents, asked.currency)
    posting = deduct_for_cash_out(
        transaction_id=TransactionId(str(uuid7())),
        user_id=wallet.user_id,
        amount=amount,
        cash_out_id=str(asked.cash_out_id),
        idempotency_key=IdempotencyKey(asked.idempotency_key),
        at=now,
    )
    key = wallet.user_id, asked.currency
    write_postings(connection, [posting], {key: wallet}, {key: post(wallet, posting)}, now)
    by_id = {str(row.id): row for row in purchases}
    for part in pay.parts:
        ask_card_refund(
            connection,
            payment=by_id[part.payment_id],
            amount=Money(part.amount_in_cents, asked.currency),
            reason=RefundReason.CASH_OUT,
            cash_out_id=asked.cash_out_id,
            now=now,
        )
    _keep(
        connection,
        asked,
        state=CashOutState.POSTED,
        amount_in_cents=pay.amount_in_cents,
        transaction_id=UUID(posting.id),
        look_at=None,
    )


def _end_unpaid(
    connection: Connection, asked: Row[Any], because: NotPaidBecause, now: datetime
) -> None:
    _keep(
        connection,
        asked,
        state=CashOutState.WITHDRAWN,
        ended_because=because.value,
        look_at=None,
        ended_at=now,
    )
    letter = CashOutNotPaid(reason=because.value, at_ms=round(now.timestamp() * 1000))
    tell_owner(connection, asked, letter, now)


def _keep(connection: Connection, asked: Row[Any], **values: Any) -> None:
    connection.execute(
        update(cash_outs).where(cash_outs.c.cash_out_id == asked.cash_out_id).values(**values)
    )


def _audit(connection: Connection, asked: Row[Any], decision: Decision, now: datetime) -> None:
    row = AuditRow(
        at=now,
        actor=COURIER,
        action="cash_out",
        outcome="posted" if isinstance(decision, Pay) else str(decision),
        user_id=str(asked.user_id),
        subject=str(asked.cash_out_id),
        detail={"amount_in_cents": decision.amount_in_cents} if isinstance(decision, Pay) else None,
    )
    write_audit_records(connection, [row])
