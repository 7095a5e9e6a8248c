"""A cash-out ends once the card provider has answered for each of its parts."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, select, update
from uuid_utils.compat import uuid7

from cloud.ledger.cash_out import give_back
from cloud.ledger.postings import post
from cloud.operations.cards.card_refunds import UNDER_WAY, CardRefundState
from cloud.operations.cash_outs.cash_out_letters import tell_owner
from cloud.operations.cash_outs.read_cash_outs import CashOutState, cash_outs_of
from cloud.store.letters import CashOutEnded
from cloud.store.locks import lock_wallets
from cloud.store.postings import write_postings
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.tables import cash_outs
from protocol.ids import IdempotencyKey, TransactionId, UserId
from protocol.money import Money


def end_cash_out(connection: Connection, cash_out_id: UUID, now: datetime) -> None:
    """Paid; what failed for good is in the wallet again. Nothing while a part is under way.

    Call it whenever a part has ended, under that part's payment's lock: it ends once. A part that
    fails after the end (its card's bank sent it back) is not its business any more.
    """
    row = connection.execute(
        select(cash_outs).where(cash_outs.c.cash_out_id == cash_out_id).with_for_update()
    ).one()
    [cash_out] = cash_outs_of(connection, [row])
    if cash_out.state is not CashOutState.POSTED or cash_out.sum_of(*UNDER_WAY).amount_in_cents:
        return
    paid = cash_out.sum_of(CardRefundState.DONE)
    back = cash_out.sum_of(CardRefundState.FAILED)
    reversal_id: UUID | None = None
    if back.amount_in_cents:
        reversal_id = _give_back(connection, row, back, now)
    state = CashOutState.PAID if paid.amount_in_cents else CashOutState.REVERSED
    connection.execute(
        update(cash_outs)
        .where(cash_outs.c.cash_out_id == cash_out_id)
        .values(state=state, reversal_transaction_id=reversal_id, ended_at=now)
    )
    audit = AuditRow(
        at=now,
        actor="system:cash-out",
        action="cash_out",
        outcome=state.value,
        user_id=str(row.user_id),
        subject=str(cash_out_id),
        detail={"paid_in_cents": paid.amount_in_cents, "back_in_cents": back.amount_in_cents},
    )
    write_audit_records(connection, [audit])
    letter = CashOutEnded(paid=paid, back=back, at_ms=round(now.timestamp() * 1000))
    tell_owner(connection, row, letter, now)


def _give_back(connection: Connection, row: Row[Any], amount: Money, now: datetime) -> UUID:
    user_id = UserId(str(row.user_id))
    posting = give_back(
        transaction_id=TransactionId(str(uuid7())),
        user_id=user_id,
        amount=amount,
        cash_out_id=str(row.cash_out_id),
        idempotency_key=IdempotencyKey(row.idempotency_key),
        reversal_of=TransactionId(str(row.transaction_id)),
        at=now,
    )
    wallet_key = user_id, amount.currency
    before = lock_wallets(connection, [wallet_key])
    after = {wallet_key: post(before[wallet_key], posting)}
    write_postings(connection, [posting], before, after, now)
    return UUID(posting.id)
