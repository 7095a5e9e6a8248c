"""A supervisor's word on a refund: badge and PIN, for exactly this sale and amount, once."""

from device.till.contents import AskToApprove
from device.till.effects import Effects, Journal, Note, Print
from device.till.events import Now, ReplyArrived
from device.till.inquiring import SESSION_IS_OVER, end_session, inquire, is_answer_to
from device.till.notices import refusal_slip
from device.till.outbox import hear, ignored
from device.till.refunding import SUPERVISOR_WAIT_S, open_refund
from device.till.resting import Step, decline, show_fault
from device.till.signals import Sound
from device.till.states import (
    ApprovalOf,
    Inquiring,
    KeyingPin,
    RefundWanted,
    SupervisorWanted,
    Till,
)
from device.till.wording import sentence_of
from protocol.messages import ApprovalGranted, Declined, Reason

ANOTHER_TRY_HELPS = frozenset(
    {
        Reason.BADGE_INVALID,
        Reason.PIN_WRONG,
        Reason.PIN_NOT_SET,
        Reason.PIN_CHOICE_OVER,
        Reason.LOCKED_OUT,
        Reason.SIGN_IN_STALE,
        Reason.NOT_A_SUPERVISOR,
        Reason.SAME_PERSON,
        Reason.STAFF_NOT_ASSIGNED,
    }
)
"""The refund is as wanted as before; another badge, or the same one again, may approve it."""


def ask_to_approve(till: Till, phase: KeyingPin, wanted: RefundWanted, now: Now) -> Step:
    """The PIN leaves the state here; from now on only the sealed request knows it."""
    session, terms = till.session, till.terms
    assert session is not None, "somebody is signed in"
    assert terms is not None, "somebody is signed in, so there is a policy"
    content = AskToApprove(
        key=now.fresh_key,
        session_id=session.session_id,
        event_id=terms.policy.event_id,
        stall_id=terms.policy.stall_id,
        sale=wanted.sale,
        amount=wanted.amount,
        badge=phase.badge,
        pin=phase.pin,
    )
    return inquire(till, content, ApprovalOf(wanted), now, Sound.CLICK)


def hear_approval(
    till: Till, phase: Inquiring, about: ApprovalOf, event: ReplyArrived, now: Now
) -> Step:
    if not is_answer_to(phase, event):
        return till, (ignored(event),)
    till = hear(till, now.monotonic_s)
    match event.reply.outcome:
        case ApprovalGranted(approval_id=approval_id, amount=amount):
            # The refund that was refused stays refused: this is another, under a new key.
            granted = RefundWanted(about.wanted.sale, amount)
            return open_refund(till, granted, now, approval_id)
        case Declined(reason=reason):
            return _refuse(till, about.wanted, reason, now)
        case _:
            return till, (ignored(event),)


def give_up_approval(till: Till, phase: Inquiring, now: Now) -> Step:
    """No reply in time. An approval nobody heard of runs out by itself: nothing was given back."""
    till, effects = show_fault(till, now.monotonic_s)
    return till, (*effects, Note("no_reply", phase.key, phase.kind))


def _refuse(till: Till, wanted: RefundWanted, reason: Reason, now: Now) -> Step:
    terms = till.terms
    assert terms is not None, "somebody is signed in, so there is a policy"
    slip = Print(refusal_slip("Not approved", sentence_of(reason), terms, now.wall_ms))
    written: Effects = ()
    then = None
    if reason in ANOTHER_TRY_HELPS:
        then = SupervisorWanted(wanted, now.monotonic_s + SUPERVISOR_WAIT_S)
    elif reason in SESSION_IS_OVER:
        till, ended = end_session(till)
        written = (Journal((ended,)),)
    till, effects = decline(till, now.monotonic_s, reason.value, then=then)
    return till, (*written, *effects, slip)
