"""Gives a sale at a stall back from the console: alone within the staff's rules, else by two."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec
from sqlalchemy import Connection, insert
from uuid_utils.compat import uuid7

from cloud.access.roles import Holder, Role
from cloud.ledger.facts import ApprovalState, DeviceKey, PostedSale
from cloud.ledger.postings import Posting, post
from cloud.ledger.reversals import judge_refund, reversal
from cloud.operations.desk.review_refusals import SALE_UNDER_REVIEW, UNKNOWN_SALE, explain
from cloud.operations.once import claim, digest_of, keep
from cloud.operations.refusals import Refusal
from cloud.store.approvals import read_refund_terms, read_under_review
from cloud.store.database import Database
from cloud.store.locks import lock_wallets
from cloud.store.postings import write_postings
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.sales import correlation_of, find_sale, read_what_is_left
from cloud.store.tables import approvals
from protocol.ids import CorrelationId, IdempotencyKey, TransactionId
from protocol.messages import Reason
from protocol.money import Money

MAY_REFUND: Final = (Role.SUPERVISOR, Role.FINANCE)


class Asked(StrEnum):
    DONE = "done"
    WAITING = "waiting"
    """For a second person."""


@dataclass(frozen=True, slots=True)
class SaleRefunded:
    state: Asked
    amount: Money
    left_in_cents: int
    """Of the sale, after what was done."""
    transaction_id: str | None = None
    approval_id: str | None = None


_ANSWER: Final = msgspec.json.Decoder(SaleRefunded)


def refund_sale(
    database: Database,
    name: DeviceKey,
    amount: Money | None,
    *,
    reason: str,
    holder: Holder,
    key: IdempotencyKey,
    now: datetime,
) -> SaleRefunded | Refusal:
    """Give back all that is left, or this much; what one person may not do alone waits for another.

    A sale of an event that is none of the holder's is as unknown as none.
    """
    with database.transaction() as connection:
        digest = digest_of(name, amount, reason)
        answer = claim(
            connection, holder.subject, key, operation="refund_sale", digest=digest, now=now
        )
        if isinstance(answer, Refusal):
            return answer
        if answer:
            return _ANSWER.decode(answer)
        sale = find_sale(connection, name)
        if sale is None or not holder.may(MAY_REFUND, sale.event_id, sale.stall_id):
            return UNKNOWN_SALE
        if read_under_review(connection, [name]):
            return SALE_UNDER_REVIEW
        lock_wallets(connection, [(sale.user_id, sale.amount.currency)])
        sale = read_what_is_left(connection, sale)
        assert sale.event_id is not None, "an appliance sells at an event"
        terms = read_refund_terms(connection, [sale.event_id])[sale.event_id]

        judged = judge_refund(sale, terms, amount, now)

        if isinstance(judged, Reason):
            return explain(judged)
        if judged.cause is None:
            posting = give_back(
                connection, sale, judged.amount, holder=holder, key=key, reason=reason, now=now
            )
            left_in_cents = sale.left_in_cents - judged.amount.amount_in_cents
            done = SaleRefunded(Asked.DONE, judged.amount, left_in_cents, transaction_id=posting.id)
        else:
            approval_id = _ask_another(
                connection, sale, judged.amount, reason=reason, holder=holder, now=now
            )
            done = SaleRefunded(
                Asked.WAITING, judged.amount, sale.left_in_cents, approval_id=approval_id
            )
        keep(connection, holder.subject, key, msgspec.json.encode(done))
    return done


def give_back(
    connection: Connection,
    sale: PostedSale,
    amount: Money,
    *,
    holder: Holder,
    key: IdempotencyKey,
    reason: str,
    now: datetime,
    action: str = "sale_refunded",
) -> Posting:
    """Post it, with its record; the wallet is locked, and this much is left of the sale."""
    wallet_key = (sale.user_id, sale.amount.currency)
    posting = reversal(
        sale,
        amount,
        transaction_id=TransactionId(str(uuid7())),
        idempotency_key=key,
        correlation_id=CorrelationId(correlation_of(connection, sale)),
        at=now,
        created_by=holder.subject,
        device_id=None,
        staff_id=None,
    )
    before = lock_wallets(connection, [wallet_key])
    after = {wallet_key: post(before[wallet_key], posting)}
    write_postings(connection, [posting], before, after, now)
    write_audit_records(
        connection,
        [
            AuditRow(
                at=now,
                actor=holder.subject,
                action=action,
                outcome="done",
                event_id=sale.event_id,
                user_id=sale.user_id,
                subject=posting.id,
                detail={
                    "reason": reason,
                    "amount": str(amount),
                    "sale": sale.transaction_id,
                },
            )
        ],
    )
    return posting


def _ask_another(
    connection: Connection,
    sale: PostedSale,
    amount: Money,
    *,
    reason: str,
    holder: Holder,
    now: datetime,
) -> str:
    approval_id = uuid7()
    connection.execute(
        insert(approvals).values(
            approval_id=approval_id,
            kind="refund",
            state=ApprovalState.WAITING.value,
            user_id=UUID(sale.user_id),
            amount_in_cents=amount.amount_in_cents,
            currency=amount.currency,
            sale_transaction_id=UUID(sale.transaction_id),
            sale_left_in_cents=sale.left_in_cents,
            event_id=sale.event_id,
            stall_id=sale.stall_id,
            reason=reason,
            asked_by=holder.subject,
            asked_at=now,
        )
    )
    write_audit_records(
        connection,
        [
            AuditRow(
                at=now,
                actor=holder.subject,
                action="approval_asked",
                outcome="done",
                event_id=sale.event_id,
                user_id=sale.user_id,
                subject=str(approval_id),
                detail={"reason": reason, "amount": str(amount), "sale": sale.transaction_id},
            )
        ],
    )
    return str(approval_id)
