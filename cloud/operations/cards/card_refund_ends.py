"""How a card refund ends: done, or failed for good; once, whoever tells it."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select, update

from cloud.operations.cards.card_payments import Locked, WebhookOutcome
from cloud.operations.cards.card_postings import put_back, was_taken_back
from cloud.operations.cards.card_refunds import (
    UNDER_WAY,
    CardRefundState,
    RefundReason,
    count_refunded,
    refundable_in_cents,
)
from cloud.operations.cash_outs.cash_out_ending import end_cash_out
from cloud.payments.provider import RefundState, RefundStatus
from cloud.store.tables import card_refunds, cash_outs, payments
from protocol.money import Money


def end_card_refund(
    connection: Connection, locked: Locked, refund: Row[Any], said: RefundStatus, now: datetime
) -> WebhookOutcome:
    """Keep what the provider says of a refund, and do what follows from it, once.

    The payment's row is locked. What failed stays failed; what was done may come back from the
    card's bank (then it has failed after all).
    """
    state = CardRefundState(refund.state)
    match said.state:
        case RefundState.PENDING if state is CardRefundState.ASKED:
            _keep(
                connection,
                refund,
                CardRefundState.PENDING,
                said,
                now,
                next_try_at=refund.next_try_at,
            )
            return WebhookOutcome.NOTED
        case RefundState.DONE if state in UNDER_WAY:
            _keep(connection, refund, CardRefundState.DONE, said, now)
            count_refunded(connection, locked.payment, refund.amount_in_cents, now)
            if refund.cash_out_id is not None:
                end_cash_out(connection, refund.cash_out_id, now)
            return WebhookOutcome.REFUND_ENDED
        case RefundState.FAILED if state in UNDER_WAY:
            _keep(connection, refund, CardRefundState.FAILED, said, now)
            return _make_good(connection, locked.payment, refund, now)
        case RefundState.FAILED if state is CardRefundState.DONE:
            _keep(connection, refund, CardRefundState.FAILED, said, now)
            count_refunded(connection, locked.payment, -refund.amount_in_cents, now)
            return _make_good(connection, _reread(connection, locked.payment), refund, now)
        case _:
            return WebhookOutcome.KNOWN_ALREADY


def _make_good(
    connection: Connection, payment: Row[Any], refund: Row[Any], now: datetime
) -> WebhookOutcome:
    """It never reached the card, or came back from there: the attendee has Credits instead."""
    amount = Money(refund.amount_in_cents, refund.currency)
    about = refund.provider_reference or str(refund.refund_id)
    match RefundReason(refund.reason):
        case RefundReason.CASH_OUT:
            cash_out = connection.execute(
                select(cash_outs)
                .where(cash_outs.c.cash_out_id == refund.cash_out_id)
                .with_for_update()
            ).one()
            if cash_out.ended_at is None:
                end_cash_out(connection, refund.cash_out_id, now)
                return WebhookOutcome.REFUND_ENDED
        case RefundReason.DASHBOARD:
            if not was_taken_back(connection, payment, about):
                return WebhookOutcome.NOTED
        case RefundReason.CLOSED_ORDER | RefundReason.CANCELLED_ORDER:
            # Somebody may have given it back in the dashboard meanwhile, which is why this failed.
            left = refundable_in_cents(connection, payment)
            if left == 0:
                return WebhookOutcome.REFUND_ENDED
            amount = min(amount, Money(left, refund.currency))
    put_back(connection, payment, amount, about, now)
    return WebhookOutcome.PUT_BACK


def _keep(
    connection: Connection,
    refund: Row[Any],
    state: CardRefundState,
    said: RefundStatus,
    now: datetime,
    *,
    next_try_at: datetime | None = None,
) -> None:
    connection.execute(
        update(card_refunds)
        .where(card_refunds.c.refund_id == refund.refund_id)
        .values(
            state=state,
            provider_reference=said.reference or refund.provider_reference,
            next_try_at=next_try_at,
            updated_at=now,
        )
    )


def _reread(connection: Connection, payment: Row[Any]) -> Row[Any]:
    return connection.execute(select(payments).where(payments.c.id == payment.id)).one()
