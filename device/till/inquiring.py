"""Questions to the cloud that move no money: asked once, answered or not, and done with."""

from dataclasses import replace

from device.till.contents import AskForBalance, AskForLastReceipt, AskToApprove, kind_of
from device.till.effects import Look, MakeSound, ShowLight
from device.till.entries import SessionEnded
from device.till.events import Now, ReplyArrived
from device.till.outbox import RESEND_AT_S, ask
from device.till.resting import Step
from device.till.signals import Light, Sound
from device.till.states import ApprovalOf, BalanceOf, Inquiring, LastReceiptOf, Till
from protocol.messages import Reason


def inquire(
    till: Till,
    content: AskForBalance | AskForLastReceipt | AskToApprove,
    about: BalanceOf | LastReceiptOf | ApprovalOf,
    now: Now,
    sound: Sound,
) -> Step:
    """Ask, and let staff wait for the answer as long as for a sale's."""
    assert till.terms is not None, "somebody is signed in, so there is a policy"
    timeout_ms = till.terms.policy.reply_timeout_ms
    inquiring = Inquiring(
        about,
        kind_of(content),
        content.key,
        until=now.monotonic_s + timeout_ms / 1000,
        resend_at=tuple(now.monotonic_s + each for each in RESEND_AT_S),
    )
    return replace(till, phase=inquiring), (
        ask(content, timeout_ms),
        ShowLight(Light.ASKING),
        MakeSound(sound),
        Look(False),
    )


def is_answer_to(phase: Inquiring, event: ReplyArrived) -> bool:
    reply = event.reply
    return (reply.answers, reply.key, reply.request_hash) == (
        phase.kind,
        phase.key,
        phase.request_hash,
    )


SESSION_IS_OVER = frozenset({Reason.SESSION_UNKNOWN, Reason.SESSION_ENDED, Reason.SESSION_EXPIRED})
"""Whatever was asked: whoever is signed in at this till is so no more."""


def end_session(till: Till) -> tuple[Till, SessionEnded]:
    """The cloud itself said that it is over."""
    assert till.session is not None, "somebody is signed in"
    ended = SessionEnded(till.session.session_id, None)
    return replace(till, session=None), ended
