"""The transition table: what each event means in each phase; the phases' files say how.

Starting --JournalOpened--> WaitingForPolicy | NobodySignedIn | Ready | HandedOverAsked
NobodySignedIn --badge--> KeyingPin --#--> SigningIn --SignedIn--> Ready
SigningIn --pin_not_set--> KeyingPinAgain --#--> SigningIn --SignedIn--> Ready
Ready --wallet QR--> Ready, scanned first: `#` after an amount asks at once
Ready --digit | A--> KeyingAmount | KeyingProducts --# (journaled)--> Scanning
Scanning --wallet QR--> Asking --reply (journaled) | time-out (journaled)--> Showing
Showing --time | key | code--> Ready, or Scanning again where a fresh QR helps
Ready --C--> BalanceWanted --wallet QR--> Inquiring --> Ready
Ready --D--> Inquiring --> Ready
Ready --B--> ReceiptWanted --receipt's QR--> KeyingRefund --# (journaled)--> Refunding --> Showing
Refunding --approval_needed--> SupervisorWanted --badge--> KeyingPin --#--> Inquiring --> Refunding
Ready --D held--> LeaveAsked --#--> NobodySignedIn
any --JournalFailed--> JournalBroken --JournalOpened--> as from Starting
"""

from dataclasses import replace
from typing import assert_never

from device.till import resending
from device.till.accepting import accept, with_leave
from device.till.approving import give_up_approval, hear_approval
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
    OwnRecalled,
    PolicyArrived,
    PrinterChanged,
    QrSeen,
    ReplyArrived,
    RequestSigned,
    SettledRecalled,
    Tick,
    UpdateBegan,
    UpdateEnded,
)
from device.till.keying import key_amount, key_products, key_when_ready
from device.till.leaving import answer_leave, hear_shift_report, wait_to_leave
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
from device.till.refunding import (
    hear_refund,
    key_refund,
    key_while_refunding,
    key_while_wanting,
    see_receipt,
    stop_waiting,
)
from device.till.reprinting import give_up_last_receipt, hear_last_receipt, print_own
from device.till.resting import (
    Step,
    is_stray,
    pass_over,
    rest,
    resting_light,
    resting_phase,
    watch,
)
from device.till.scanning_first import drop_if_late, hear_balance, see_wallet_first
from device.till.selling import (
    abandon,
    cancel,
    hear_deduct,
    key_while_asking,
    key_while_scanning,
    see_wallet_qr,
)
from device.till.showing_balance import give_up_balance, hear_balance_for_slip, see_wallet
from device.till.signals import Light, Sound
from device.till.staffing import (
    end_if_over,
    give_up_sign_in,
    hear_sign_in,
    key_pin,
    key_pin_again,
    see_badge,
)
from device.till.states import (
    ApprovalOf,
    Asking,
    BalanceOf,
    BalanceWanted,
    HandedOverAsked,
    Inquiring,
    JournalBroken,
    KeyingAmount,
    KeyingPin,
    KeyingPinAgain,
    KeyingProducts,
    KeyingRefund,
    LastReceiptOf,
    LeaveAsked,
    NobodySignedIn,
    Ready,
    ReceiptWanted,
    Refunding,
    RefundWanted,
    ScannedFirst,
    Scanning,
    Showing,
    SigningIn,
    Starting,
    SupervisorWanted,
    Till,
    WaitingForPolicy,
)
from device.till.syncing import fold, save
from device.till.terms import terms_of
from device.till.trusted_time import anchor_in, believed
from device.till.updating import begin_update, end_update, is_kept_from, tell_of_update
from device.till.viewing import mind_view, note_view
from protocol.messages import HeartbeatAnswered, Resend
from protocol.wallet_qr import QrRefusal


def step(till: Till, event: Event, now: Now) -> Step:
    """What follows from one event: the till afterwards, and what is to be done, in order."""
    at_first = till
    till = replace(till, anchor=anchor_in(till.anchor, now))
    now = believed(now, till.anchor)
    till, ended = _leave_if_over(with_leave(till, now), now)
    before = till
    till, effects = _step(till, event, now)
    till, saved = save(mind_view(before, till, now.monotonic_s))
    effects = (*ended, *effects, *saved)
    for effect in effects:
        if isinstance(effect, Journal):
            till = replace(till, record=fold(till.record, effect.entries))
    till = with_leave(till, now)
    return till, (*effects, *_light_after(at_first, till, effects))


def _light_after(before: Till, till: Till, effects: Effects) -> Effects:
    """The light of rest, where what it depends on changed and nothing else showed it."""
    light = resting_light(till)
    shown = [each.light for each in effects if isinstance(each, ShowLight)]
    if light is None:
        return ()
    return () if light == (shown[-1] if shown else resting_light(before)) else (ShowLight(light),)


def _step(till: Till, event: Event, now: Now) -> Step:  # noqa: C901, PLR0912 -- a branch each
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
        case UpdateBegan():
            return begin_update(till)
        case UpdateEnded():
            return end_update(till)
        case OwnRecalled():
            return print_own(till, event, now)
        case SettledRecalled():
            return resending.take_up(till, event, now.monotonic_s)
        case _:
            assert_never(event)


def _press(till: Till, event: KeyPressed, now: Now) -> Step:  # noqa: C901, PLR0912 -- a phase each
    if is_kept_from(till):
        return tell_of_update(till, event, now)
    match till.phase:
        case Starting() | WaitingForPolicy() | NobodySignedIn() | SigningIn() | JournalBroken():
            return pass_over(till, event, now)
        case KeyingPin() as phase:
            return key_pin(till, phase, event, now)
        case KeyingPinAgain() as phase:
            return key_pin_again(till, phase, event, now)
        case Ready() if is_stray(till, now.monotonic_s):
            till, _ = pass_over(till, event, now)
            return till, (MakeSound(Sound.DECLINED),)
        case Ready() as phase:
            return key_when_ready(till, phase, event, now)
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
        case BalanceWanted() | ReceiptWanted() | SupervisorWanted():
            return key_while_wanting(till, event, now)
        case KeyingRefund() as phase:
            return key_refund(till, phase, event, now)
        case Inquiring() as phase:
            return _press_while_inquiring(till, phase, event, now)
        case Refunding() as phase:
            return key_while_refunding(till, phase, event, now)
        case LeaveAsked() as phase:
            return answer_leave(till, phase, event, now)
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


def _press_while_inquiring(till: Till, phase: Inquiring, event: KeyPressed, now: Now) -> Step:
    """Nothing is at stake: held `*` ends it. What its answer says then is of no interest."""
    if event.key == "*" and event.held:
        till, effects = rest(till, now.wall_ms)
        return till, (*effects, MakeSound(Sound.CLICK), Note("not_awaited", phase.key, phase.kind))
    return pass_over(till, event, now)


def _see(till: Till, event: QrSeen, now: Now) -> Step:
    if is_kept_from(till):
        return till, ()
    phase = till.phase
    if isinstance(phase, Showing) and phase.then is not None:
        phase = phase.then
    if isinstance(phase, Ready | KeyingAmount | KeyingProducts):
        return see_wallet_first(till, phase, event, now)
    till = note_view(till, event.text, "", now.monotonic_s)
    match phase:
        case NobodySignedIn() | SupervisorWanted():
            return see_badge(till, phase, event, now)
        case Scanning():
            return see_wallet_qr(till, phase, event, now)
        case BalanceWanted():
            return see_wallet(till, phase, event, now)
        case ReceiptWanted():
            return see_receipt(till, phase, event, now)
        case _:
            return till, ()


def _hear(till: Till, event: ReplyArrived, now: Now) -> Step:
    match event.reply.answers, till.phase:
        case "deduct", Asking() as phase:
            return hear_deduct(till, phase, event, now)
        case ("sign_in" | "choose_pin") as kind, SigningIn() as phase if kind == phase.kind:
            return hear_sign_in(till, phase, event, now)
        case "refund", _:
            return hear_refund(till, event, now)
        case "shift_report", LeaveAsked() as phase:
            return hear_shift_report(till, phase, event, now)
        case "balance", (
            Ready(scanned=ScannedFirst() as scanned)
            | KeyingAmount(scanned=ScannedFirst() as scanned)
            | KeyingProducts(scanned=ScannedFirst() as scanned)
        ) as phase:
            return hear_balance(till, phase, scanned, event, now)
        case _, Inquiring() as phase if phase.kind == event.reply.answers:
            return _hear_inquiry(till, phase, event, now)
        case "heartbeat", _:
            till, refused = close_heartbeat(till, event, now.monotonic_s)
            if refused:
                return till, refused
            till, ended = end_if_over(till, event, now)
            till, asked = resending.attend(till, _asked_to_resend(event), now.monotonic_s)
            return till, (*ended, *asked)
        case (("cancel" | "sign_out" | "offline_acceptance" | "resubmission"), _):
            till, closed = close_posted(till, event, now.monotonic_s)
            till, more = resending.go_on(till, now.monotonic_s)
            return till, (*closed, *more)
        case _:
            return till, (ignored(event),)


def _hear_inquiry(till: Till, phase: Inquiring, event: ReplyArrived, now: Now) -> Step:
    match phase.about:
        case BalanceOf() as about:
            return hear_balance_for_slip(till, phase, about, event, now)
        case LastReceiptOf() as about:
            return hear_last_receipt(till, phase, about, event, now)
        case ApprovalOf() as about:
            return hear_approval(till, phase, about, event, now)
        case _:
            assert_never(phase.about)


def _give_up_inquiry(till: Till, phase: Inquiring, now: Now) -> Step:
    match phase.about:
        case BalanceOf() as about:
            return give_up_balance(till, phase, about, now)
        case LastReceiptOf() as about:
            return give_up_last_receipt(till, phase, about, now)
        case ApprovalOf():
            return give_up_approval(till, phase, now)
        case _:
            assert_never(phase.about)


def _asked_to_resend(event: ReplyArrived) -> Resend | None:
    outcome = event.reply.outcome
    return outcome.resend if isinstance(outcome, HeartbeatAnswered) else None


def _tick(till: Till, now: Now) -> Step:
    match till.phase:
        case Starting():
            return open_journal(till, now)
        case JournalBroken(open_at=open_at) if now.monotonic_s >= open_at:
            return open_journal(till, now)
        case (
            KeyingPin(until=until)
            | KeyingPinAgain(until=until)
            | BalanceWanted(until=until)
            | ReceiptWanted(until=until)
            | KeyingRefund(until=until)
            | SupervisorWanted(until=until)
        ) if now.monotonic_s >= until:
            return rest(till, now.wall_ms)
        case LeaveAsked() as phase:
            return wait_to_leave(till, phase, now)
        case Ready() | KeyingAmount() | KeyingProducts() as phase:
            return drop_if_late(till, phase, now)
        case Inquiring() as phase if now.monotonic_s >= phase.until:
            return _give_up_inquiry(till, phase, now)
        case Refunding() as phase if now.monotonic_s >= phase.until:
            return stop_waiting(till, phase, now)
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
    if phase.then is None:
        return rest(till, now.wall_ms)
    return watch(till, phase.then, now.wall_ms)


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
        ) if isinstance(resting_phase(till, now.wall_ms), NobodySignedIn):
            return rest(till, now.wall_ms)
        case _:
            return till, ()
