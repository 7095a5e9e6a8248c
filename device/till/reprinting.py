"""The last receipt once more (`D`): as the cloud knows it, or from the appliance's own memory."""

from device.till.contents import AskForLastReceipt
from device.till.effects import Effects, Journal, MakeSound, Note, Print, RecallOwn
from device.till.events import Now, OwnRecalled, ReplyArrived
from device.till.inquiring import SESSION_IS_OVER, end_session, inquire, is_answer_to
from device.till.notices import no_receipt_slip, own_shift_slip
from device.till.outbox import hear, ignored
from device.till.receipt import copy_of_own, copy_of_told
from device.till.resting import Step, is_online, rest
from device.till.shift import OwnWord
from device.till.signals import Sound
from device.till.states import Inquiring, LastReceiptOf, LeaveAsked, Till
from protocol.messages import Declined, LastReceipt, Reason


def want_last_receipt(till: Till, now: Now) -> Step:
    session = till.session
    assert session is not None, "somebody is signed in"
    if not is_online(till):
        recall = RecallOwn(OwnWord.LAST_RECEIPT, session.initials)
        return till, (MakeSound(Sound.SCANNED), recall)
    content = AskForLastReceipt(now.fresh_key, session.session_id)
    return inquire(till, content, LastReceiptOf(session.initials), now, Sound.CLICK)


def hear_last_receipt(
    till: Till, phase: Inquiring, about: LastReceiptOf, event: ReplyArrived, now: Now
) -> Step:
    if not is_answer_to(phase, event):
        return till, (ignored(event),)
    terms = till.terms
    assert terms is not None, "somebody is signed in, so there is a policy"
    till = hear(till, now.monotonic_s)
    beep = MakeSound(Sound.SCANNED)
    match event.reply.outcome:
        case LastReceipt() as receipt:
            slip = copy_of_told(receipt, terms)
            till, effects = rest(till, now.wall_ms)
            return till, (*effects, beep, Print(slip))
        case Declined(reason=Reason.NO_RECEIPT):
            slip = no_receipt_slip(terms, now.wall_ms)
            till, effects = rest(till, now.wall_ms)
            return till, (*effects, beep, Print(slip))
        case Declined(reason=reason):
            written: Effects = ()
            if reason in SESSION_IS_OVER:
                till, ended = end_session(till)
                written = (Journal((ended,)),)
            till, effects = _own(till, about, now)
            return till, (*written, *effects, Note("declined", phase.key, reason.value))
        case _:
            return till, (ignored(event),)


def give_up_last_receipt(till: Till, phase: Inquiring, about: LastReceiptOf, now: Now) -> Step:
    till, effects = _own(till, about, now)
    return till, (*effects, Note("no_reply", phase.key, phase.kind))


def print_own(till: Till, event: OwnRecalled, now: Now) -> Step:
    """What the journal itself knows, on paper."""
    assert till.terms is not None, "it was asked for by somebody who was signed in"
    if event.what is OwnWord.SHIFT:
        is_leaving = isinstance(till.phase, LeaveAsked)
        slip = own_shift_slip(
            event.shift, till.terms, event.initials, now.wall_ms, is_leaving=is_leaving
        )
    elif event.last_sale is None:
        slip = no_receipt_slip(till.terms, now.wall_ms)
    else:
        slip = copy_of_own(event.last_sale, till.terms)
    return till, (Print(slip),)


def _own(till: Till, about: LastReceiptOf, now: Now) -> Step:
    till, effects = rest(till, now.wall_ms)
    recall = RecallOwn(OwnWord.LAST_RECEIPT, about.initials)
    return till, (*effects, MakeSound(Sound.SCANNED), recall)
