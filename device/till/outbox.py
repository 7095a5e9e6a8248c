"""What must reach the cloud, however often it is said: the outbox and the heartbeat."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count
from typing import Final

from device.till import syncing
from device.till.contents import (
    AskForHeartbeat,
    AskToCancel,
    AskToPostAgain,
    AskToPostOffline,
    AskToRefund,
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
from device.till.states import (
    Asking,
    Inquiring,
    KeyingAmount,
    KeyingProducts,
    LeaveAsked,
    Link,
    Ready,
    ScannedFirst,
    SigningIn,
    Till,
    Unanswered,
    may_beat,
)
from protocol.messages import (
    Approved,
    Cancelled,
    Declined,
    HeartbeatAnswered,
    PostedOffline,
    SignedOut,
    UnderReview,
)

HEARTBEAT_S: Final = 15.0
FIRST_HEARTBEAT_S: Final = 2.0
"""Until the cloud has answered once, ask this often."""
SILENCE_MAX_S: Final = 2 * HEARTBEAT_S
RESEND_MAX_S: Final = 60.0
RESEND_AT_S: Final = (1.0, 2.0)
UPLOADS_AT_ONCE_MAX: Final = 20
UPLOADS_EVERY_S: Final = 1.0
"""After a long spell the cloud, and the sales that go on, have room between so many uploads."""


Posted = AskToCancel | AskToSignOut | AskToPostAgain | AskToRefund


def ask(content: Content, reply_timeout_ms: int) -> SendRequest:
    """A request that is worthless once nobody waits for its reply (MQTT counts whole seconds)."""
    return SendRequest(content, -(-reply_timeout_ms // 1000))


def post(till: Till, content: Posted, now_s: float) -> Step:
    """Send it, now and again, until it is answered."""
    if isinstance(content, AskToCancel):
        till = _without_upload(till, content.key)
    message = Unanswered(content, next_at=now_s + _wait_s(1))
    return replace(till, outbox=(*till.outbox, message)), (SendRequest(content),)


def _without_upload(till: Till, key: str) -> Till:
    """This sale is cancelled: what may be under way already, the cancel's answer covers."""
    return replace(
        till,
        outbox=tuple(
            each
            for each in till.outbox
            if not (isinstance(each.content, AskToPostOffline) and each.content.key == key)
        ),
    )


def upload(till: Till, contents: Iterable[AskToPostOffline], now_s: float) -> Till:
    """To be sent with the next ticks, after all that is to be done now; oldest first.

    Each has its own time: one that is never answered keeps no other from being sent.
    """
    uploads = tuple(
        Unanswered(content, next_at=now_s + _turn_s(place), times=0)
        for place, content in enumerate(contents)
    )
    return replace(till, outbox=(*till.outbox, *uploads))


def send_unsigned(till: Till) -> Step:
    """What was posted but never signed, because the effects before it failed."""
    return till, tuple(
        SendRequest(each.content)
        for each in till.outbox
        if each.request_hash is None and not isinstance(each.content, AskToPostOffline)
    )


def sign_anew(till: Till) -> Till:
    """The appliance is known by another certificate: what waits goes out under that one. The keys
    are the same, so whatever the cloud has heard already it answers as before."""
    return replace(till, outbox=tuple(replace(each, request_hash=None) for each in till.outbox))


def send_due(till: Till, now: Now) -> Step:
    """What is due of the outbox, of the question that is being asked, and of the heartbeat."""
    if not till.link.is_up:
        return till, ()
    till, asked = _ask_again(till, now.monotonic_s)
    till, posted = _post_due(till, now.monotonic_s)
    till, beat = _beat_if_due(till, now)
    return till, (*asked, *posted, *beat)


def link_up(till: Till, now: Now) -> Step:
    """Say everything again that is unanswered, and ask the cloud whether it is there."""
    link = Link(is_up=True, heard_at=now.monotonic_s, heartbeat_at=now.monotonic_s)
    till, beat = _beat_if_due(replace(till, link=link), now)
    till, posted = _post_due(_in_turn(till, now.monotonic_s), now.monotonic_s)
    match till.phase:
        case (
            SigningIn(request_hash=str() as request_hash)
            | Asking(request_hash=str() as request_hash)
            | Inquiring(request_hash=str() as request_hash)
        ):
            asked: Effects = (SendAgain(request_hash, _rest_s(till.phase.until, now.monotonic_s)),)
        case _:
            asked = ()
    return till, (*asked, *posted, *beat)


def link_down(till: Till) -> Step:
    return replace(till, link=Link()), ()


def ask_now(till: Till, message: Unanswered, now_s: float) -> Step:
    """Somebody waits for this answer: ask for it out of turn."""
    return _post_again(till, now_s, lambda each: each is message)


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
        case (kind, SigningIn() as phase) if (kind, event.key) == (phase.kind, phase.key):
            return replace(till, phase=replace(phase, request_hash=event.request_hash)), ()
        case ("deduct", Asking() as phase) if phase.sale.key == event.key:
            return replace(till, phase=replace(phase, request_hash=event.request_hash)), ()
        case (kind, Inquiring() as phase) if (kind, event.key) == (phase.kind, phase.key):
            return replace(till, phase=replace(phase, request_hash=event.request_hash)), ()
        case ("shift_report", LeaveAsked(key=key) as phase) if key == event.key:
            return replace(till, phase=replace(phase, request_hash=event.request_hash)), ()
        case "balance", (
            Ready(scanned=ScannedFirst() as scanned)
            | KeyingAmount(scanned=ScannedFirst() as scanned)
            | KeyingProducts(scanned=ScannedFirst() as scanned)
        ) as phase if scanned.key == event.key:
            scanned = replace(scanned, request_hash=event.request_hash)
            return replace(till, phase=replace(phase, scanned=scanned)), ()
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
    if is_ours and isinstance(reply.outcome, Declined):
        return syncing.refuse(till, reply.outcome, reply.answered_at_ms), (ignored(event),)
    if not is_ours or not isinstance(reply.outcome, HeartbeatAnswered):
        return till, (ignored(event),)
    till = syncing.learn(till, reply.outcome, now_s)
    known = reply.outcome.journal_known
    # Said again at once: only then can the cloud tell a late heartbeat from an old journal.
    is_news = known is not None and known != till.journal_told
    denied = reply.outcome.denied
    is_news = is_news or (denied is not None and denied.more)
    link = replace(link, heartbeat_hash=None, heartbeat_at=now_s + (0 if is_news else HEARTBEAT_S))
    return hear(replace(till, link=link, journal_told=known or till.journal_told), now_s), ()


def close_posted(till: Till, event: ReplyArrived, now_s: float) -> Step:
    """The answer to a cancel, a sign-out or an upload."""
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
        case AskToPostOffline(), PostedOffline() | Approved() | UnderReview():
            # Approved: the deduct had come through, and it is the same sale.
            outbox = tuple(each for each in till.outbox if each is not message)
            is_posting = not isinstance(reply.outcome, UnderReview)
            closed = MessageClosed(reply.key, reply.answers, event.token, is_posting)
            return hear(replace(till, outbox=outbox), now_s), (Journal((closed,)),)
        case _:
            # A refused cancel or upload settles nothing: what was approved or handed over may
            # stand, so it is sent on.
            return hear(till, now_s), (Note("answer_settles_nothing", reply.key, reply.answers),)


def ignored(event: ReplyArrived) -> Note:
    """Forged bindings, replays and answers nobody waits for any more."""
    return Note("reply_ignored", event.reply.key, event.reply.answers)


def _ask_again(till: Till, now_s: float) -> Step:
    match till.phase:
        case (
            SigningIn(request_hash=str() as request_hash)
            | Asking(request_hash=str() as request_hash)
            | Inquiring(request_hash=str() as request_hash)
        ):
            phase = till.phase
        case _:
            return till, ()
    if not phase.resend_at or now_s < phase.resend_at[0]:
        return till, ()
    # Times that went by without a link are made up for by one.
    phase = replace(phase, resend_at=tuple(at for at in phase.resend_at if at > now_s))
    again = SendAgain(request_hash, _rest_s(phase.until, now_s))
    return replace(till, phase=phase), (again,)


def _post_due(till: Till, now_s: float) -> Step:
    return _post_again(till, now_s, lambda each: now_s >= each.next_at)


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
        till.record.denied_version,
        till.journal_told,
        None if till.session is None else till.session.session_id,
    )
    return replace(till, link=link), (SendRequest(content, int(wait_s)),)


def _in_turn(till: Till, now_s: float) -> Till:
    """All of it is due again, the uploads a few at a time."""
    places = count()
    return replace(
        till,
        outbox=tuple(
            replace(each, next_at=now_s + _turn_s(next(places)))
            if isinstance(each.content, AskToPostOffline)
            else replace(each, next_at=now_s)
            for each in till.outbox
        ),
    )


def _turn_s(place: int) -> float:
    return place // UPLOADS_AT_ONCE_MAX * UPLOADS_EVERY_S


def _wait_s(times: int) -> float:
    """1 s, 2 s, then doubling to a minute."""
    return min(float(2 ** (times - 1)), RESEND_MAX_S)


def _rest_s(until: float, now_s: float) -> int:
    """The whole seconds left, at least one: MQTT knows no shorter expiry."""
    return max(1, -int(-(until - now_s) // 1))
