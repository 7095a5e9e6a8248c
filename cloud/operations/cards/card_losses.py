"""Money that left through the provider without us: disputes, and refunds made in its dashboard."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, insert, select, update
from uuid_utils.compat import uuid7

from cloud.operations.cards.card_payments import Locked, WebhookOutcome
from cloud.operations.cards.card_postings import put_back, take_back, was_taken_back
from cloud.operations.cards.card_refunds import CardRefundState, RefundReason, count_refunded
from cloud.payments.provider import ProviderEvent, RefundState
from cloud.store.tables import card_disputes, card_refunds, payments
from protocol.money import Money

_CAME_TO_NOTHING: Final = ("closed", "cancelled")


def find_dispute(connection: Connection, event: ProviderEvent) -> Row[Any] | None:
    """What is known of it; its payment's row is locked."""
    return connection.execute(
        select(card_disputes).where(
            card_disputes.c.provider == event.provider, card_disputes.c.about == event.about
        )
    ).one_or_none()


def take_dispute(
    connection: Connection, locked: Locked, event: ProviderEvent, now: datetime
) -> WebhookOutcome:
    """A chargeback: out of the wallet, which may go below zero; each dispute once."""
    assert event.about is not None, "a dispute has a name"
    if find_dispute(connection, event) is not None:
        return WebhookOutcome.KNOWN_ALREADY
    payment = locked.payment
    connection.execute(
        insert(card_disputes).values(
            provider=event.provider,
            about=event.about,
            payment_id=payment.id,
            amount_in_cents=event.amount.amount_in_cents,
            currency=event.amount.currency,
            state="open",
            opened_at=now,
        )
    )
    disputed_in_cents = payment.disputed_in_cents + event.amount.amount_in_cents
    _keep_disputed(connection, payment.id, disputed_in_cents, now)
    return _take_back(connection, locked, event, event.about, now)


def take_won_dispute(
    connection: Connection, locked: Locked, event: ProviderEvent, now: datetime
) -> WebhookOutcome:
    """The bank gave it back after all: into the wallet what the dispute took out of it."""
    dispute = find_dispute(connection, event)
    assert dispute is not None, "a dispute that nobody heard of is asked for again"
    if dispute.state != "open":
        return WebhookOutcome.KNOWN_ALREADY
    payment = locked.payment
    connection.execute(
        update(card_disputes)
        .where(card_disputes.c.provider == dispute.provider, card_disputes.c.about == dispute.about)
        .values(state="won", ended_at=now)
    )
    disputed_in_cents = payment.disputed_in_cents - dispute.amount_in_cents
    _keep_disputed(connection, payment.id, disputed_in_cents, now)
    if not was_taken_back(connection, payment, dispute.about):
        return WebhookOutcome.NOTED
    # All that was taken out: what the bank kept of it is not the attendee's to pay.
    taken = Money(dispute.amount_in_cents, dispute.currency)
    put_back(connection, payment, taken, dispute.about, now)
    return WebhookOutcome.PUT_BACK


def take_hand_made_refund(
    connection: Connection,
    locked: Locked,
    event: ProviderEvent,
    state: RefundState,
    now: datetime,
) -> WebhookOutcome:
    """A refund that nobody here asked for, heard of for the first time."""
    assert event.about is not None, "a refund has a name"
    payment, is_done = locked.payment, state is RefundState.DONE
    connection.execute(
        insert(card_refunds).values(
            refund_id=uuid7(),
            payment_id=payment.id,
            amount_in_cents=event.amount.amount_in_cents,
            currency=event.amount.currency,
            reason=RefundReason.DASHBOARD,
            state=CardRefundState.DONE if is_done else CardRefundState.FAILED,
            provider_reference=event.about,
            created_at=now,
            updated_at=now,
        )
    )
    if not is_done:
        return WebhookOutcome.NOTED
    count_refunded(connection, payment, event.amount.amount_in_cents, now)
    return _take_back(connection, locked, event, event.about, now)


def _take_back(
    connection: Connection, locked: Locked, event: ProviderEvent, about: str, now: datetime
) -> WebhookOutcome:
    if locked.order is not None and locked.order.state in _CAME_TO_NOTHING:
        # The attendee has nothing for this money, and it is going back to them anyway.
        return WebhookOutcome.NOTED
    take_back(connection, locked.payment, event.amount, about, now)
    return WebhookOutcome.TAKEN_BACK


def _keep_disputed(
    connection: Connection, payment_id: UUID, disputed_in_cents: int, now: datetime
) -> None:
    connection.execute(
        update(payments)
        .where(payments.c.id == payment_id)
        .values(disputed_in_cents=disputed_in_cents, updated_at=now)
    )
