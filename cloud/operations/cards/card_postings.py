"""What card payments post to wallets: a purchase, and corrections when money was taken back."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, or_, select
from uuid_utils.compat import uuid7

from cloud.ledger.postings import Direction, Posting, TransactionType, post, purchase
from cloud.operations.once import digest_of
from cloud.operations.rows import insert_if_new
from cloud.store.letters import TopUpReceipt, post_letter
from cloud.store.locks import lock_wallets
from cloud.store.postings import write_postings
from cloud.store.tables import credit_transactions, credit_wallets, events, users
from protocol.ids import CorrelationId, IdempotencyKey, TransactionId, UserId
from protocol.money import Money


def credit_purchase(
    connection: Connection, payment: Row[Any], reference: str, now: datetime
) -> TransactionId:
    """The Credits that this payment bought, and a receipt where there is an address for it.

    The payment's row is locked. `reference` is the provider's, credited once (a unique index).
    """
    posting = purchase(
        transaction_id=TransactionId(str(uuid7())),
        user_id=UserId(str(payment.user_id)),
        amount=Money(payment.amount_in_cents, payment.currency),
        provider_reference=reference,
        idempotency_key=IdempotencyKey(payment.idempotency_key),
        correlation_id=CorrelationId(str(payment.id)),
        at=now,
        created_by=f"system:{payment.provider}",
    )
    posting = msgspec.structs.replace(posting, event_id=payment.event_id)
    balance = _write(connection, posting, now, freeze=False)
    _post_receipt(connection, payment, posting, balance, now)
    return posting.id


def take_back(
    connection: Connection, payment: Row[Any], amount: Money, about: str, now: datetime
) -> TransactionId:
    """What left through the provider without us: an Adjustment out, below zero if need be.

    The wallet is frozen for offline use: whoever takes money back owes it, or may do it again.
    """
    posting = _adjustment(payment, Direction.OUT, amount, about, now)
    _write(connection, posting, now, freeze=True)
    return posting.id


def put_back(
    connection: Connection, payment: Row[Any], amount: Money, about: str, now: datetime
) -> TransactionId:
    """What is with the provider after all: an Adjustment in."""
    posting = _adjustment(payment, Direction.IN, amount, about, now)
    _write(connection, posting, now, freeze=False)
    return posting.id


def was_taken_back(connection: Connection, payment: Row[Any], about: str) -> bool:
    """Whether `take_back` posted for this refund or dispute."""
    posted = select(credit_transactions.c.id).where(
        credit_transactions.c.user_id == payment.user_id,
        credit_transactions.c.type == TransactionType.ADJUSTMENT,
        credit_transactions.c.direction == Direction.OUT,
        credit_transactions.c.reference == about,
    )
    return connection.execute(posted.limit(1)).one_or_none() is not None


def _adjustment(
    payment: Row[Any], direction: Direction, amount: Money, about: str, now: datetime
) -> Posting:
    return Posting(
        id=TransactionId(str(uuid7())),
        user_id=UserId(str(payment.user_id)),
        type=TransactionType.ADJUSTMENT,
        direction=direction,
        amount=amount,
        reference=about,
        idempotency_key=IdempotencyKey(digest_of(payment.provider, about, direction)),
        correlation_id=CorrelationId(str(payment.id)),
        created_at=now,
        created_by=f"system:{payment.provider}",
        event_id=payment.event_id,
        order_id=None if payment.order_id is None else str(payment.order_id),
    )


def _write(connection: Connection, posting: Posting, now: datetime, *, freeze: bool) -> Money:
    """The balance afterwards."""
    key = (posting.user_id, posting.amount.currency)
    # An empty wallet where there is none: two payments at once then queue for its row.
    row = {
        "user_id": UUID(posting.user_id),
        "currency": posting.amount.currency,
        "balance_in_cents": 0,
        "updated_at": now,
    }
    insert_if_new(connection, credit_wallets, row)
    before = lock_wallets(connection, [key])
    after = post(before[key], posting)
    if freeze:
        after = msgspec.structs.replace(after, offline_frozen=True)
    write_postings(connection, [posting], before, {key: after}, now)
    return after.balance


def _post_receipt(
    connection: Connection, payment: Row[Any], posting: Posting, balance: Money, now: datetime
) -> None:
    address = connection.execute(
        select(users.c.email).where(users.c.user_id == payment.user_id)
    ).scalar_one()
    if address is None:
        return
    manner = _manner(connection, payment, now)
    letter = TopUpReceipt(
        at_ms=round(now.timestamp() * 1000),
        amount=posting.amount,
        balance=balance,
        reference=posting.reference,
    )
    if manner is not None:
        letter = msgspec.structs.replace(letter, locale=manner.locale, timezone=manner.timezone)
    post_letter(connection, address, letter, now)


def _manner(connection: Connection, payment: Row[Any], now: datetime) -> Row[Any, Any] | None:
    """The event whose way of writing money and dates the receipt has."""
    manner = select(events.c.locale, events.c.timezone)
    if payment.event_id is not None:
        return connection.execute(manner.where(events.c.event_id == payment.event_id)).one()
    return connection.execute(
        manner.where(
            events.c.currency == payment.currency,
            or_(events.c.ends_at.is_(None), events.c.ends_at > now),
        )
        .order_by(events.c.starts_at, events.c.event_id)
        .limit(1)
    ).one_or_none()
