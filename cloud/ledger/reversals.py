"""What of a sale may be given back, until when, by whom alone; and the posting that does it."""

from datetime import datetime, timedelta
from typing import Final

import msgspec

from cloud.ledger.decisions import ApprovalCause
from cloud.ledger.facts import PostedSale, RefundTerms
from cloud.ledger.postings import Direction, Posting, TransactionType
from cloud.ledger.receipts import short_code
from protocol.ids import CorrelationId, DeviceId, IdempotencyKey, StaffId, TransactionId
from protocol.messages import Reason
from protocol.money import Money

AFTER_THE_END: Final = timedelta(days=14)
"""How long after its end an event gives back, where it names no deadline of its own."""
AFTER_THE_SALE: Final = timedelta(days=60)
"""The same for an event that has no end."""


class Refundable(msgspec.Struct, frozen=True):
    """A refund against which nothing speaks; where there is a cause, not by one person alone."""

    amount: Money
    cause: ApprovalCause | None


def judge_refund(
    sale: PostedSale, terms: RefundTerms, amount: Money | None, at: datetime
) -> Refundable | Reason:
    """Whether this much of the sale may be given back now (`amount` None: all that is left).

    What was given back before counts towards the staff limit: two halves are no way around it.
    """
    wanted = Money(sale.left_in_cents, sale.amount.currency) if amount is None else amount
    if wanted.currency != sale.amount.currency:
        return Reason.WRONG_CURRENCY
    if sale.left_in_cents <= 0:
        return Reason.NOTHING_LEFT
    if wanted.amount_in_cents <= 0:
        return Reason.AMOUNT_NOT_POSITIVE
    if wanted.amount_in_cents > sale.left_in_cents:
        return Reason.OVER_WHAT_IS_LEFT
    if at > _deadline(sale, terms):
        return Reason.REFUND_DEADLINE_PASSED
    if at > sale.sold_at + timedelta(seconds=terms.window_s):
        return Refundable(wanted, ApprovalCause.WINDOW_OVER)
    given_back = sale.amount.amount_in_cents - sale.left_in_cents
    if given_back + wanted.amount_in_cents > terms.staff_limit_in_cents:
        return Refundable(wanted, ApprovalCause.OVER_STAFF_LIMIT)
    return Refundable(wanted, None)


def reversal(
    sale: PostedSale,
    amount: Money,
    *,
    transaction_id: TransactionId,
    idempotency_key: IdempotencyKey,
    correlation_id: CorrelationId,
    at: datetime,
    created_by: str,
    device_id: DeviceId | None,
    staff_id: StaffId | None,
) -> Posting:
    """The refund that gives this much of the sale back to the wallet that paid it."""
    assert amount.amount_in_cents <= sale.left_in_cents, "more than is left of the sale"
    return Posting(
        id=transaction_id,
        user_id=sale.user_id,
        type=TransactionType.REFUND,
        direction=Direction.IN,
        amount=amount,
        reference=short_code(sale.transaction_id),
        idempotency_key=idempotency_key,
        correlation_id=correlation_id,
        created_at=at,
        created_by=created_by,
        reversal_of=sale.transaction_id,
        event_id=sale.event_id,
        stall_id=sale.stall_id,
        device_id=device_id,
        staff_id=staff_id,
    )


def _deadline(sale: PostedSale, terms: RefundTerms) -> datetime:
    if terms.deadline is not None:
        return terms.deadline
    if terms.ends_at is not None:
        return terms.ends_at + AFTER_THE_END
    return sale.sold_at + AFTER_THE_SALE
