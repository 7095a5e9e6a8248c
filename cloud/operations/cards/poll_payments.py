"""Looks after payments whose webhook did not come: by the same path as a webhook, with patience."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog
from sqlalchemy import Row, select, update

from cloud.operations.cards.card_events import take_provider_event, told_by_look_up
from cloud.operations.cards.card_payments import PaymentState, open_card_page
from cloud.operations.refusals import Refusal
from cloud.payments.patience import poll_again_after
from cloud.payments.provider import CardProvider, CheckoutStatus
from cloud.store.database import Database
from cloud.store.tables import payments

AT_ONCE_MAX: Final = 20

_log = structlog.stdlib.get_logger("payments")


def poll_payments(database: Database, provider: CardProvider, now: datetime) -> int:
    """Ask the provider about each payment whose time has come; how many were asked about.

    One is given up only after the provider confirmed that nobody can pay there any more.

    Raises:
        ProviderUnreachableError: the others are as far away; this one is asked about later.
    """
    with database.reading() as connection:
        due = connection.execute(
            select(payments.c.id)
            .where(payments.c.poll_at <= now, payments.c.provider == provider.name)
            .order_by(payments.c.poll_at)
            .limit(AT_ONCE_MAX)
        ).scalars()
        due = list(due)
    return sum(_poll(database, provider, payment_id, now) for payment_id in due)


def _poll(database: Database, provider: CardProvider, payment_id: UUID, now: datetime) -> int:
    payment = _take_up(database, payment_id, now)
    if payment is None:
        return 0
    status = _ask(database, provider, payment, now)
    event = None if status is None else told_by_look_up(provider.name, status)
    if event is not None:
        outcome = take_provider_event(database, event, now)
        if isinstance(outcome, Refusal):
            _log.error("payment_not_settled", payment_id=str(payment_id), code=outcome.code.value)
    return 1


def _take_up(database: Database, payment_id: UUID, now: datetime) -> Row[Any] | None:
    """The payment, unless another courier has just taken it up; it is due again after a while."""
    due = (payments.c.id == payment_id) & (payments.c.poll_at <= now)
    with database.transaction() as connection:
        payment = connection.execute(select(payments).where(due).with_for_update()).one_or_none()
        if payment is None:
            return None
        polls = payment.polls + 1
        poll_at = now + poll_again_after(polls)
        if payment.expires_at is not None and now < payment.expires_at < poll_at:
            poll_at = payment.expires_at
        connection.execute(
            update(payments).where(payments.c.id == payment_id).values(polls=polls, poll_at=poll_at)
        )
    return payment


def _ask(
    database: Database, provider: CardProvider, payment: Row[Any], now: datetime
) -> CheckoutStatus | None:
    """None: the provider would not even open it. Raises ProviderUnreachableError."""
    reference = payment.provider_reference
    if payment.state == PaymentState.CREATED:
        # Its page was never shown to anybody: the answer was lost, or the call never made.
        opened = open_card_page(database, provider, payment.id, now)
        if isinstance(opened, Refusal):
            return None
        reference = opened.reference
    assert reference is not None, "a checkout that was opened has its name"
    if payment.expires_at is not None and payment.expires_at <= now:
        return provider.expire_checkout(reference)
    return provider.look_up(reference)
