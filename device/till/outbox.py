"""What must reach the cloud, however often it is said: the outbox and the heartbeat."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from device.till.contents import (
    AskForHeartbeat,
    AskToCancel,
    AskToPostAgain,
    AskToSignOut,
    Content,
    kind_of,
)
from device.till.effects import (
    Effect,
    Effects,
    Journal,
    Note,
    Reconnect,
    SendAgain,
    SendRequest,
)
from device.till.entries import MessageClosed
from device.till.events import Now, ReplyArrived, RequestSigned
from device.till.resting import Step
from device.till.states import Asking, Link, SigningIn, Till, Unanswered, may_beat
from protocol.messages import Cancelled, Declined, HeartbeatAnswered, SignedOut, UnderReview

HEARTBEAT_S: Final = 15.0
FIRST_HEARTBEAT_S: Final = 2.0
"""Until the cloud has answered once, ask this often."""
SILENCE_MAX_S: Final = 2 * HEARTBEAT_S
RESEND_MAX_S: Final = 60.0
RESEND_AT_S: Final = (1.0, 2.0)


def ask(content: Content, reply_timeout_ms: int) -> SendRequest:
    """A request that is worthless once nobody waits for its reply (MQTT counts whole seconds)."""
    return SendRequest(content, -(-reply_timeout_ms // 1000))


def post(till: Till, content: AskToCancel | AskToSignOut | AskToPostAgain, now_s: float) -> Step:
    """Send it, now and again, until it is answered."""
    message = Unanswered(content, next_at=now_s + _wait_s(1))
    return replace(till, outbox=(*till.outbox, message)), (SendRequest(content),)


def send_unsigned(till: Till) -> Step:
    """What was posted but never signed, because the effects before it failed."""
    return till, tuple(
        SendRequest(each.content) for each in till.outbox if each.request_hash is None
    )


def send_due(till: Till, now: Now) -> Step:
    """What is due of the outbox, of the question that is being asked, and of the heartbeat."""
    if not till.link.is_up:
        return till, ()
    till, asked = _ask_again(till, now.monotonic_s)
    till, posted = _post_again(till, now.monotonic_s, lambda each: now.monotonic_s >= each.next_at)
    till, beat = _beat_if_due(till, now)
    return till, (*asked, *posted, *beat)


def link_up(till: Till, now: Now) -> Step:
    """Say everything again that is unanswered, and ask the cloud whether it is there."""
    link = Link(is_up=True, heard_at=now.monotonic_s, heartbeat_at=now.monotonic_s)
    till, beat = _beat_if_due(replace(till, link=link), now)
    till, posted = _post_again(till, now.monotonic_s, lambda _: True)
    match till.phase:
        case (
            SigningIn(request_hash=str() as request_hash)
            | Asking(request_hash=str() as request_hash)
        ):
            asked: Effects = (SendAgain(request_hash, _rest_s(till.phase.until, now.monotonic_s)),)
        case _:
            asked = ()
    return till, (*asked, *posted, *beat)


def link_down(till: Till) -> Step:
    return replace(till, link=Link()), ()


def beat(till: Till, now: Now) -> Step:
    """A heartbeat, out of turn: the policy it acknowledges is new."""
    if not may_beat(till):
        return till, ()
    return _beat(till, now)


def note_signed(till: Till, event: RequestSigned) -> Step:
    """Remember by what a reply will name the request."""
    match event.kind, till.phase:
        case "heartbeat", _ if till.link.heartbeat_key == event.key:
            return replace(till, link=replace(till.link, heartbeat_hash=event.request_hash)), ()
        case ("sign_in", SigningIn(key=key) as phase) if key == event.key:
            return replace(till, phase=replace(phase, request_hash=event.request_hash)), ()
        case ("deduct", Asking() as phase) if phase.sale.key == event.key:
            return replace(till, phase=replace(phase, request_hash=event.request_hash)), ()
        case _:
            outbox = tuple(
                replace(each, request_hash=event.request_hash)
                if (kind_of(each.content), each.content.key) == (event.kind, event.key)
                else each
                for each in till.outbox
            )
            return replace(till, outbox=outbox), ()


def hear(till: Till, now_s: float) -> Till:
    """A signed answer to a question of ours: the cloud is there."""
    if not till.link.is_up:
        return till
    return replace(till, link=replace(till.link, is_answering=True, heard_at=now_s))


def close_heartbeat(till: Till, event: ReplyArrived, now_s: float) -> Step:
    link = till.link
    reply = event.reply
    is_ours = (reply.key, reply.request_hash) == (link.heartbeat_key, link.heartbeat_hash)
    if not is_ours or not isinstance(reply.outcome, HeartbeatAnswered):
        return till, (ignored(event),)
    known = reply.outcome.journal_known
    # Said again at once: only then can the cloud tell a late heartbeat from an old journal.
    is_news = known is not None and known != till.journal_told
    link = replace(link, heartbeat_hash=None, heartbeat_at=now_s + (0 if is_news else HEARTBEAT_S))
    return hear(replace(till, link=link, journal_told=known or till.journal_told), now_s), ()


def close_posted(till: Till, event: ReplyArrived, now_s: float) -> Step:
    """The answer to a cancel or a sign-out."""
    reply = event.reply
    message = next(
        (
            each
            for each in till.outbox
            if (kind_of(each.content), each.content.key, each.request_hash)
            == (reply.answers, reply.key, reply.request_hash)
        ),
        None,
    )
    if message is None:
        return till, (ignored(event),)
    match message.content, reply.outcome:
        case (AskToPostAgain(), _):
            # Whatever the cloud says of it: it has heard it, and its own list has it now.
            outbox = tuple(each for each in till.outbox if each is not message)
            return hear(replace(till, outbox=outbox), now_s), ()
        case (AskToCancel(), Cancelled() | UnderReview()) | (
            AskToSignOut(),
            SignedOut() | Declined(),
        ):
            outbox = tuple(each for each in till.outbox if each is not message)
            closed = MessageClosed(reply.key, reply.answers, event.token)
            return hear(replace(till, outbox=outbox), now_s), (Journal((closed,)),)
        case _:
            # A refused cancel settles nothing: the approval may stand, so it is sent on.
            return hear(till, now_s), (Note("answer_settles_nothing", reply.key, reply.answers),)


def ignored(event: ReplyArrived) -> Note:
    """Forged bindings, replays and answers nobody waits for any more."""
    return Note("reply_ignored", event.reply.key, event.reply.answers)


def _ask_again(till: Till, now_s: float) -> Step:
    match till.phase:
        case (
            SigningIn(request_hash=str() as request_hash)
            | Asking(request_hash=str() as request_hash)
        ):
            phase = till.phase
        case _:
            return till, ()
    if not phase.resend_at or now_s < phase.resend_at[0]:
        return till, ()
    phase = replace(phase, resend_at=phase.resend_at[1:])
    again = SendAgain(request_hash, _rest_s(phase.until, now_s))
    return replace(till, phase=phase), (again,)


def _post_again(till: Till, now_s: float, is_due: Callable[[Unanswered], bool]) -> Step:
    effects: list[Effect] = []
    outbox: list[Unanswered] = []
    for message in till.outbox:
        if not is_due(message):
            outbox.append(message)
            continue
        effects.append(
            SendRequest(message.content)
            if message.request_hash is None
            else SendAgain(message.request_hash)
        )
        times = message.times + 1
        outbox.append(replace(message, times=times, next_at=now_s + _wait_s(times)))
    return replace(till, outbox=tuple(outbox)), tuple(effects)


def _beat_if_due(till: Till, now: Now) -> Step:
    if not may_beat(till) or now.monotonic_s < till.link.heartbeat_at:
        return till, ()
    if now.monotonic_s >= till.link.heard_at + SILENCE_MAX_S:
        return replace(till, link=Link()), (Reconnect(), Note("cloud_silent"))
    return _beat(till, now)


def _beat(till: Till, now: Now) -> Step:
    assert till.terms is not None, "a heartbeat acknowledges a policy"
    wait_s = HEARTBEAT_S if till.link.is_answering else FIRST_HEARTBEAT_S
    key = now.fresh_heartbeat_key
    link = replace(
        till.link,
        heartbeat_at=now.monotonic_s + wait_s,
        heartbeat_key=key,
        heartbeat_hash=None,
    )
    content = AskForHeartbeat(
        key,
        till.terms.policy.version,
        len(till.outbox),
        till.resent_for,
        till.journal_told,
    )
    return replace(till, link=link), (SendRequest(content, int(wait_s)),)


def _wait_s(times: int) -> float:
    """1 s, 2 s, then doubling to a minute."""
    return min(float(2 ** (times - 1)), RESEND_MAX_S)


def _rest_s(until: float, now_s: float) -> int:
    """The whole seconds left, at least one: MQTT knows no shorter expiry."""
    return max(1, -int(-(until - now_s) // 1))
