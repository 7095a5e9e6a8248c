"""Finance puts a wallet right, with a reason; above the event's limit a second person grants it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec
from sqlalchemy import Connection, func, insert, select
from uuid_utils.compat import uuid7

from cloud.access.roles import Holder, Role
from cloud.ledger.facts import ApprovalState
from cloud.ledger.postings import Direction, Posting, TransactionType, Wallet, post
from cloud.ledger.receipts import short_code
from cloud.operations.desk.refund_sale import Asked
from cloud.operations.once import claim, digest_of, keep
from cloud.operations.refusals import Code, Refusal
from cloud.operations.rows import insert_if_new
from cloud.store.database import Database
from cloud.store.locks import lock_wallets
from cloud.store.postings import freeze_wallet, write_postings
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.tables import approvals, credit_transactions, credit_wallets, events, users
from protocol.ids import CorrelationId, EventId, IdempotencyKey, TransactionId, UserId
from protocol.money import Money

MAY_ADJUST: Final = (Role.FINANCE,)
COUNTED: Final = timedelta(hours=24)
"""What one person adjusted in one wallet meanwhile counts towards the limit: parts are no way
around it."""

UNKNOWN_WALLET: Final = Refusal(
    Code.WALLET_UNKNOWN,
    "There is no such attendee, or no wallet of theirs in the event's currency.",
    "Compare the id with an export.",
)


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What somebody in finance wants done with a wallet."""

    event_id: EventId
    user_id: UserId
    direction: Direction
    amount: Money
    reason: str


@dataclass(frozen=True, slots=True)
class Adjusted:
    state: Asked
    amount: Money
    transaction_id: str | None = None
    approval_id: str | None = None


_ANSWER: Final = msgspec.json.Decoder(Adjusted)


def adjust_wallet(
    database: Database,
    wanted: Adjustment,
    *,
    holder: Holder,
    key: IdempotencyKey,
    now: datetime,
) -> Adjusted | Refusal:
    """Post it, or ask a second person where it is above the event's limit.

    An adjustment out may leave a wallet owing, which freezes it for offline use.
    """
    actor = holder.subject
    with database.transaction() as connection:
        answer = claim(
            connection, actor, key, operation="adjust_wallet", digest=digest_of(wanted), now=now
        )
        if isinstance(answer, Refusal):
            return answer
        if answer:
            return _ANSWER.decode(answer)
        event = connection.execute(
            select(events.c.currency, events.c.adjustment_limit_in_cents).where(
                events.c.event_id == wanted.event_id
            )
        ).one_or_none()
        if event is None:
            return Refusal(
                Code.EVENT_UNKNOWN,
                f"There is no event {wanted.event_id!r}.",
                "Look at the list of events.",
            )
        if event.currency != wanted.amount.currency:
            return Refusal(
                Code.WRONG_CURRENCY,
                f"{wanted.event_id} sells in {event.currency}.",
                "Adjust the wallet of that currency.",
            )
        found = select(users.c.user_id).where(users.c.user_id == UUID(wanted.user_id))
        if connection.execute(found).one_or_none() is None:
            return UNKNOWN_WALLET
        open_wallet(connection, wanted.user_id, wanted.amount.currency, now)
        lock_wallets(connection, [(wanted.user_id, wanted.amount.currency)])
        before_in_cents = _adjusted_before(connection, wanted, actor, now)

        total_in_cents = before_in_cents + wanted.amount.amount_in_cents
        if total_in_cents <= event.adjustment_limit_in_cents:
            posting = post_adjustment(connection, wanted, by=holder, key=key, now=now)
            done = Adjusted(Asked.DONE, wanted.amount, transaction_id=posting.id)
        else:
            done = Adjusted(
                Asked.WAITING,
                wanted.amount,
                approval_id=_ask_another(connection, wanted, actor, now),
            )
        keep(connection, actor, key, msgspec.json.encode(done))
    return done


def post_adjustment(
    connection: Connection,
    wanted: Adjustment,
    *,
    by: Holder,
    key: IdempotencyKey,
    now: datetime,
    asked_by: str | None = None,
) -> Posting:
    """With its record; the wallet exists. `asked_by`: who asked, where another granted it."""
    wallet_key = (wanted.user_id, wanted.amount.currency)
    transaction_id = TransactionId(str(uuid7()))
    posting = Posting(
        id=transaction_id,
        user_id=wanted.user_id,
        type=TransactionType.ADJUSTMENT,
        direction=wanted.direction,
        amount=wanted.amount,
        reference=short_code(transaction_id),
        idempotency_key=key,
        correlation_id=CorrelationId(transaction_id),
        created_at=now,
        created_by=asked_by or by.subject,
        event_id=wanted.event_id,
    )
    before = lock_wallets(connection, [wallet_key])
    after = {wallet_key: post(before[wallet_key], posting)}
    write_postings(connection, [posting], before, after, now)
    detail = {
        "reason": wanted.reason,
        "amount": str(wanted.amount),
        "direction": wanted.direction.value,
    }
    if asked_by is not None:
        detail["asked_by"] = asked_by
    write_audit_records(
        connection,
        [
            _record(
                by.subject,
                "wallet_adjusted",
                wanted,
                subject=posting.id,
                detail=detail,
                now=now,
            )
        ],
    )
    return posting


def set_offline_use(
    database: Database,
    event_id: EventId,
    user_id: UserId,
    *,
    allowed: bool,
    reason: str,
    holder: Holder,
    now: datetime,
) -> Wallet | Refusal:
    """Whether the wallet in the event's currency gets an offline allowance."""
    with database.transaction() as connection:
        currency = connection.execute(
            select(events.c.currency).where(events.c.event_id == event_id)
        ).scalar_one_or_none()
        wallet_key = (user_id, currency or "")
        wallet = lock_wallets(connection, [wallet_key]).get(wallet_key)
        if wallet is None:
            return UNKNOWN_WALLET
        freeze_wallet(connection, wallet, not allowed, actor=holder.subject, now=now)
        deed = AuditRow(
            at=now,
            actor=holder.subject,
            action="offline_use_set",
            outcome="allowed" if allowed else "frozen",
            event_id=event_id,
            user_id=user_id,
            subject=wallet.balance.currency,
            detail={"reason": reason},
        )
        write_audit_records(connection, [deed])
    return msgspec.structs.replace(wallet, offline_frozen=not allowed)


def open_wallet(connection: Connection, user_id: UserId, currency: str, now: datetime) -> None:
    """An empty one where there is none: whoever posts to it then queues for its row."""
    row = {
        "user_id": UUID(user_id),
        "currency": currency,
        "balance_in_cents": 0,
        "updated_at": now,
    }
    insert_if_new(connection, credit_wallets, row)


def _adjusted_before(connection: Connection, wanted: Adjustment, actor: str, now: datetime) -> int:
    return int(
        connection.execute(
            select(func.coalesce(func.sum(credit_transactions.c.amount_in_cents), 0)).where(
                credit_transactions.c.user_id == UUID(wanted.user_id),
                credit_transactions.c.currency == wanted.amount.currency,
                credit_transactions.c.type == TransactionType.ADJUSTMENT.value,
                credit_transactions.c.created_by == actor,
                credit_transactions.c.created_at > now - COUNTED,
            )
        ).scalar_one()
    )


def _ask_another(connection: Connection, wanted: Adjustment, actor: str, now: datetime) -> str:
    approval_id = uuid7()
    connection.execute(
        insert(approvals).values(
            approval_id=approval_id,
            kind="adjustment",
            state=ApprovalState.WAITING.value,
            user_id=UUID(wanted.user_id),
            amount_in_cents=wanted.amount.amount_in_cents,
            currency=wanted.amount.currency,
            direction=wanted.direction.value,
            event_id=wanted.event_id,
            reason=wanted.reason,
            asked_by=actor,
            asked_at=now,
        )
    )
    detail = {
        "reason": wanted.reason,
        "amount": str(wanted.amount),
        "direction": wanted.direction.value,
    }
    write_audit_records(
        connection,
        [
            _record(
                actor, "approval_asked", wanted, subject=str(approval_id), detail=detail, now=now
            )
        ],
    )
    return str(approval_id)


def _record(
    actor: str,
    action: str,
    wanted: Adjustment,
    *,
    subject: str,
    detail: dict[str, str],
    now: datetime,
) -> AuditRow:
    return AuditRow(
        at=now,
        actor=actor,
        action=action,
        outcome="done",
        event_id=wanted.event_id,
        user_id=wanted.user_id,
        subject=subject,
        detail=detail,
    )
