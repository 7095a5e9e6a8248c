"""Who stands at the till: badge, PIN, session, and the way out."""

from dataclasses import replace
from typing import Final

from device.till.contents import AskToSignIn, AskToSignOut, Pin
from device.till.effects import Journal, Look, MakeSound, Note, Print, ShowLight
from device.till.entries import SessionBegan, SessionEnded
from device.till.events import KeyPressed, Now, QrSeen, ReplyArrived
from device.till.outbox import RESEND_AT_S, ask, hear, ignored, post
from device.till.receipt import sign_out_slip
from device.till.resting import (
    Step,
    ask_for_fresh_code,
    decline,
    rest,
    session_counts,
    show_fault,
)
from device.till.signals import Light, Sound
from device.till.states import (
    KeyingPin,
    LeaveAsked,
    NobodySignedIn,
    Scanning,
    Showing,
    Sighting,
    SigningIn,
    Till,
)
from protocol.messages import Declined, SignedIn
from protocol.policy import open_badge
from protocol.signing import SignatureRefusal
from protocol.wallet_qr import QrRefusal, read

PIN_DIGITS_MAX: Final = 12
PIN_WAIT_S: Final = 30.0
LEAVE_WAIT_S: Final = 10.0
SIGHTING_GAP_S: Final = 4.0
"""A refused code out of view for this long was taken away; shown again, it is refused again."""


def is_same_sighting(refused: Sighting | None, text: str, now_s: float) -> bool:
    """Whether this is the code just refused, still lying in view."""
    return refused is not None and refused.text == text and now_s < refused.seen_at + SIGHTING_GAP_S


def still_in_view(till: Till, then: Scanning | NobodySignedIn) -> Step:
    """The refused code still lies there: nothing is said again."""
    phase = replace(till.phase, then=then) if isinstance(till.phase, Showing) else then
    return replace(till, phase=phase), ()


def see_badge(till: Till, phase: NobodySignedIn, event: QrSeen, now: Now) -> Step:
    now_s = now.monotonic_s
    sighting = Sighting(event.text, now_s)
    if is_same_sighting(phase.refused, event.text, now_s):
        return still_in_view(till, NobodySignedIn(sighting))
    assert till.terms is not None, "nobody can sign in without a policy"
    jws = read(event.text)
    if isinstance(jws, QrRefusal):
        return ask_for_fresh_code(till, now_s, "not_a_badge", NobodySignedIn(sighting))
    badge = open_badge(jws.encode(), till.terms.find_badge_key)
    if isinstance(badge, SignatureRefusal):
        return ask_for_fresh_code(till, now_s, badge.value, NobodySignedIn(sighting))
    if badge.event_id != till.terms.policy.event_id:
        return ask_for_fresh_code(till, now_s, "badge_other_event", NobodySignedIn(sighting))
    keying = KeyingPin(jws, Pin(), now_s + PIN_WAIT_S)
    return replace(till, phase=keying), (
        ShowLight(Light.KEY_THE_AMOUNT),
        MakeSound(Sound.SCANNED),
        Look(False),
    )


def key_pin(till: Till, phase: KeyingPin, event: KeyPressed, now: Now) -> Step:
    digits = phase.pin.digits
    keying = replace(phase, until=now.monotonic_s + PIN_WAIT_S)
    if event.key.isdecimal() and len(digits) < PIN_DIGITS_MAX:
        keying = replace(keying, pin=Pin(digits + event.key))
        return replace(till, phase=keying), (MakeSound(Sound.CLICK),)
    if event.key == "*":
        if digits and not event.held:
            return replace(till, phase=replace(keying, pin=Pin())), (MakeSound(Sound.CLICK),)
        till, effects = rest(till, now.wall_ms)
        return till, (MakeSound(Sound.CLICK), *effects)
    if event.key == "#" and digits:
        return _sign_in(till, phase, now)
    return replace(till, phase=keying), (MakeSound(Sound.DECLINED),)


def hear_sign_in(till: Till, phase: SigningIn, event: ReplyArrived, now: Now) -> Step:
    reply = event.reply
    if (reply.key, reply.request_hash) != (phase.key, phase.request_hash):
        return till, (ignored(event),)
    assert till.terms is not None, "nobody can sign in without a policy"
    match reply.outcome:
        case SignedIn() as session if session_counts(session, till.terms.policy, now.wall_ms):
            till = replace(hear(till, now.monotonic_s), session=session)
            till, effects = rest(till, now.wall_ms)
            began = Journal((SessionBegan(session, event.token),))
            return till, (began, MakeSound(Sound.SCANNED), *effects)
        case SignedIn():
            return decline(hear(till, now.monotonic_s), now.monotonic_s, "session_for_elsewhere")
        case Declined(reason=reason):
            return decline(hear(till, now.monotonic_s), now.monotonic_s, reason.value)
        case _:
            return till, (ignored(event),)


def give_up_sign_in(till: Till, phase: SigningIn, now: Now) -> Step:
    """No reply in time. Whether the cloud began a session does not matter: nobody holds it."""
    till, effects = show_fault(till, now.monotonic_s)
    return till, (*effects, Note("no_reply", phase.key, "sign_in"))


def ask_to_leave(till: Till, now: Now) -> Step:
    assert till.terms is not None, "somebody is signed in, so there is a policy"
    assert till.session is not None, "somebody is signed in"
    slip = sign_out_slip(till.terms, till.session.initials)
    leaving = replace(till, phase=LeaveAsked(now.monotonic_s + LEAVE_WAIT_S))
    return leaving, (MakeSound(Sound.SCANNED), Print(slip))


def answer_leave(till: Till, event: KeyPressed, now: Now) -> Step:
    if event.key != "#":
        till, effects = rest(till, now.wall_ms)
        return till, (MakeSound(Sound.CLICK), *effects)
    session = till.session
    assert session is not None, "somebody is signed in"
    ended = SessionEnded(session.session_id, now.fresh_key)
    content = AskToSignOut(now.fresh_key, session.session_id)
    till, sent = post(replace(till, session=None), content, now.monotonic_s)
    till, effects = rest(till, now.wall_ms)
    return till, (Journal((ended,)), MakeSound(Sound.CLICK), *effects, *sent)


def _sign_in(till: Till, phase: KeyingPin, now: Now) -> Step:
    assert till.terms is not None, "nobody can sign in without a policy"
    timeout_ms = till.terms.policy.reply_timeout_ms
    signing_in = SigningIn(
        key=now.fresh_key,
        until=now.monotonic_s + timeout_ms / 1000,
        resend_at=tuple(now.monotonic_s + each for each in RESEND_AT_S),
    )
    # The PIN leaves the state here; from now on only the sealed request knows it.
    content = AskToSignIn(now.fresh_key, phase.badge, phase.pin)
    return replace(till, phase=signing_in), (
        ask(content, timeout_ms),
        ShowLight(Light.ASKING),
        MakeSound(Sound.CLICK),
    )
