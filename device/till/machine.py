"""The transition table: what each event means in each phase; the phases' files say how.

Starting --JournalOpened--> WaitingForPolicy | NobodySignedIn | Ready | HandedOverAsked
NobodySignedIn --badge--> KeyingPin --#--> SigningIn --SignedIn--> Ready
Ready --digit | A--> KeyingAmount | KeyingProducts --# (journaled)--> Scanning
Scanning --wallet QR--> Asking --reply (journaled) | time-out (journaled)--> Showing
Showing --time | key | code--> Ready, or Scanning again where a fresh QR helps
Ready --D held--> LeaveAsked --#--> NobodySignedIn
any --JournalFailed--> JournalBroken --JournalOpened--> as from Starting
"""

from dataclasses import replace
from typing import assert_never

from device.till import resending
from device.till.accepting import accept, with_leave
from device.till.effects import Effects, Journal, MakeSound, Note, ShowLight
from device.till.entries import CancelReason, PolicyTaken
from device.till.events import (
    Event,
    JournalFailed,
    JournalOpened,
    KeyPressed,
    LinkDown,
    LinkUp,
    Now,
    PolicyArrived,
    PrinterChanged,
    QrSeen,
    ReplyArrived,
    RequestSigned,
    SettledRecalled,
    Tick,
)
from device.till.offline import OfflineRefusal
from device.till.outbox import (
    beat,
    close_heartbeat,
    close_posted,
    ignored,
    link_down,
    link_up,
    note_signed,
    send_due,
)
from device.till.paper import see_printer
from device.till.recovery import answer_handed_over, lose, open_journal, take_up
from device.till.resting import (
    Step,
    is_stray,
    look_for_badge,
    pass_over,
    rest,
    resting_light,
    resting_phase,
    scan,
)
from device.till.selling import (
    abandon,
    cancel,
    hear_deduct,
    key_amount,
    key_products,
    key_when_ready,
    key_while_asking,
    key_while_scanning,
    see_wallet_qr,
)
from device.till.signals import Light, Sound
from device.till.staffing import (
    answer_leave,
    give_up_sign_in,
    hear_sign_in,
    key_pin,
    see_badge,
)
from device.till.states import (
    Asking,
    HandedOverAsked,
    JournalBroken,
    KeyingAmount,
    KeyingPin,
    KeyingProducts,
    LeaveAsked,
    NobodySignedIn,
    Ready,
    Scanning,
    Showing,
    SigningIn,
    Starting,
    Till,
    WaitingForPolicy,
)
from device.till.syncing import fold, save
from device.till.terms import terms_of
from device.till.trusted_time import anchor_in, believed
from protocol.messages import HeartbeatAnswered, Resend
from protocol.wallet_qr import QrRefusal


def step(till: Till, event: Event, now: Now) -> Step:
    """What follows from one event: the till afterwards, and what is to be done, in order."""
    till = replace(till, anchor=anchor_in(till.anchor, now))
    now = believed(now, till.anchor)
    till, ended = _leave_if_over(with_leave(till, now), now)
    before = till
    till, effects = _step(till, event, now)
    till, saved = save(till)
    effects = (*ended, *effects, *saved)
    for effect in effects:
        if isinstance(effect, Journal):
            till = replace(till, record=fold(till.record, effect.entries))
    till = with_leave(till, now)
    return till, (*effects, *_light_after(before, till, effects))


def _light_after(before: Till, till: Till, effects: Effects) -> Effects:
    """The light of rest, where what it depends on changed and nothing else showed it."""
    light = resting_light(till)
    shown = [each.light for each in effects if isinstance(each, ShowLight)]
    if light is None:
        return ()
    if not shown and type(till.phase) is not type(before.phase):
        return ()
    return () if light == (shown[-1] if shown else resting_light(before)) else (ShowLight(light),)


def _step(till: Till, event: Event, now: Now) -> Step:  # noqa: PLR0912 -- a branch an event
    match event:
        case KeyPressed():
            return _press(till, event, now)
        case QrSeen():
            return _see(till, event, now)
        case ReplyArrived():
            return _hear(till, event, now)
        case Tick():
            till, sent = send_due(till, now)
            till, effects = _tick(till, now)
            return till, (*sent, *effects)
        case RequestSigned():
            return note_signed(till, event)
        case LinkUp():
            return link_up(till, now)
        case LinkDown():
            return link_down(till)
        case PolicyArrived():
            return _take_policy(till, event, now)
        case JournalOpened():
            return take_up(till, event, now)
        case JournalFailed():
            return lose(till, event, now)
        case PrinterChanged():
            return see_printer(till, event)
        case SettledRecalled():
            return resending.take_up(till, event, now.monotonic_s)
        case _:
            assert_never(event)


def _press(till: Till, event: KeyPressed, now: Now) -> Step:
    match till.phase:
        case Starting() | WaitingForPolicy() | NobodySignedIn() | SigningIn() | JournalBroken():
            return pass_over(till, event, now)
        case KeyingPin() as phase:
            return key_pin(till, phase, event, now)
        case Ready() if is_stray(till, now.monotonic_s):
            till, _ = pass_over(till, event, now)
            return till, (MakeSound(Sound.DECLINED),)
        case Ready():
            return key_when_ready(till, event, now)
        case KeyingAmount() as phase:
            return key_amount(till, phase, event, now)
        case KeyingProducts() as phase:
            return key_products(till, phase, event, now)
        case Scanning() as phase:
            return key_while_scanning(till, phase, event, now)
        case Asking() as phase:
            return key_while_asking(till, phase, event, now)
        case Showing() as phase:
            return _press_while_showing(till, phase, event, now)
        case LeaveAsked():
            return answer_leave(till, event, now)
        case HandedOverAsked() as phase:
            return answer_handed_over(till, phase, event, now)
        case _:
            assert_never(till.phase)


def _press_while_showing(till: Till, phase: Showing, event: KeyPressed, now: Now) -> Step:
    if phase.light is Light.FAULT and event.key not in {"*", "#"}:
        # Whoever keys on blindly must not miss it.
        return pass_over(till, event, now)
    till, effects = _show_on(till, phase, now)
    if phase.light is Light.FAULT:
        return till, (*effects, MakeSound(Sound.CLICK))
    till, pressed = _press(till, event, now)
    return till, (*effects, *pressed)


def _see(till: Till, event: QrSeen, now: Now) -> Step:
    match till.phase:
        case NobodySignedIn() as phase:
            return see_badge(till, phase, event, now)
        case Showing(then=NobodySignedIn() as phase):
            return see_badge(till, phase, event, now)
        case Scanning() as phase:
            return see_wallet_qr(till, phase, event, now)
        case Showing(then=Scanning() as phase):
            return see_wallet_qr(till, phase, event, now)
        case _:
            return till, ()


def _hear(till: Till, event: ReplyArrived, now: Now) -> Step:
    match event.reply.answers, till.phase:
        case "deduct", Asking() as phase:
            return hear_deduct(till, phase, event, now)
        case "sign_in", SigningIn() as phase:
            return hear_sign_in(till, phase, event, now)
        case "heartbeat", _:
            till, refused = close_heartbeat(till, event, now.monotonic_s)
            if refused:
                return till, refused
            return resending.attend(till, _asked_to_resend(event), now.monotonic_s)
        case (("cancel" | "sign_out" | "offline_acceptance" | "resubmission"), _):
            till, closed = close_posted(till, event, now.monotonic_s)
            till, more = resending.go_on(till, now.monotonic_s)
            return till, (*closed, *more)
        case _:
            return till, (ignored(event),)


def _asked_to_resend(event: ReplyArrived) -> Resend | None:
    outcome = event.reply.outcome
    return outcome.resend if isinstance(outcome, HeartbeatAnswered) else None


def _tick(till: Till, now: Now) -> Step:
    match till.phase:
        case Starting():
            return open_journal(till, now)
        case JournalBroken(open_at=open_at) if now.monotonic_s >= open_at:
            return open_journal(till, now)
        case KeyingPin(until=until) | LeaveAsked(until=until) if now.monotonic_s >= until:
            return rest(till, now.wall_ms)
        case SigningIn() as phase if now.monotonic_s >= phase.until:
            return give_up_sign_in(till, phase, now)
        case Scanning() as phase if now.monotonic_s >= phase.until:
            return abandon(till, phase, now)
        case Asking() as phase if now.monotonic_s >= phase.until:
            return _decide_alone(till, phase, now)
        case Showing() as phase if now.monotonic_s >= phase.until:
            return _show_on(till, phase, now)
        case _:
            return till, ()


def _decide_alone(till: Till, phase: Asking, now: Now) -> Step:
    """No reply in time: the till's own word, by the rules for that, or a cancel."""
    waited_s = 0.0 if till.terms is None else till.terms.policy.reply_timeout_ms / 1000
    scanned_s = phase.until - waited_s if phase.scanned_s is None else phase.scanned_s
    accepted = accept(till, phase.sale, phase.text, scanned_s, now)
    if not isinstance(accepted, OfflineRefusal | QrRefusal):
        return accepted
    till, effects = cancel(till, phase, CancelReason.NO_REPLY, now)
    return till, (*effects, Note("not_accepted_offline", phase.sale.key, accepted.value))


def _show_on(till: Till, phase: Showing, now: Now) -> Step:
    """The result was seen."""
    match phase.then:
        case None:
            return rest(till, now.wall_ms)
        case NobodySignedIn() as looking:
            return look_for_badge(till, looking, now.wall_ms)
        case Scanning() as scanning:
            return scan(till, scanning)
        case _:
            assert_never(phase.then)


def _take_policy(till: Till, event: PolicyArrived, now: Now) -> Step:
    """The retained policy comes again with every connection: only a new one is journaled."""
    if till.terms is not None and till.terms.policy.version >= event.policy.version:
        return till, ()
    till = replace(till, terms=terms_of(event.policy, event.zone))
    taken = Journal((PolicyTaken(event.policy.version, event.token),))
    till, acknowledged = beat(till, now)
    if isinstance(till.phase, WaitingForPolicy | Ready | NobodySignedIn):
        till, effects = rest(till, now.wall_ms)
        return till, (taken, *effects, *acknowledged)
    return till, (taken, *acknowledged)


def _leave_if_over(till: Till, now: Now) -> Step:
    """A session that has run out, or is for another stall, ends before the next key counts."""
    match till.phase:
        case Ready() | KeyingAmount() | KeyingProducts() | LeaveAsked() if isinstance(
            resting_phase(till, now.wall_ms), NobodySignedIn
        ):
            return rest(till, now.wall_ms)
        case _:
            return till, ()
