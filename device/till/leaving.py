"""The end of a shift (`D` held): its figures on paper, and `#` signs out."""

from dataclasses import replace
from typing import Final

from device.till.contents import AskForShiftReport, AskToSignOut
from device.till.effects import Effects, Journal, MakeSound, Note, Print, RecallOwn
from device.till.entries import SessionEnded
from device.till.events import KeyPressed, Now, ReplyArrived
from device.till.notices import shift_slip
from device.till.outbox import ask, hear, ignored, post
from device.till.resting import Step, is_online, pass_over, rest
from device.till.shift import OwnWord
from device.till.signals import Sound
from device.till.states import LeaveAsked, Till
from protocol.messages import Declined, ShiftReport

LEAVE_WAIT_S: Final = 10.0


def ask_to_leave(till: Till, now: Now) -> Step:
    """Ask for the shift's figures; offline the appliance's own have to do."""
    assert till.terms is not None, "somebody is signed in, so there is a policy"
    session = till.session
    assert session is not None, "somebody is signed in"
    leaving = LeaveAsked(now.monotonic_s + LEAVE_WAIT_S)
    if not is_online(till):
        return replace(till, phase=leaving), (MakeSound(Sound.SCANNED), _own_figures(till))
    timeout_ms = till.terms.policy.reply_timeout_ms
    leaving = replace(leaving, report_by=now.monotonic_s + timeout_ms / 1000, key=now.fresh_key)
    question = AskForShiftReport(now.fresh_key, session.session_id)
    return replace(till, phase=leaving), (MakeSound(Sound.SCANNED), ask(question, timeout_ms))


def hear_shift_report(till: Till, phase: LeaveAsked, event: ReplyArrived, now: Now) -> Step:
    reply = event.reply
    is_awaited = phase.report_by is not None
    if not is_awaited or (reply.key, reply.request_hash) != (phase.key, phase.request_hash):
        return till, (ignored(event),)
    terms, session = till.terms, till.session
    assert terms is not None, "somebody is signed in, so there is a policy"
    assert session is not None, "somebody is signed in"
    till = hear(till, now.monotonic_s)
    leaving = LeaveAsked(now.monotonic_s + LEAVE_WAIT_S)
    match reply.outcome:
        case ShiftReport() as report:
            slip = shift_slip(report, terms, session.initials, now.wall_ms)
            return replace(till, phase=leaving), (Print(slip),)
        case Declined(reason=reason):
            # Whatever is wrong: signing out still works, and puts an ended session right.
            note = Note("declined", phase.key, reason.value)
            return replace(till, phase=leaving), (_own_figures(till), note)
        case _:
            return till, (ignored(event),)


def wait_to_leave(till: Till, phase: LeaveAsked, now: Now) -> Step:
    """A deadline has come: the cloud's figures did not, or nobody pressed `#`."""
    if phase.report_by is not None and now.monotonic_s >= phase.report_by:
        leaving = LeaveAsked(now.monotonic_s + LEAVE_WAIT_S)
        return replace(till, phase=leaving), (_own_figures(till),)
    if now.monotonic_s >= phase.until:
        return rest(till, now.wall_ms)
    return till, ()


def answer_leave(till: Till, phase: LeaveAsked, event: KeyPressed, now: Now) -> Step:
    if event.key != "#":
        # It ends the question and begins nothing: a number without its first digit is another.
        till, _ = pass_over(till, event, now)
        till, effects = rest(till, now.wall_ms)
        return till, (MakeSound(Sound.CLICK), *effects)
    session = till.session
    assert session is not None, "somebody is signed in"
    # Before the cloud's figures came: then they have to be the till's own.
    figures: Effects = () if phase.report_by is None else (_own_figures(till),)
    ended = SessionEnded(session.session_id, now.fresh_key)
    content = AskToSignOut(now.fresh_key, session.session_id)
    till, sent = post(replace(till, session=None), content, now.monotonic_s)
    till, effects = rest(till, now.wall_ms)
    return till, (Journal((ended,)), MakeSound(Sound.CLICK), *effects, *sent, *figures)


def _own_figures(till: Till) -> RecallOwn:
    assert till.session is not None, "somebody is signed in"
    return RecallOwn(OwnWord.SHIFT, till.session.initials)
