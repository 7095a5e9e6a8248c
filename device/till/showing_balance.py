"""A balance on paper (`C`): how much is in the wallet whose QR is shown, and not whose it is."""

from dataclasses import replace
from typing import Final

from device.till.contents import AskForBalance
from device.till.effects import Effects, Journal, MakeSound, Note, Print
from device.till.events import Now, QrSeen, ReplyArrived
from device.till.inquiring import SESSION_IS_OVER, end_session, inquire, is_answer_to
from device.till.notices import balance_slip, refusal_slip
from device.till.outbox import hear, ignored
from device.till.resting import (
    Step,
    ask_for_fresh_code,
    decline,
    is_online,
    rest,
    watch,
)
from device.till.scanning_first import FRESH_QR_HELPS, kept, open_wallet_qr
from device.till.signals import Sound
from device.till.states import (
    BalanceOf,
    BalanceWanted,
    Inquiring,
    Ready,
    ScannedFirst,
    Sighting,
    Till,
)
from device.till.viewing import be_done_with, is_same_sighting, still_in_view
from device.till.wording import sentence_of
from protocol.messages import BalanceShown, Declined, Reason
from protocol.money import Money

BALANCE_WAIT_S: Final = 60.0


def want_balance(till: Till, phase: Ready, now: Now) -> Step:
    """`C`: of the wallet that was scanned first, or of the next one shown."""
    scanned = phase.scanned
    if scanned is not None and scanned.balance is not None:
        return _print(till, scanned.balance, scanned, now)
    if not is_online(till):
        return _refuse(till, Reason.OFFLINE_NOT_ALLOWED, now, phase)
    if scanned is not None:
        return _ask(till, scanned.text, scanned.jws, scanned, now)
    wanted = BalanceWanted(now.monotonic_s + BALANCE_WAIT_S)
    till, effects = watch(till, wanted, now.wall_ms)
    return till, (*effects, MakeSound(Sound.CLICK))


def see_wallet(till: Till, phase: BalanceWanted, event: QrSeen, now: Now) -> Step:
    now_s = now.monotonic_s
    refusing = replace(phase, refused=Sighting(event.text, now_s))
    if is_same_sighting(phase.refused, event.text, now_s):
        return still_in_view(till, refusing)
    wallet = open_wallet_qr(till, event.text)
    if isinstance(wallet, str):
        return ask_for_fresh_code(till, now_s, wallet, refusing)
    till = be_done_with(till, event.text, wallet.payer_id, now_s)
    return _ask(till, event.text, wallet.jws, None, now)


def hear_balance_for_slip(
    till: Till, phase: Inquiring, about: BalanceOf, event: ReplyArrived, now: Now
) -> Step:
    if not is_answer_to(phase, event):
        return till, (ignored(event),)
    till = hear(till, now.monotonic_s)
    match event.reply.outcome:
        case BalanceShown(balance=balance):
            scanned = about.scanned
            still = None if scanned is None else replace(scanned, balance=balance)
            return _print(till, balance, kept(still, now), now)
        case Declined(reason=reason) if reason in FRESH_QR_HELPS:
            wanted = BalanceWanted(
                now.monotonic_s + BALANCE_WAIT_S, Sighting(about.text, now.monotonic_s)
            )
            return ask_for_fresh_code(till, now.monotonic_s, reason.value, wanted)
        case Declined(reason=reason):
            return _refuse(till, reason, now)
        case _:
            return till, (ignored(event),)


def give_up_balance(till: Till, phase: Inquiring, about: BalanceOf, now: Now) -> Step:
    """No reply in time: nothing was moved, so nothing is at fault."""
    then = None if about.scanned is None else Ready(kept(about.scanned, now))
    till, effects = _refuse(till, Reason.OFFLINE_NOT_ALLOWED, now, then)
    return till, (*effects, Note("no_reply", phase.key, phase.kind))


def _ask(till: Till, text: str, jws: str, scanned: ScannedFirst | None, now: Now) -> Step:
    assert till.session is not None, "somebody is signed in"
    content = AskForBalance(now.fresh_key, till.session.session_id, jws)
    return inquire(till, content, BalanceOf(text, scanned), now, Sound.SCANNED)


def _print(till: Till, balance: Money, scanned: ScannedFirst | None, now: Now) -> Step:
    assert till.terms is not None, "somebody is signed in, so there is a policy"
    slip = balance_slip(balance, till.terms, now.wall_ms)
    till, effects = rest(till, now.wall_ms)
    if scanned is not None and till.phase == Ready():
        till, effects = watch(till, Ready(scanned), now.wall_ms)
    return till, (*effects, MakeSound(Sound.SCANNED), Print(slip))


def _refuse(till: Till, reason: Reason, now: Now, then: Ready | None = None) -> Step:
    assert till.terms is not None, "somebody is signed in, so there is a policy"
    slip = refusal_slip("No balance", sentence_of(reason), till.terms, now.wall_ms)
    written: Effects = ()
    if reason in SESSION_IS_OVER:
        till, ended = end_session(till)
        written = (Journal((ended,)),)
    till, effects = decline(till, now.monotonic_s, reason.value, then=then)
    return till, (*written, *effects, Print(slip))
