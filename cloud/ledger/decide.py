"""The decision: a fold over a batch, and docs/rules.md's table of keys and outcomes in one file."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import assert_never

import msgspec

from cloud.ledger.book import Book
from cloud.ledger.decisions import (
    Decision,
    Flag,
    QuarantineCause,
    Review,
    ReviewCause,
    Seen,
    SpentToken,
    same_answer,
)
from cloud.ledger.facts import Facts, KeyState, KnownKey, PostedSale, Presented, Resending
from cloud.ledger.journals import Placed, doubt_entry, hear_journal
from cloud.ledger.judging import Cleared, judge_balance, judge_deduct, judge_offline
from cloud.ledger.postings import Direction, Posting, TransactionType, Wallet
from cloud.ledger.receipts import short_code
from cloud.ledger.refunds import decide_refund
from cloud.ledger.reversals import reversal
from protocol.ids import CorrelationId, EventId, SessionId, StallId, TransactionId, UserId
from protocol.messages import (
    Approved,
    BalanceRequest,
    BalanceShown,
    Cancel,
    Cancelled,
    Declined,
    Deduct,
    Heartbeat,
    HeartbeatAnswered,
    JournalPosition,
    OfflineAcceptance,
    PostedOffline,
    Reason,
    Refund,
    Resend,
    SignedOut,
    SignOut,
    UnderReview,
)
from protocol.money import Money


class Decided(msgspec.Struct, frozen=True):
    """A batch's decisions, in its order, and its wallets as they stand after the last."""

    decisions: list[Decision]
    wallets: Mapping[tuple[UserId, str], Wallet]


def decide_batch(facts: Facts, batch: Sequence[Presented]) -> Decided:
    """Decide the requests one after the other, as if each had come alone."""
    book = Book(facts)
    decisions: list[Decision] = []
    for presented in batch:
        decision = _decide(book, presented)
        book.enter(presented, decision)
        decisions.append(decision)
    return Decided(decisions, book.wallets)


def _decide(book: Book, presented: Presented) -> Decision:
    doubt = _doubt(book, presented)
    if doubt is None:
        return _answer(book, presented)
    book.quarantine(presented.request.device)
    return msgspec.structs.replace(_answer(book, presented), quarantine=doubt)


def _doubt(book: Book, presented: Presented) -> QuarantineCause | None:
    """What this request says of its journal that no honest appliance can say."""
    request = presented.request
    appliance = book.appliance(request.device)
    if book.why_shut_out(presented) is not None:
        return None
    if isinstance(request, Heartbeat):
        return hear_journal(appliance, request).doubt
    if isinstance(request, Placed):
        key = request.idempotency_key
        entry = (request.device, request.journal.epoch, request.entry)
        is_known = book.known((request.device, key)) is not None
        others = book.others_at(entry, key)
        return doubt_entry(appliance, request, is_known=is_known, others=others)
    return None


def _answer(book: Book, presented: Presented) -> Decision:
    match presented.request:
        case Deduct() as request:
            return _decide_deduct(book, presented, request)
        case OfflineAcceptance() as request:
            return _decide_offline(book, presented, request)
        case Cancel() as request:
            return _decide_cancel(book, presented, request)
        case Refund() as request:
            return decide_refund(book, presented, request)
        case BalanceRequest() as request:
            return _show_balance(book, presented, request)
        case SignOut() as request:
            return _sign_out(book, request)
        case Heartbeat() as request:
            return _answer_heartbeat(book, presented, request)
        case _:
            assert_never(presented.request)


def _decide_deduct(book: Book, presented: Presented, request: Deduct) -> Decision:
    known = book.known((request.device, request.idempotency_key))
    if known is None:
        return _deduct(book, presented, request)
    same_content = known.digest == presented.digest
    match known.state:
        case KeyState.CANCELLED:
            return same_answer(known)
        case KeyState.APPROVED | KeyState.DECLINED | KeyState.POSTED_OFFLINE if same_content:
            return same_answer(known)
        case KeyState.REVIEW if same_content or known.digest is None:
            return same_answer(known)
        case (
            KeyState.APPROVED
            | KeyState.DECLINED
            | KeyState.POSTED_OFFLINE
            | KeyState.REVIEW
            | KeyState.ANSWERED
        ):
            return Decision(answer=Declined(Reason.KEY_REUSED))
        case _:
            assert_never(known.state)


def _decide_cancel(book: Book, presented: Presented, request: Cancel) -> Decision:
    device_key = (request.device, request.idempotency_key)
    known = book.known(device_key)
    if known is not None and known.state in {KeyState.CANCELLED, KeyState.REVIEW}:
        return same_answer(known)
    if known is not None and known.state is KeyState.ANSWERED:
        return Decision(answer=Declined(Reason.KEY_REUSED))
    in_review = book.review_of(device_key)
    if in_review is not None:
        # The entry ends in exactly one of post, reverse or write off: nothing may race with that.
        return Decision(answer=UnderReview(in_review), flags=(Flag.SAME_ANSWER,))
    shut_out = book.why_shut_out(presented)
    if shut_out is not None:
        sale = None if known is None else known.sale
        return _send_to_review(
            book,
            presented,
            shut_out,
            user_id=None if sale is None else sale.user_id,
            amount=None if sale is None else sale.amount,
        )
    digest = None if known is None else known.digest
    if known is None or known.sale is None or known.sale.left_in_cents == 0:
        answer = Cancelled(None)
        sale = None if known is None else known.sale
        return Decision(answer=answer, key=KnownKey(KeyState.CANCELLED, digest, answer, sale))
    return _reverse(presented, request, known, known.sale)


def _decide_offline(book: Book, presented: Presented, request: OfflineAcceptance) -> Decision:
    device_key = (request.device, request.idempotency_key)
    known = book.known(device_key)
    if known is None:
        return _post_offline(book, presented, request, ())
    in_review = book.review_of(device_key)
    same_content = known.digest == presented.digest
    match known.state:
        case KeyState.APPROVED | KeyState.POSTED_OFFLINE if same_content:
            return same_answer(known)
        case KeyState.DECLINED if same_content and in_review is None:
            return _post_offline(book, presented, request, (Flag.DECLINED_BEFORE,))
        case KeyState.CANCELLED:
            reason = ReviewCause.CANCELLED_BEFORE
        case (
            KeyState.APPROVED
            | KeyState.DECLINED
            | KeyState.POSTED_OFFLINE
            | KeyState.REVIEW
            | KeyState.ANSWERED
        ):
            reason = Reason.KEY_REUSED
        case _:
            assert_never(known.state)
    if in_review is not None:
        return Decision(answer=UnderReview(in_review), flags=(Flag.SAME_ANSWER,))
    return _send_to_review(book, presented, reason, amount=request.amount)


def _deduct(book: Book, presented: Presented, request: Deduct) -> Decision:
    judged = judge_deduct(book, presented, request)
    if isinstance(judged, Reason):
        return _decline(presented, Declined(judged))
    wallet = judged.payer.wallet
    if wallet.balance < request.amount:
        answer = Declined(Reason.INSUFFICIENT_FUNDS, wallet.balance)
        return _decline(presented, answer, judged)
    transaction_id = TransactionId(presented.fresh_id)
    code = short_code(transaction_id)
    posting = _sale_posting(presented, request, judged, code)
    answer = Approved(
        transaction_id=transaction_id,
        amount=request.amount,
        balance=wallet.balance - request.amount,
        code=code,
        at_ms=_milliseconds(presented),
        payer_id=judged.payer.token.sub,
        token_id=judged.payer.token.jti,
    )
    return _posted(presented, KeyState.APPROVED, answer, posting, judged)


def _post_offline(
    book: Book, presented: Presented, request: OfflineAcceptance, flags: tuple[Flag, ...]
) -> Decision:
    judged = judge_offline(book, presented, request)
    if not isinstance(judged, Cleared):
        return _send_to_review(book, presented, judged, amount=request.amount)
    wallet = judged.payer.wallet
    amount_in_cents = request.amount.amount_in_cents
    short_in_cents = amount_in_cents - min(amount_in_cents, max(0, wallet.balance.amount_in_cents))
    seen_before = book.is_spent(wallet.user_id, judged.payer.token.token_id)
    transaction_id = TransactionId(presented.fresh_id)
    posting = _sale_posting(presented, request, judged, short_code(transaction_id))
    answer = PostedOffline(
        transaction_id=transaction_id,
        amount=request.amount,
        short_in_cents=short_in_cents,
        token_seen_before=seen_before,
        at_ms=_milliseconds(presented),
        payer_id=judged.payer.token.sub,
        token_id=judged.payer.token.jti,
    )
    if short_in_cents:
        flags = (*flags, Flag.SHORT)
    if seen_before:
        flags = (*flags, Flag.TOKEN_SEEN_BEFORE)
    return _posted(presented, KeyState.POSTED_OFFLINE, answer, posting, judged, flags=flags)


def _posted(
    presented: Presented,
    state: KeyState,
    answer: Approved | PostedOffline,
    posting: Posting,
    judged: Cleared,
    *,
    flags: tuple[Flag, ...] = (),
) -> Decision:
    token = judged.payer.token
    sale = PostedSale(
        posting.id,
        posting.user_id,
        posting.amount,
        posting.amount.amount_in_cents,
        posting.event_id,
        posting.stall_id,
        posting.staff_id,
        posting.accepted_offline_at or posting.created_at,
    )
    spent = SpentToken(posting.user_id, token.token_id, token.exp)
    return Decision(
        answer=answer,
        key=KnownKey(state, presented.digest, answer, sale),
        posting=posting,
        spent=None if Flag.TOKEN_SEEN_BEFORE in flags else spent,
        # One QR at two tills is no mishap: no till takes this wallet alone until somebody looked.
        freezes=Flag.TOKEN_SEEN_BEFORE in flags,
        flags=flags,
        user_id=posting.user_id,
        staff_id=posting.staff_id,
    )


def _reverse(presented: Presented, request: Cancel, known: KnownKey, sale: PostedSale) -> Decision:
    given_back = Money(sale.left_in_cents, sale.amount.currency)
    posting = reversal(
        sale,
        given_back,
        transaction_id=TransactionId(presented.fresh_id),
        idempotency_key=request.idempotency_key,
        correlation_id=CorrelationId(request.correlation_id),
        at=presented.arrived_at,
        created_by=f"device:{request.device_id}",
        device_id=request.device,
        staff_id=sale.staff_id,
    )
    answer = Cancelled(given_back)
    return Decision(
        answer=answer,
        key=KnownKey(
            KeyState.CANCELLED,
            known.digest,
            answer,
            msgspec.structs.replace(sale, left_in_cents=0),
        ),
        posting=posting,
        user_id=sale.user_id,
        staff_id=sale.staff_id,
    )


def _sale_posting(
    presented: Presented, request: Deduct | OfflineAcceptance, judged: Cleared, code: str
) -> Posting:
    return Posting(
        id=TransactionId(presented.fresh_id),
        user_id=judged.payer.wallet.user_id,
        type=TransactionType.DEDUCT,
        direction=Direction.OUT,
        amount=request.amount,
        reference=code,
        idempotency_key=request.idempotency_key,
        correlation_id=request.correlation,
        created_at=presented.arrived_at,
        created_by=f"staff:{judged.session.staff_id}",
        event_id=EventId(request.event_id),
        stall_id=StallId(request.stall_id),
        device_id=request.device,
        staff_id=judged.session.staff_id,
        lines=request.lines,
        accepted_offline_at=(
            accepted_at(request, presented.arrived_at)
            if isinstance(request, OfflineAcceptance)
            else None
        ),
    )


def accepted_at(request: OfflineAcceptance, arrived_at: datetime) -> datetime:
    """By the till's clock, which nobody vouches for: never after the upload arrived."""
    return datetime.fromtimestamp(
        min(request.accepted_at_ms / 1000, arrived_at.timestamp()), arrived_at.tzinfo
    )


def _decline(presented: Presented, answer: Declined, judged: Cleared | None = None) -> Decision:
    return Decision(
        answer=answer,
        key=KnownKey(KeyState.DECLINED, presented.digest, answer),
        user_id=None if judged is None else judged.payer.wallet.user_id,
        staff_id=None if judged is None else judged.session.staff_id,
    )


def _send_to_review(
    book: Book,
    presented: Presented,
    reason: Reason | ReviewCause,
    *,
    user_id: UserId | None = None,
    amount: Money | None = None,
) -> Decision:
    """A person judges; what the key stood for before stays as it was."""
    request = presented.request
    answer = UnderReview(presented.fresh_id)
    known = book.known((request.device, request.idempotency_key))
    event_id = request.event_id if isinstance(request, Cancel | OfflineAcceptance) else None
    return Decision(
        answer=answer,
        key=KnownKey(KeyState.REVIEW, presented.digest, answer) if known is None else None,
        review=Review(
            presented.fresh_id,
            reason,
            user_id,
            amount,
            None if event_id is None else EventId(event_id),
        ),
        user_id=user_id,
    )


def _show_balance(book: Book, presented: Presented, request: BalanceRequest) -> Decision:
    judged = judge_balance(book, presented, request)
    if isinstance(judged, Reason):
        return Decision(answer=Declined(judged))
    return Decision(
        answer=BalanceShown(judged.payer.wallet.balance),
        user_id=judged.payer.wallet.user_id,
        staff_id=judged.session.staff_id,
    )


def _sign_out(book: Book, request: SignOut) -> Decision:
    """Never refused for a session of one's own: ending what has ended changes nothing."""
    session = book.session(SessionId(request.session_id))
    if session is None or session.device_id != request.device:
        return Decision(answer=Declined(Reason.SESSION_UNKNOWN))
    has_ended = book.has_ended(session)
    return Decision(
        answer=SignedOut(request.session_id),
        ended=None if has_ended else session.session_id,
        flags=(Flag.SAME_ANSWER,) if has_ended else (),
        staff_id=session.staff_id,
    )


def _over(book: Book, request: Heartbeat) -> str | None:
    """The session that the appliance believes in, where it was ended, or its holder's place taken.

    One that nobody knows may have been lost with a backup: of that, only a sale is told.
    """
    if request.session_id is None:
        return None
    session = book.session(SessionId(request.session_id))
    if session is None or session.device_id != request.device:
        return None
    return request.session_id if book.has_ended(session) or not session.staff_assigned else None


def _answer_heartbeat(book: Book, presented: Presented, request: Heartbeat) -> Decision:
    shut_out = book.why_shut_out(presented)
    if shut_out is Reason.DEVICE_REVOKED:
        return Decision(answer=Declined(shut_out))
    said = Seen(
        at=presented.arrived_at,
        journal=None,
        policy_acked=None,
        firmware=request.firmware,
        printer=request.printer,
        queue=request.queue,
        temperature_c=request.temperature_c,
        clock=request.clock,
        last_sale_ms=request.last_sale_ms,
        queue_in_cents=request.queue_in_cents,
        uptime_s=request.uptime_s,
        system=None if request.system is msgspec.UNSET else request.system,
    )
    if shut_out is not None:
        # Not as if all were well: whoever hears that goes on selling offline.
        return Decision(answer=Declined(shut_out), seen=said)
    appliance = book.appliance(request.device)
    newest = appliance.policy_version
    heard = hear_journal(appliance, request)
    resend = appliance.resend
    has_resent = resend is not None and request.resent_for == resend.restore_id
    told = book.told(presented)
    flags: tuple[Flag, ...] = (Flag.JOURNAL_NEW_EPOCH,) if heard.begins_epoch else ()
    return Decision(
        answer=HeartbeatAnswered(
            _milliseconds(presented),
            newest,
            resend=None if resend is None or has_resent else _asked_again(resend, request.journal),
            denied=told.denied,
            wallet_keys=told.wallet_keys,
            journal_known=heard.known,
            session_over=_over(book, request),
        ),
        flags=flags if heard.known is None else (Flag.JOURNAL_BEHIND,),
        left=appliance.journal if heard.begins_epoch else None,
        seen=msgspec.structs.replace(
            said,
            journal=heard.journal,
            journal_left=heard.left,
            settled_by=heard.settled_by,
            # It cannot have journaled what was never issued.
            policy_acked=None if heard.known else min(request.policy_version, newest),
            has_resent=has_resent,
        ),
    )


def _asked_again(resend: Resending, journal: JournalPosition) -> Resend:
    """A journal that the backup did not know is said again whole."""
    from_entry = resend.from_entry if resend.epoch == journal.epoch else 0
    return Resend(resend.restore_id, from_entry)


def _milliseconds(presented: Presented) -> int:
    return round(presented.arrived_at.timestamp() * 1000)
