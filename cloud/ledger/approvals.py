"""Two people: whether what one granted lets the other do this, now, once."""

from datetime import datetime, timedelta
from typing import Final

from cloud.ledger.facts import Approval, ApprovalState, PostedSale
from protocol.ids import DeviceId
from protocol.messages import Reason
from protocol.money import Money

GRANTED_FOR: Final = timedelta(minutes=5)
"""How long an approval at an appliance may wait for its refund."""


def is_same_person(one: str, other: str) -> bool:
    """By the name behind the kind (`kind:id`): `staff:ana` at a till is `finance:ana` at a desk."""
    return one.partition(":")[2] == other.partition(":")[2]


def judge_approval(
    approval: Approval | None,
    *,
    sale: PostedSale,
    amount: Money,
    device_id: DeviceId,
    asked_by: str,
    at: datetime,
) -> Reason | None:
    """Why this approval does not allow this very refund; None: it does."""
    if (
        approval is None
        or approval.device_id != device_id
        or approval.sale_transaction_id != sale.transaction_id
        or approval.amount != amount
    ):
        return Reason.APPROVAL_UNKNOWN
    if approval.state is ApprovalState.USED:
        return Reason.APPROVAL_USED
    if approval.state is not ApprovalState.GRANTED:
        return Reason.APPROVAL_UNKNOWN
    if approval.expires_at is None or at >= approval.expires_at:
        return Reason.APPROVAL_EXPIRED
    if approval.decided_by is None or is_same_person(approval.decided_by, asked_by):
        return Reason.SAME_PERSON
    return None
