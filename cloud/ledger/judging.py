"""Everything after the key look-up: whether a sale no one has decided yet may be posted."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import msgspec

from cloud.ledger.book import Book
from cloud.ledger.decisions import ReviewCause
from cloud.ledger.facts import Appliance, Presented, StaffSession
from cloud.ledger.postings import Wallet
from protocol.ids import EventId, SessionId, StallId
from protocol.messages import BalanceRequest, Deduct, OfflineAcceptance, Reason, Refund
from protocol.policy import OfflineRules
from protocol.wallet_qr import QrRefusal, WalletToken, check_time

UPLOAD_AGE_MAX: Final = timedelta(hours=24)
"""An offline acceptance that is older goes to the review list (docs/rules.md, offline sales)."""


class Payer(msgspec.Struct, frozen=True):
    """Who pays: the token they showed and the wallet it opens."""

    token: WalletToken
    wallet: Wallet


class Cleared(msgspec.Struct, frozen=True):
    """A sale against which nothing speaks but, perhaps, the balance."""

    payer: Payer
    session: StaffSession


def judge_deduct(book: Book, presented: Presented, request: Deduct) -> Cleared | Reason:
    """By what counts now: the appliance, the session, the policy, the clock, the QR."""
    session = judge_place(book, presented, request)
    if isinstance(session, Reason):
        return session
    reason = _judge_amount(book, request, session.event_id)
    if reason is not None:
        return reason
    payer = _find_payer(book, presented, session.event_id, presented.arrived_at.timestamp())
    if isinstance(payer, Reason):
        return payer
    if book.is_spent(payer.wallet.user_id, payer.token.token_id):
        return Reason.TOKEN_ALREADY_USED
    return Cleared(payer, session)


def judge_place(
    book: Book, presented: Presented, request: Deduct | Refund
) -> StaffSession | Reason:
    """Whether this appliance may act here and now, for whoever is signed in there."""
    session = _standing_session(book, presented, request)
    if isinstance(session, Reason):
        return session
    if (request.event_id, request.stall_id) != (session.event_id, session.stall_id):
        return Reason.DEVICE_ELSEWHERE
    policy = book.policy(request.device, request.policy_version)
    if policy is None or (policy.event_id, policy.stall_id) != (session.event_id, session.stall_id):
        return Reason.POLICY_UNKNOWN
    if presented.arrived_at.timestamp() * 1000 > policy.expires_at_ms:
        return Reason.POLICY_EXPIRED
    return session


def judge_balance(book: Book, presented: Presented, request: BalanceRequest) -> Cleared | Reason:
    """As for a deduct, without an amount.

    A QR that was used shows nothing: a photographed one must not tell anybody's balance.
    """
    session = _standing_session(book, presented, request)
    if isinstance(session, Reason):
        return session
    payer = _find_payer(book, presented, session.event_id, presented.arrived_at.timestamp())
    if isinstance(payer, Reason):
        return payer
    if book.is_spent(payer.wallet.user_id, payer.token.token_id):
        return Reason.TOKEN_ALREADY_USED
    return Cleared(payer, session)


def judge_offline(
    book: Book, presented: Presented, request: OfflineAcceptance
) -> Cleared | Reason | ReviewCause:
    """By what the acceptance records; what happened since (sign-out, expiry, a move, a new
    policy) refuses nothing, for the goods are gone. A reason sends it to the review list."""
    shut_out = book.why_shut_out(presented)
    if shut_out is not None:
        return shut_out
    session = book.session(request.session)
    if session is None or session.device_id != request.device:
        return Reason.SESSION_UNKNOWN
    if (request.event_id, request.stall_id) != (session.event_id, session.stall_id):
        return Reason.DEVICE_ELSEWHERE
    policy = book.policy(request.device, request.policy_version)
    if policy is None or (policy.event_id, policy.stall_id) != (session.event_id, session.stall_id):
        return Reason.POLICY_UNKNOWN
    rules: OfflineRules = policy.offline
    if not rules.allowed:
        return Reason.OFFLINE_NOT_ALLOWED
    reason = _judge_amount(book, request, session.event_id)
    if reason is not None:
        return reason
    if request.amount.amount_in_cents > min(rules.sale_max_in_cents, policy.sale_max_in_cents):
        return Reason.AMOUNT_OVER_LIMIT
    payer = _find_payer(book, presented, session.event_id, request.scanned_at_ms / 1000)
    if isinstance(payer, Reason):
        return payer
    accepted_at_s = request.accepted_at_ms / 1000
    if presented.arrived_at.timestamp() - accepted_at_s > UPLOAD_AGE_MAX.total_seconds():
        return ReviewCause.UPLOAD_TOO_OLD
    return Cleared(payer, session)


def _standing_session(
    book: Book, presented: Presented, request: Deduct | BalanceRequest | Refund
) -> StaffSession | Reason:
    return judge_session(
        book.appliance(request.device),
        book.session(SessionId(request.session_id)),
        shut_out=book.why_shut_out(presented),
        has_ended=book.has_ended,
        at=presented.arrived_at,
    )


def judge_session(
    appliance: Appliance,
    session: StaffSession | None,
    *,
    shut_out: Reason | None,
    has_ended: Callable[[StaffSession], bool],
    at: datetime,
) -> StaffSession | Reason:
    """The staff session, where it is this appliance's own and goes on here and now."""
    if shut_out is not None:
        return shut_out
    if session is None or session.device_id != appliance.device_id:
        return Reason.SESSION_UNKNOWN
    if has_ended(session):
        return Reason.SESSION_ENDED
    if at >= session.expires_at:
        return Reason.SESSION_EXPIRED
    here: tuple[EventId | None, StallId | None] = (appliance.event_id, appliance.stall_id)
    if here != (session.event_id, session.stall_id):
        return Reason.DEVICE_ELSEWHERE
    if not session.staff_assigned:
        return Reason.STAFF_NOT_ASSIGNED
    return session


def _judge_amount(
    book: Book, request: Deduct | OfflineAcceptance, event_id: EventId
) -> Reason | None:
    terms = book.event(event_id)
    if request.amount.currency != terms.currency:
        return Reason.WRONG_CURRENCY
    if request.amount.amount_in_cents <= 0:
        return Reason.AMOUNT_NOT_POSITIVE
    if request.amount.amount_in_cents > terms.sale_max_in_cents:
        return Reason.AMOUNT_OVER_LIMIT
    total_in_cents = sum(line.total_in_cents for line in request.lines)
    if request.lines and total_in_cents != request.amount.amount_in_cents:
        return Reason.LINES_DO_NOT_ADD_UP
    return None


def _find_payer(
    book: Book, presented: Presented, event_id: EventId, scanned_at_s: float
) -> Payer | Reason:
    qr = presented.qr
    assert qr is not None, "a sale's QR is checked before the batch"
    if isinstance(qr, QrRefusal):
        return Reason(qr.value)
    if qr.event_id != event_id:
        return Reason.TOKEN_OTHER_EVENT
    refusal = check_time(qr.token, scanned_at_s)
    if refusal is not None:
        return Reason(refusal.value)
    user_id = book.payer(qr.token.payer_id)
    if user_id is None:
        return Reason.UNKNOWN_PAYER
    return Payer(qr.token, book.wallet(user_id, book.event(event_id).currency))
