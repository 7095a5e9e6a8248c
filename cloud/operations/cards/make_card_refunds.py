"""Asks the provider for the refunds that are due: outside any transaction, keyed by each row."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, select, update

from cloud.operations.cards.card_payments import lock_payment
from cloud.operations.cards.card_refund_ends import end_card_refund
from cloud.operations.cards.card_refunds import CardRefundState
from cloud.payments.patience import try_again_after
from cloud.payments.provider import (
    CardProvider,
    RefundRequest,
    RefundStatus,
)
from cloud.store.database import Database
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.tables import card_refunds, payments
from protocol.money import Money

AT_ONCE_MAX: Final = 20


def make_card_refunds(database: Database, provider: CardProvider, now: datetime) -> int:
    """Make or look up each refund that is due; how many were taken up.

    Killed anywhere, the next call asks again under the same key, and the provider gives back once.

    Raises:
        ProviderUnreachableError: the others are as far away; this one is tried later.
    """
    with database.reading() as connection:
        due = connection.execute(
            select(card_refunds.c.refund_id)
            .join(payments, payments.c.id == card_refunds.c.payment_id)
            .where(card_refunds.c.next_try_at <= now, payments.c.provider == provider.name)
            .order_by(card_refunds.c.next_try_at)
            .limit(AT_ONCE_MAX)
        ).scalars()
        due = list(due)
    return sum(_make(database, provider, refund_id, now) for refund_id in due)


def _make(database: Database, provider: CardProvider, refund_id: UUID, now: datetime) -> int:
    refund = _take_up(database, refund_id, now)
    if refund is None:
        return 0
    said = _ask(provider, refund)
    with database.transaction() as connection:
        locked = lock_payment(connection, refund.payment_id)
        # What a webhook said meanwhile stands: only what is read under the lock counts.
        stands = connection.execute(
            select(card_refunds).where(card_refunds.c.refund_id == refund_id)
        ).one()
        outcome = end_card_refund(connection, locked, stands, said, now)
        row = AuditRow(
            at=now,
            actor=f"provider:{provider.name}",
            action="card_refund",
            outcome=said.state.value,
            user_id=str(locked.payment.user_id),
            subject=str(refund_id),
            detail={"effect": outcome.value, "about": said.reference},
        )
        write_audit_records(connection, [row])
    return 1


def _take_up(database: Database, refund_id: UUID, now: datetime) -> Row[Any] | None:
    """The refund, unless another courier has just taken it up; it is due again after a while."""
    due = (card_refunds.c.refund_id == refund_id) & (card_refunds.c.next_try_at <= now)
    with database.transaction() as connection:
        refund = connection.execute(select(card_refunds).where(due).with_for_update()).one_or_none()
        if refund is None:
            return None
        tries = refund.tries + 1
        connection.execute(
            update(card_refunds)
            .where(card_refunds.c.refund_id == refund_id)
            .values(tries=tries, next_try_at=now + try_again_after(tries))
        )
        return connection.execute(
            select(card_refunds, payments.c.provider_reference.label("checkout"))
            .join(payments, payments.c.id == card_refunds.c.payment_id)
            .where(card_refunds.c.refund_id == refund_id)
        ).one()


def _ask(provider: CardProvider, refund: Row[Any]) -> RefundStatus:
    if refund.state == CardRefundState.PENDING:
        return provider.look_up_refund(refund.provider_reference)
    amount = Money(refund.amount_in_cents, refund.currency)
    return provider.refund(RefundRequest(str(refund.refund_id), refund.checkout, amount))
