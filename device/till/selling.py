"""A sale, from its journal entry to the light."""

from dataclasses import replace
from typing import Final

from msgspec import structs

from device.till.accepting import decide_at_once, refuse_to_open
from device.till.contents import AskToCancel, AskToDeduct
from device.till.effects import (
    AccountForSale,
    Effects,
    Journal,
    Look,
    MakeSound,
    Print,
    ShowLight,
)
from device.till.entries import (
    CancelReason,
    Entry,
    KeyedLine,
    LightShown,
    SaleAbandoned,
    SaleAnswered,
    SaleCancelled,
    SaleOpened,
    SessionEnded,
)
from device.till.events import KeyPressed, Now, QrSeen, ReplyArrived
from device.till.outbox import RESEND_AT_S, ask, hear, ignored, post
from device.till.receipt import declined_for_funds_slip, receipt_of
from device.till.resting import (
    Step,
    ask_for_fresh_code,
    decline,
    is_online,
    pass_over,
    rest,
    show_fault,
    watch,
)
from device.till.scanning_first import FRESH_QR_HELPS, open_wallet_qr, scanned_now
from device.till.signals import Light, Sound
from device.till.states import (
    Asking,
    Ready,
    ScannedFirst,
    Scanning,
    Showing,
    Sighting,
    Till,
)
from device.till.syncing import refuse
from device.till.viewing import be_done_with, is_same_sighting, still_in_view
from protocol.messages import Approved, Cancelled, Declined, Reason

SCAN_WAIT_S: Final = 120.0
"""A sale nobody pays for in this time is abandoned."""
APPROVED_S: Final = 2.0

SESSION_IS_OVER: Final = frozenset(
    {
        Reason.SESSION_UNKNOWN,
        Reason.SESSION_ENDED,
        Reason.SESSION_EXPIRED,
        Reason.STAFF_NOT_ASSIGNED,
    }
)


def see_wallet_qr(till: Till, phase: Scanning, event: QrSeen, now: Now) -> Step:
    """Refuse here what can be refused here; whether it is in time only the cloud's clock says."""
    now_s = now.monotonic_s
    sighting = Sighting(event.text, now_s)
    if is_same_sighting(phase.refused, event.text, now_s):
        return still_in_view(till, replace(phase, refused=sighting))
    wallet = open_wallet_qr(till, event.text)
    if isinstance(wallet, str):
        return ask_for_fresh_code(till, now_s, wallet, replace(phase, refused=sighting))
    return _ask_to_deduct(till, phase.sale, scanned_now(event.text, wallet, now), now)


def key_while_scanning(till: Till, phase: Scanning, event: KeyPressed, now: Now) -> Step:
    if event.key != "*":
        till, _ = pass_over(till, event, now)
        return till, (MakeSound(Sound.DECLINED),)
    till, effects = abandon(till, phase, now)
    return till, (*effects, MakeSound(Sound.CLICK))


def abandon(till: Till, phase: Scanning, now: Now) -> Step:
    """Nothing was published under this key, so nobody needs to be told."""
    till, effects = rest(till, now.wall_ms)
    return till, (Journal((SaleAbandoned(phase.sale.key),)), *effects)


def key_while_asking(till: Till, phase: Asking, event: KeyPressed, now: Now) -> Step:
    if event.key == "*" and event.held:
        return cancel(till, phase, CancelReason.STAFF, now)
    return pass_over(till, event, now)


def cancel(till: Till, phase: Asking, why: CancelReason, now: Now) -> Step:
    """The till's own decision: in the end nothing is deducted, whatever the cloud did so far."""
    sale = phase.sale
    till, shown = show_fault(till, now.monotonic_s)
    till, sent = post(till, AskToCancel(sale), now.monotonic_s)
    return till, (
        Journal((SaleCancelled(sale.key, why),)),
        *shown,
        AccountForSale(sale.key, sale.correlation_id, f"cancelled: {why}"),
        *sent,
    )


def hear_deduct(till: Till, phase: Asking, event: ReplyArrived, now: Now) -> Step:
    """The cloud's decision, journaled before anybody sees it."""
    reply, sale = event.reply, phase.sale
    if (reply.key, reply.request_hash) != (sale.key, phase.request_hash):
        return till, (ignored(event),)
    till = hear(till, now.monotonic_s)
    answered = SaleAnswered(sale.key, reply.outcome, event.token)
    match reply.outcome:
        case Approved() as approval if approval.amount == sale.amount:
            return _approve(till, sale, approval, answered, now)
        case Declined(reason=Reason.KEY_REUSED):
            # Something else was decided under this key: whatever it was, it must not stand.
            return cancel(till, phase, CancelReason.KEY_REUSED, now)
        case Declined(reason=Reason.UNSUPPORTED_VERSION | Reason.MALFORMED):
            # Said before any look at the key, by one of several workers: another may have read the
            # same bytes and approved. Only a cancel's answer speaks of the key.
            return cancel(till, phase, CancelReason.NOT_READ, now)
        case Declined(reason=reason) if reason in FRESH_QR_HELPS:
            return _ask_for_fresh_qr(till, phase, answered, reason, now)
        case Declined() as declined:
            till = refuse(till, declined, reply.answered_at_ms)
            return _decline(till, sale, declined, answered, now)
        case Cancelled():
            till, effects = decline(till, now.monotonic_s, "cancelled", sale)
            return till, (Journal((answered,)), *effects, _account(sale, "cancelled"))
        case _:
            # Not an answer to a deduct. No reply that counts will come: the time-out ends it.
            return till, (ignored(event),)


def open_sale(
    till: Till,
    cents: int,
    lines: tuple[KeyedLine, ...],
    now: Now,
    scanned: ScannedFirst | None = None,
) -> Step:
    """Refuse what can be known before scanning; else journal, then look for the wallet QR.

    Scanned first: then deduct at once from the QR that was read already.
    """
    terms, session = till.terms, till.session
    assert terms is not None, "somebody is signed in, so there is a policy"
    assert session is not None, "somebody is signed in"
    policy = terms.policy
    then = None if scanned is None else Ready(scanned)
    if cents <= 0:
        return decline(till, now.monotonic_s, Reason.AMOUNT_NOT_POSITIVE.value, then=then)
    if cents > policy.sale_max_in_cents:
        return decline(till, now.monotonic_s, Reason.AMOUNT_OVER_LIMIT.value, then=then)
    if now.wall_ms >= policy.expires_at_ms:
        return decline(till, now.monotonic_s, Reason.POLICY_EXPIRED.value, then=then)
    sale = SaleOpened(
        key=now.fresh_key,
        correlation_id=now.fresh_correlation,
        session_id=session.session_id,
        initials=session.initials,
        event_id=policy.event_id,
        stall_id=policy.stall_id,
        policy_version=policy.version,
        amount=policy.money(cents),
        lines=lines,
        at_ms=now.wall_ms,
    )
    refused = None if is_online(till) else refuse_to_open(till, sale, now)
    if refused is not None:
        return decline(till, now.monotonic_s, refused.value, then=then)
    if scanned is not None:
        till, effects = _ask_to_deduct(till, sale, scanned, now)
        return till, (Journal((sale,)), *effects)
    scanning = Scanning(sale, now.monotonic_s + SCAN_WAIT_S)
    till, effects = watch(till, scanning, now.wall_ms)
    return till, (Journal((sale,)), *effects, MakeSound(Sound.CLICK))


def _ask_to_deduct(till: Till, sale: SaleOpened, scanned: ScannedFirst, now: Now) -> Step:
    assert till.terms is not None, "somebody is signed in, so there is a policy"
    timeout_ms = till.terms.policy.reply_timeout_ms
    asking = Asking(
        sale,
        scanned.text,
        until=now.monotonic_s + timeout_ms / 1000,
        resend_at=tuple(now.monotonic_s + each for each in RESEND_AT_S),
        scanned_s=scanned.scanned_s,
    )
    till = be_done_with(till, scanned.text, scanned.payer_id, now.monotonic_s)
    if till.alone_until and not till.link.is_up:
        then = Scanning(sale, now.monotonic_s + SCAN_WAIT_S)
        return decide_at_once(till, then, scanned.text, scanned.scanned_s, now)
    # The request goes out first: lamp and buzzer have time while it travels.
    return replace(till, phase=asking), (
        ask(AskToDeduct(sale, scanned.jws, scanned.scanned_at_ms), timeout_ms),
        ShowLight(Light.ASKING),
        MakeSound(Sound.SCANNED),
        Look(False),
    )


def _approve(
    till: Till, sale: SaleOpened, approval: Approved, answered: SaleAnswered, now: Now
) -> Step:
    assert till.terms is not None, "somebody is signed in, so there is a policy"
    slip = receipt_of(sale, approval, till.terms)
    showing = Showing(Light.APPROVED, now.monotonic_s + APPROVED_S, sale=sale)
    return replace(till, phase=showing), (
        Journal((answered,)),
        ShowLight(Light.APPROVED),
        MakeSound(Sound.APPROVED),
        _account(sale, "approved"),
        Print(slip),
        Journal((LightShown(sale.key),)),
    )


def _ask_for_fresh_qr(
    till: Till, phase: Asking, answered: SaleAnswered, reason: Reason, now: Now
) -> Step:
    """The same sale goes on under a new key: the old one has had its answer."""
    again = structs.replace(phase.sale, key=now.fresh_key, at_ms=now.wall_ms)
    then = Scanning(
        again,
        until=now.monotonic_s + SCAN_WAIT_S,
        refused=Sighting(phase.text, now.monotonic_s),
    )
    till, effects = ask_for_fresh_code(till, now.monotonic_s, reason.value, then, phase.sale)
    return till, (Journal((answered, again)), *effects, _account(phase.sale, reason.value))


def _decline(
    till: Till, sale: SaleOpened, declined: Declined, answered: SaleAnswered, now: Now
) -> Step:
    terms = till.terms
    assert terms is not None, "somebody is signed in, so there is a policy"
    entries: tuple[Entry, ...] = (answered,)
    if declined.reason in SESSION_IS_OVER:
        entries = (answered, SessionEnded(sale.session_id, None))
        till = replace(till, session=None)
    paper: Effects = ()
    if declined.balance is not None:
        paper = (Print(declined_for_funds_slip(sale, declined.balance, terms, now.wall_ms)),)
    till, effects = decline(till, now.monotonic_s, declined.reason.value, sale)
    return till, (Journal(entries), *effects, _account(sale, declined.reason.value), *paper)


def _account(sale: SaleOpened, outcome: str) -> AccountForSale:
    return AccountForSale(sale.key, sale.correlation_id, outcome)
