"""Who stands at the till: badge, PIN, session; a supervisor's come in the same way."""

from dataclasses import replace
from typing import Final

from device.till.approving import ask_to_approve
from device.till.contents import AskToChoosePin, AskToSignIn, Pin
from device.till.effects import Effects, Journal, Look, MakeSound, Note, Print, ShowLight
from device.till.entries import SessionBegan, SessionEnded
from device.till.events import KeyPressed, Now, QrSeen, ReplyArrived
from device.till.notices import new_pin_slip, refusal_slip
from device.till.outbox import RESEND_AT_S, ask, hear, ignored
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
    BalanceWanted,
    Keyed,
    KeyingAmount,
    KeyingPin,
    KeyingPinAgain,
    KeyingProducts,
    KeyingRefund,
    LeaveAsked,
    NobodySignedIn,
    Ready,
    ReceiptWanted,
    RefundWanted,
    Sighting,
    SigningIn,
    SupervisorWanted,
    Till,
)
from device.till.viewing import is_same_sighting, still_in_view
from device.till.wording import sentence_of
from protocol.messages import Declined, HeartbeatAnswered, Reason, SignedIn
from protocol.policy import open_badge
from protocol.signing import SignatureRefusal
from protocol.wallet_qr import QrRefusal, read

PIN_DIGITS_MAX: Final = 12
PIN_WAIT_S: Final = 30.0

_TOLD_ON_PAPER: Final = frozenset(
    {Reason.PIN_NOT_ALLOWED, Reason.PIN_SET_ALREADY, Reason.PIN_CHOICE_OVER}
)
"""Red and two beeps say that nobody is signed in; why, of these, nobody would guess."""

_THEY_DIFFER: Final = "The two PINs differ. Show the badge again, and key the new PIN twice."
_PERHAPS_KEPT: Final = (
    "Nobody knows whether the new PIN was kept. Show the badge again and key the same PIN."
)


def see_badge(
    till: Till, phase: NobodySignedIn | SupervisorWanted, event: QrSeen, now: Now
) -> Step:
    now_s = now.monotonic_s
    refusing = replace(phase, refused=Sighting(event.text, now_s))
    if is_same_sighting(phase.refused, event.text, now_s):
        return still_in_view(till, refusing)
    assert till.terms is not None, "nobody can sign in without a policy"
    jws = read(event.text)
    if isinstance(jws, QrRefusal):
        return ask_for_fresh_code(till, now_s, "not_a_badge", refusing)
    badge = open_badge(jws.encode(), till.terms.find_badge_key)
    if isinstance(badge, SignatureRefusal):
        return ask_for_fresh_code(till, now_s, badge.value, refusing)
    if badge.event_id != till.terms.policy.event_id:
        return ask_for_fresh_code(till, now_s, "badge_other_event", refusing)
    wanted = phase.wanted if isinstance(phase, SupervisorWanted) else None
    keying = KeyingPin(jws, Pin(), now_s + PIN_WAIT_S, wanted)
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
        return _let_go(till, now)
    if event.key == "#" and digits:
        if phase.approving is not None:
            return ask_to_approve(till, phase, phase.approving, now)
        keyed = Keyed(phase.badge, phase.pin)
        return _ask(till, AskToSignIn(now.fresh_key, keyed.badge, keyed.pin), keyed, now)
    return replace(till, phase=keying), (MakeSound(Sound.DECLINED),)


def key_pin_again(till: Till, phase: KeyingPinAgain, event: KeyPressed, now: Now) -> Step:
    digits = phase.pin.digits
    until = now.monotonic_s + PIN_WAIT_S
    if event.key.isdecimal() and len(digits) < PIN_DIGITS_MAX:
        keying = replace(phase, pin=Pin(digits + event.key), until=until)
        return replace(till, phase=keying), (MakeSound(Sound.CLICK),)
    if event.key == "*":
        if event.held:
            return _let_go(till, now)
        anew = KeyingPin(phase.first.badge, Pin(), until)
        return replace(till, phase=anew), (MakeSound(Sound.CLICK),)
    if event.key == "#" and digits:
        if phase.pin != phase.first.pin:
            return _refuse(till, "pins_differ", _THEY_DIFFER, now)
        content = AskToChoosePin(now.fresh_key, phase.first.badge, phase.pin)
        # Whoever keyed it twice knows it: nobody needs it here any more.
        return _ask(till, content, None, now)
    return replace(till, phase=replace(phase, until=until)), (MakeSound(Sound.DECLINED),)


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
        case Declined(reason=Reason.PIN_NOT_SET) if phase.keyed is not None:
            return _want_again(hear(till, now.monotonic_s), phase.keyed, now)
        case Declined(reason=reason) if reason in _TOLD_ON_PAPER:
            heard = hear(till, now.monotonic_s)
            return _refuse(heard, reason.value, sentence_of(reason), now)
        case Declined(reason=reason):
            return decline(hear(till, now.monotonic_s), now.monotonic_s, reason.value)
        case _:
            return till, (ignored(event),)


def give_up_sign_in(till: Till, phase: SigningIn, now: Now) -> Step:
    """No reply in time. Whether the cloud began a session does not matter: nobody holds it.

    A PIN that was being chosen may stand from now on: whoever keyed it signs in with it.
    """
    assert till.terms is not None, "nobody can sign in without a policy"
    paper: Effects = ()
    if phase.keyed is None:
        paper = (Print(refusal_slip("Perhaps", _PERHAPS_KEPT, till.terms, now.wall_ms)),)
    till, effects = show_fault(till, now.monotonic_s)
    return till, (*effects, Note("no_reply", phase.key, phase.kind), *paper)


def end_if_over(till: Till, event: ReplyArrived, now: Now) -> Step:
    """What a heartbeat's answer says of the session, once nobody waits for anything at the till.

    Until then the answer to what is under way says so; and the next heartbeat, again.
    """
    outcome, session = event.reply.outcome, till.session
    over = outcome.session_over if isinstance(outcome, HeartbeatAnswered) else None
    if session is None or over != session.session_id:
        return till, ()
    match till.phase:
        case (
            Ready()
            | KeyingAmount()
            | KeyingProducts()
            | BalanceWanted()
            | ReceiptWanted()
            | KeyingRefund()
            | SupervisorWanted()
            | KeyingPin(approving=RefundWanted())
            | LeaveAsked()
        ):
            till, effects = rest(replace(till, session=None), now.wall_ms)
            ended = Journal((SessionEnded(session.session_id, None),))
            return till, (ended, *effects, Note("session_over"))
        case _:
            return till, ()


def _ask(till: Till, content: AskToSignIn | AskToChoosePin, keyed: Keyed | None, now: Now) -> Step:
    assert till.terms is not None, "nobody can sign in without a policy"
    timeout_ms = till.terms.policy.reply_timeout_ms
    signing_in = SigningIn(
        key=content.key,
        until=now.monotonic_s + timeout_ms / 1000,
        resend_at=tuple(now.monotonic_s + each for each in RESEND_AT_S),
        keyed=keyed,
    )
    return replace(till, phase=signing_in), (
        ask(content, timeout_ms),
        ShowLight(Light.ASKING),
        MakeSound(Sound.CLICK),
    )


def _want_again(till: Till, keyed: Keyed, now: Now) -> Step:
    """The badge has no PIN yet. One that was mistyped would lock its owner out: so, once more."""
    assert till.terms is not None, "nobody can sign in without a policy"
    again = KeyingPinAgain(keyed, Pin(), now.monotonic_s + PIN_WAIT_S)
    return replace(till, phase=again), (
        ShowLight(Light.KEY_THE_AMOUNT),
        MakeSound(Sound.SCANNED),
        Print(new_pin_slip(till.terms)),
    )


def _refuse(till: Till, reason: str, sentence: str, now: Now) -> Step:
    assert till.terms is not None, "nobody can sign in without a policy"
    slip = refusal_slip("Not signed in", sentence, till.terms, now.wall_ms)
    till, effects = decline(till, now.monotonic_s, reason)
    return till, (*effects, Print(slip))


def _let_go(till: Till, now: Now) -> Step:
    till, effects = rest(till, now.wall_ms)
    return till, (MakeSound(Sound.CLICK), *effects)
