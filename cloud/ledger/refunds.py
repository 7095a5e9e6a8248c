"""A refund at a stall: by its key, then by where it is asked, then by the sale it names."""

import msgspec

from cloud.ledger.approvals import judge_approval
from cloud.ledger.book import Book
from cloud.ledger.decisions import Decision, Reversed, WantedApproval, same_answer
from cloud.ledger.facts import (
    AskedApproval,
    DeviceKey,
    KeyState,
    KnownKey,
    PostedRefund,
    PostedSale,
    Presented,
    StaffSession,
)
from cloud.ledger.judging import judge_place
from cloud.ledger.receipts import short_code
from cloud.ledger.reversals import Refundable, judge_refund, reversal
from protocol.ids import TransactionId
from protocol.messages import Declined, Reason, Refund, Refunded
from protocol.money import Money


def decide_refund(book: Book, presented: Presented, request: Refund) -> Decision:
    """Give back what may be given back, once; a key that stands for anything else is no refund's.

    A refund's key is never cancelled: an unanswered one is asked again until it is answered.
    """
    known = book.known((request.device, request.idempotency_key))
    if known is not None:
        if known.state is KeyState.ANSWERED and known.digest == presented.digest:
            return same_answer(known)
        return Decision(answer=Declined(Reason.KEY_REUSED), about=_name(request))
    session = judge_place(book, presented, request)
    if isinstance(session, Reason):
        return _decline(presented, request, session)
    sale = find_sale(book, request, session)
    if isinstance(sale, Reason):
        return _decline(presented, request, sale, session)
    judged = judge_refund(
        sale, book.refund_terms(session.event_id), request.amount, presented.arrived_at
    )
    if isinstance(judged, Reason):
        return _decline(presented, request, judged, session, sale)
    if request.approval_id is not None:
        reason = judge_approval(
            book.approval(request.approval_id),
            sale=sale,
            amount=judged.amount,
            device_id=request.device,
            asked_by=_asker(session),
            at=presented.arrived_at,
        )
        if reason is not None:
            return _decline(presented, request, reason, session, sale)
    elif judged.cause is not None:
        return _ask_a_supervisor(
            book, presented, request, session=session, sale=sale, judged=judged
        )
    return _give_back(book, presented, request, session=session, sale=sale, amount=judged.amount)


def find_sale(book: Book, request: Refund, session: StaffSession) -> PostedSale | Reason:
    """The sale by its own name, where it stands in the ledger and belongs to this stall."""
    key = _name(request)
    if book.is_under_review(key):
        return Reason.SALE_UNDER_REVIEW
    known = book.known(key)
    if known is None or known.sale is None:
        return Reason.SALE_UNKNOWN
    if (known.sale.event_id, known.sale.stall_id) != (session.event_id, session.stall_id):
        return Reason.SALE_ELSEWHERE
    return known.sale


def _give_back(
    book: Book,
    presented: Presented,
    request: Refund,
    *,
    session: StaffSession,
    sale: PostedSale,
    amount: Money,
) -> Decision:
    transaction_id = TransactionId(presented.fresh_id)
    left_in_cents = sale.left_in_cents - amount.amount_in_cents
    posting = reversal(
        sale,
        amount,
        transaction_id=transaction_id,
        idempotency_key=request.idempotency_key,
        correlation_id=request.correlation,
        at=presented.arrived_at,
        created_by=_asker(session),
        device_id=request.device,
        staff_id=session.staff_id,
    )
    answer = Refunded(
        transaction_id=transaction_id,
        amount=amount,
        left_in_cents=left_in_cents,
        balance=book.wallet(sale.user_id, amount.currency).balance + amount,
        code=short_code(transaction_id),
        at_ms=round(presented.arrived_at.timestamp() * 1000),
    )
    refund = PostedRefund(transaction_id, sale.user_id)
    return Decision(
        answer=answer,
        key=KnownKey(KeyState.ANSWERED, presented.digest, answer, refund=refund),
        posting=posting,
        reversed=Reversed(_name(request), left_in_cents),
        approval_used=request.approval_id,
        about=_name(request),
        user_id=sale.user_id,
        staff_id=session.staff_id,
    )


def _ask_a_supervisor(
    book: Book,
    presented: Presented,
    request: Refund,
    *,
    session: StaffSession,
    sale: PostedSale,
    judged: Refundable,
) -> Decision:
    """Declined here; a supervisor grants it in the console, or at the appliance for a new key."""
    assert judged.cause is not None, "nobody is asked without a cause"
    decision = _decline(presented, request, Reason.APPROVAL_NEEDED, session, sale)
    asked = AskedApproval(
        sale.transaction_id, judged.amount.amount_in_cents, asked_by=_asker(session)
    )
    if book.is_waiting(asked):
        return decision
    wanted = WantedApproval(presented.fresh_id, judged.cause, sale, judged.amount, _asker(session))
    return msgspec.structs.replace(decision, wanted=wanted)


def _decline(
    presented: Presented,
    request: Refund,
    reason: Reason,
    session: StaffSession | None = None,
    sale: PostedSale | None = None,
) -> Decision:
    answer = Declined(reason)
    return Decision(
        answer=answer,
        key=KnownKey(KeyState.ANSWERED, presented.digest, answer),
        about=_name(request),
        user_id=None if sale is None else sale.user_id,
        staff_id=None if session is None else session.staff_id,
    )


def _asker(session: StaffSession) -> str:
    return f"staff:{session.staff_id}"


def _name(request: Refund) -> DeviceKey:
    return request.sale.device, request.sale.idempotency_key
