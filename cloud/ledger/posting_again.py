"""What a restored database lost is posted again, on the strength of the cloud's signed reply."""

from datetime import UTC, datetime
from typing import Final

import msgspec

from cloud.ledger.decisions import SpentToken
from cloud.ledger.facts import KeyState, KnownKey, PostedSale
from cloud.ledger.postings import Direction, Posting, TransactionType
from cloud.ledger.receipts import short_code
from protocol.ids import (
    EventId,
    StaffId,
    StallId,
    TokenId,
    TransactionId,
    UserId,
)
from protocol.messages import Approved, PostedOffline, Reason, Reply, Resubmission, SaleContent

TOKEN_LIFETIME_MAX_S: Final = 120


class PostedAgain(msgspec.Struct, frozen=True):
    """The sale as it stood: under its old id, at its old time."""

    posting: Posting
    key: KnownKey
    spent: SpentToken


def read_proof(request: Resubmission, reply: Reply) -> Approved | PostedOffline | Reason:
    """What the cloud said of this very sale, where the reply is about it and posted it."""
    is_its_own = (reply.device_id, reply.key) == (request.device_id, request.key)
    if not is_its_own or not isinstance(reply.outcome, Approved | PostedOffline):
        return Reason.PROOF_IS_OF_ANOTHER
    if not reply.outcome.payer_id:
        return Reason.UNKNOWN_PAYER
    return reply.outcome


def post_again(
    request: Resubmission,
    proof: Approved | PostedOffline,
    user_id: UserId,
    staff_id: StaffId | None,
) -> PostedAgain:
    """Without asking for funds, limits or the clock: all that was judged when it was signed."""
    at = datetime.fromtimestamp(proof.at_ms / 1000, UTC)
    is_offline = isinstance(proof, PostedOffline)
    posting = Posting(
        id=TransactionId(proof.transaction_id),
        user_id=user_id,
        type=TransactionType.DEDUCT,
        direction=Direction.OUT,
        amount=proof.amount,
        reference=short_code(TransactionId(proof.transaction_id)),
        idempotency_key=request.idempotency_key,
        correlation_id=request.correlation,
        created_at=at,
        created_by=f"device:{request.device_id}" if staff_id is None else f"staff:{staff_id}",
        event_id=EventId(request.event_id),
        stall_id=StallId(request.stall_id),
        device_id=request.device,
        staff_id=staff_id,
        lines=request.lines,
        accepted_offline_at=at if is_offline else None,
    )
    content = SaleContent(
        request.event_id, request.stall_id, proof.amount, request.lines, proof.token_id
    )
    sale = PostedSale(
        transaction_id=posting.id,
        user_id=user_id,
        amount=posting.amount,
        left_in_cents=posting.amount.amount_in_cents,
        event_id=posting.event_id,
        stall_id=posting.stall_id,
        staff_id=staff_id,
        sold_at=at,
    )
    state = KeyState.POSTED_OFFLINE if is_offline else KeyState.APPROVED
    # The token's own expiry is not in the reply; it was no later than this.
    spent = SpentToken(user_id, TokenId(proof.token_id), proof.at_ms // 1000 + TOKEN_LIFETIME_MAX_S)
    return PostedAgain(posting, KnownKey(state, content.digest(), proof, sale), spent)
