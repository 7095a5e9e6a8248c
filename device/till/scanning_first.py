"""A wallet QR shown before anything is keyed: as good as after it, and `#` deducts at once."""

from dataclasses import dataclass, field, replace
from typing import Final

from device.till.contents import AskForBalance
from device.till.effects import Effects, Journal, MakeSound, Note
from device.till.events import Now, QrSeen, ReplyArrived
from device.till.inquiring import SESSION_IS_OVER, end_session
from device.till.outbox import ask, hear, ignored
from device.till.resting import Step, ask_for_fresh_code, decline, is_online, watch
from device.till.signals import Sound
from device.till.states import (
    KeyingAmount,
    KeyingProducts,
    Ready,
    ScannedFirst,
    Till,
)
from device.till.viewing import (
    be_done_with,
    is_in_view,
    note_view,
    still_in_view,
    welcome_again,
)
from protocol.messages import BalanceShown, Declined, Reason
from protocol.wallet_qr import QrRefusal, check_signature, peek, read

SCANNED_S: Final = 30.0
"""So long a QR waits for its amount after the last key: it does not live much longer."""

FRESH_QR_HELPS: Final = frozenset(
    {Reason.NOT_A_WALLET_QR} | {each for each in Reason if each.value.startswith("token_")}
)

_NO_WALLETS: Final = frozenset(
    {QrRefusal.NOT_A_WALLET_QR.value, QrRefusal.MALFORMED.value, QrRefusal.TOO_LONG.value}
)
"""What a badge, a receipt or a poster is refused as: nobody meant to pay with it."""

BeforeASale = Ready | KeyingAmount | KeyingProducts
"""The phases in which a wallet QR may be shown first."""


@dataclass(frozen=True)
class WalletQr:
    """A code that may be a wallet's of this event: whether it counts only the cloud knows."""

    jws: str = field(repr=False)
    payer_id: str


def open_wallet_qr(till: Till, text: str) -> WalletQr | str:
    """Refuse here what can be refused here, by name; whether it is in time is not among it."""
    assert till.terms is not None, "somebody is signed in, so there is a policy"
    jws = read(text)
    if isinstance(jws, QrRefusal):
        return jws.value
    match check_signature(jws, till.terms.find_wallet_key):
        # A key newer than the policy: the cloud will know it.
        case QrRefusal() as refusal if refusal is not QrRefusal.UNKNOWN_KEY:
            return refusal.value
        case _:
            token = peek(jws)
            return WalletQr(jws, "" if token is None else token.sub)


def scanned_now(text: str, wallet: WalletQr, now: Now) -> ScannedFirst:
    return ScannedFirst(
        text,
        wallet.jws,
        wallet.payer_id,
        scanned_at_ms=now.wall_ms,
        scanned_s=now.monotonic_s,
        until=now.monotonic_s + SCANNED_S,
    )


def see_wallet_first(till: Till, phase: BeforeASale, event: QrSeen, now: Now) -> Step:
    """Take the wallet that is held up, once; whatever else lies there is refused once, gently."""
    now_s = now.monotonic_s
    wallet = open_wallet_qr(till, event.text)
    payer_id = wallet.payer_id if isinstance(wallet, WalletQr) else ""
    is_known = is_in_view(till, event.text, payer_id, now_s)
    till = note_view(till, event.text, payer_id, now_s)
    pending = phase.scanned
    if pending is not None and payer_id and pending.payer_id == payer_id:
        # The same phone with a younger code: the one that lives longer is kept.
        assert isinstance(wallet, WalletQr), "it has a payer"
        younger = replace(
            scanned_now(event.text, wallet, now),
            until=pending.until,
            balance=pending.balance,
            key=pending.key,
            request_hash=pending.request_hash,
        )
        is_younger = event.text != pending.text and not is_known
        scanned = younger if is_younger else pending
        return still_in_view(till, replace(phase, scanned=scanned))
    if is_known:
        return till, ()
    if not isinstance(wallet, WalletQr):
        return _refuse(till, phase, wallet, now)
    # Whoever is replaced may lie there still, and draw a younger code: that must not pay instead.
    till = drop_scanned(till, phase, now)
    return _take(till, phase, event.text, wallet, now)


def hear_balance(
    till: Till, phase: BeforeASale, scanned: ScannedFirst, event: ReplyArrived, now: Now
) -> Step:
    """What is in the wallet, or that its code will not do. Without a word the deduct decides."""
    reply = event.reply
    if (reply.key, reply.request_hash) != (scanned.key, scanned.request_hash):
        return till, (ignored(event),)
    till = hear(till, now.monotonic_s)
    match reply.outcome:
        case BalanceShown(balance=balance):
            scanned = replace(scanned, balance=balance)
            return replace(till, phase=replace(phase, scanned=scanned)), ()
        case Declined(reason=reason) if reason in FRESH_QR_HELPS:
            till = welcome_again(till, scanned.payer_id)
            then = replace(phase, scanned=None)
            return ask_for_fresh_code(till, now.monotonic_s, reason.value, then)
        case Declined(reason=Reason.UNSUPPORTED_VERSION | Reason.MALFORMED):
            return till, (ignored(event),)
        case Declined(reason=reason):
            written: Effects = ()
            if reason in SESSION_IS_OVER:
                till, ended = end_session(till)
                written = (Journal((ended,)),)
            till = be_done_with(till, scanned.text, scanned.payer_id, now.monotonic_s)
            then = None if written else replace(phase, scanned=None)
            till, effects = decline(till, now.monotonic_s, reason.value, then=then)
            return till, (*written, *effects)
        case _:
            return till, (ignored(event),)


def drop_scanned(till: Till, phase: BeforeASale, now: Now) -> Till:
    """This wallet is not to pay now, although its code may lie there for a while."""
    if phase.scanned is not None:
        scanned = phase.scanned
        till = be_done_with(till, scanned.text, scanned.payer_id, now.monotonic_s)
    return replace(till, phase=replace(phase, scanned=None))


def drop_if_late(till: Till, phase: BeforeASale, now: Now) -> Step:
    if phase.scanned is None or now.monotonic_s < phase.scanned.until:
        return till, ()
    return drop_scanned(till, phase, now), ()


def kept(scanned: ScannedFirst | None, now: Now) -> ScannedFirst | None:
    """A key was pressed: the QR waits on."""
    return None if scanned is None else replace(scanned, until=now.monotonic_s + SCANNED_S)


def _take(till: Till, phase: BeforeASale, text: str, wallet: WalletQr, now: Now) -> Step:
    assert till.session is not None, "somebody is signed in"
    assert till.terms is not None, "somebody is signed in, so there is a policy"
    scanned = scanned_now(text, wallet, now)
    beep = MakeSound(Sound.SCANNED)
    timeout_ms = till.terms.policy.reply_timeout_ms
    question = AskForBalance(now.fresh_key, till.session.session_id, wallet.jws)
    asked: Effects = ()
    if is_online(till):
        scanned = replace(scanned, key=now.fresh_key)
        asked = (ask(question, timeout_ms),)
    till, effects = watch(till, replace(phase, scanned=scanned), now.wall_ms)
    return till, (*asked, *effects, beep)


def _refuse(till: Till, phase: BeforeASale, refusal: str, now: Now) -> Step:
    """A wallet's bad code asks for a fresh one; a badge or a receipt lying about only beeps."""
    if refusal in _NO_WALLETS:
        return till, (MakeSound(Sound.REFRESH_QR), Note("code_refused", "", refusal))
    return ask_for_fresh_code(till, now.monotonic_s, refusal, phase)
