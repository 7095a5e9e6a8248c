"""A refund, from the receipt's QR to its slip: journaled first, and asked until it is answered."""

from dataclasses import replace
from typing import Final

from device.till.contents import AskToRefund
from device.till.effects import Effect, Effects, Journal, Look, MakeSound, Note, Print, ShowLight
from device.till.entries import Entry, RefundAnswered, RefundOpened, RefundShown
from device.till.events import KeyPressed, Now, QrSeen, ReplyArrived
from device.till.inquiring import SESSION_IS_OVER, end_session
from device.till.notices import (
    no_refund_slip,
    refund_unknown_slip,
    refusal_slip,
    supervisor_slip,
)
from device.till.outbox import ask_now, hear, ignored, post
from device.till.receipt import refund_slip
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
from device.till.signals import Light, Sound
from device.till.standing import OpenRefund
from device.till.states import (
    KeyingRefund,
    LeftOfSale,
    ReceiptWanted,
    Refunding,
    RefundWanted,
    Showing,
    Sighting,
    SupervisorWanted,
    Till,
    Unanswered,
)
from device.till.viewing import is_same_sighting, still_in_view
from device.till.wording import sentence_of
from protocol import receipt_qr
from protocol.messages import Declined, Outcome, Reason, Refunded
from protocol.money import CENTS_MAX, Money

RECEIPT_WAIT_S: Final = 60.0
KEYING_WAIT_S: Final = 60.0
SUPERVISOR_WAIT_S: Final = 90.0
REFUNDED_S: Final = 2.0
DIGITS_MAX: Final = 32

SETTLES_NOTHING: Final = frozenset({Reason.UNSUPPORTED_VERSION, Reason.MALFORMED})
"""Said before any look at the key, by one of several workers: another may have given it back."""


def want_refund(till: Till, now: Now) -> Step:
    """`B`: show the receipt. Refunds are online only."""
    if not is_online(till):
        return _refuse_offline(till, now)
    wanted = ReceiptWanted(now.monotonic_s + RECEIPT_WAIT_S)
    till, effects = watch(till, wanted, now.wall_ms)
    return till, (*effects, MakeSound(Sound.CLICK))


def see_receipt(till: Till, phase: ReceiptWanted, event: QrSeen, now: Now) -> Step:
    now_s = now.monotonic_s
    refusing = replace(phase, refused=Sighting(event.text, now_s))
    if is_same_sighting(phase.refused, event.text, now_s):
        return still_in_view(till, refusing)
    sale = receipt_qr.read(event.text)
    if sale is None:
        return ask_for_fresh_code(till, now_s, "not_a_receipt", refusing)
    unanswered = next(
        (
            each
            for each in till.outbox
            if isinstance(each.content, AskToRefund) and each.content.refund.sale == sale
        ),
        None,
    )
    if unanswered is not None:
        return _resume(till, unanswered, now)
    keying = KeyingRefund(sale, now_s + KEYING_WAIT_S)
    return replace(till, phase=keying), (
        ShowLight(Light.KEY_THE_AMOUNT),
        MakeSound(Sound.SCANNED),
        Look(False),
    )


def key_while_wanting(till: Till, event: KeyPressed, now: Now) -> Step:
    """While a code is wanted for something that is no sale: `*` ends it."""
    if event.key != "*":
        till, _ = pass_over(till, event, now)
        return till, (MakeSound(Sound.DECLINED),)
    till, effects = rest(till, now.wall_ms)
    return till, (*effects, MakeSound(Sound.CLICK))


def key_refund(till: Till, phase: KeyingRefund, event: KeyPressed, now: Now) -> Step:
    keying = replace(phase, until=now.monotonic_s + KEYING_WAIT_S)
    match event.key:
        case "*" if phase.digits and not event.held:
            return replace(till, phase=replace(keying, digits="")), (MakeSound(Sound.CLICK),)
        case "*":
            till, effects = rest(till, now.wall_ms)
            return till, (*effects, MakeSound(Sound.CLICK))
        case "#":
            return _confirm(till, phase, now)
        case digit if digit.isdecimal() and len(phase.digits) < DIGITS_MAX:
            keying = replace(keying, digits=phase.digits + digit)
            return replace(till, phase=keying), (MakeSound(Sound.CLICK),)
        case _:
            return replace(till, phase=keying), (MakeSound(Sound.DECLINED),)


def open_refund(till: Till, wanted: RefundWanted, now: Now, approval_id: str | None = None) -> Step:
    """Journal it under a key of its own, then ask; from here on it is asked until answered."""
    terms, session = till.terms, till.session
    assert terms is not None, "somebody is signed in, so there is a policy"
    assert session is not None, "somebody is signed in"
    if not is_online(till):
        return _refuse_offline(till, now)
    refund = RefundOpened(
        key=now.fresh_key,
        correlation_id=now.fresh_correlation,
        session_id=session.session_id,
        initials=session.initials,
        event_id=terms.policy.event_id,
        stall_id=terms.policy.stall_id,
        policy_version=terms.policy.version,
        sale=wanted.sale,
        amount=wanted.amount,
        approval_id=approval_id,
        at_ms=now.wall_ms,
    )
    till, sent = post(till, AskToRefund(refund), now.monotonic_s)
    till, waiting = _wait(till, refund, now)
    return till, (Journal((refund,)), *sent, *waiting)


def key_while_refunding(till: Till, phase: Refunding, event: KeyPressed, now: Now) -> Step:
    """A refund is never cancelled: held `*` only stops waiting for its answer."""
    if event.key == "*" and event.held:
        return stop_waiting(till, phase, now)
    return pass_over(till, event, now)


def stop_waiting(till: Till, phase: Refunding, now: Now) -> Step:
    """Nobody knows yet. The outbox goes on asking, and a slip says how it ended."""
    assert till.terms is not None, "somebody is signed in, so there is a policy"
    slip = refund_unknown_slip(till.terms, now.wall_ms)
    till, effects = show_fault(till, now.monotonic_s)
    return till, (*effects, Print(slip), Note("no_reply", phase.refund.key, "refund"))


def hear_refund(till: Till, event: ReplyArrived, now: Now) -> Step:
    """The cloud's word on a refund, whoever still waits for it: journaled, then told."""
    reply = event.reply
    message = next(
        (
            each
            for each in till.outbox
            if isinstance(each.content, AskToRefund)
            and (each.content.key, each.request_hash) == (reply.key, reply.request_hash)
        ),
        None,
    )
    if message is None:
        return till, (ignored(event),)
    assert isinstance(message.content, AskToRefund), "just looked for"
    till = hear(till, now.monotonic_s)
    match reply.outcome:
        case Declined(reason=reason) if reason in SETTLES_NOTHING:
            return till, (Note("answer_settles_nothing", reply.key, reply.answers),)
        case Refunded() | Declined() as answer:
            outbox = tuple(each for each in till.outbox if each is not message)
            till = replace(till, outbox=outbox)
            refund = message.content.refund
            answered = RefundAnswered(refund.key, answer, event.token)
            return _tell(till, refund, answer, (answered,), now)
        case _:
            return till, (ignored(event),)


def tell_again(till: Till, refunds: tuple[OpenRefund, ...], wall_ms: int) -> Effects:
    """After a power cut: answers that staff may not have, on paper."""
    if till.terms is None:
        return ()
    effects: list[Effect] = []
    for each in refunds:
        match each.answer:
            case Refunded() as given:
                effects.append(Print(refund_slip(each.refund, given, till.terms, again=True)))
            case Declined(reason=reason):
                wanted = RefundWanted(each.refund.sale, each.refund.amount)
                effects.append(Print(no_refund_slip(wanted, reason, None, till.terms, wall_ms)))
            case _:
                continue
        effects.append(Journal((RefundShown(each.refund.key),)))
    return tuple(effects)


def _confirm(till: Till, phase: KeyingRefund, now: Now) -> Step:
    terms = till.terms
    assert terms is not None, "somebody is signed in, so there is a policy"
    if not phase.digits:
        return open_refund(till, RefundWanted(phase.sale, None), now)
    cents = int(phase.digits)
    wanted = RefundWanted(phase.sale, terms.policy.money(min(cents, CENTS_MAX)))
    if cents == 0 or cents > CENTS_MAX:
        reason = Reason.OVER_WHAT_IS_LEFT if cents else Reason.AMOUNT_NOT_POSITIVE
        left = _left_of(till, wanted)
        till, effects = decline(till, now.monotonic_s, reason.value)
        return till, (*effects, Print(no_refund_slip(wanted, reason, left, terms, now.wall_ms)))
    return open_refund(till, wanted, now)


def _resume(till: Till, message: Unanswered, now: Now) -> Step:
    """This very receipt's refund has no answer yet: that one is asked again, and no second one."""
    assert isinstance(message.content, AskToRefund), "a refund's message"
    till, sent = ask_now(till, message, now.monotonic_s)
    till, waiting = _wait(till, message.content.refund, now)
    return till, (*sent, *waiting, Note("refund_resumed", message.content.key))


def _wait(till: Till, refund: RefundOpened, now: Now) -> Step:
    assert till.terms is not None, "somebody is signed in, so there is a policy"
    until = now.monotonic_s + till.terms.policy.reply_timeout_ms / 1000
    return replace(till, phase=Refunding(refund, until)), (
        ShowLight(Light.ASKING),
        MakeSound(Sound.SCANNED),
        Look(False),
    )


def _tell(
    till: Till,
    refund: RefundOpened,
    answer: Refunded | Declined,
    entries: tuple[Entry, ...],
    now: Now,
) -> Step:
    """On paper always; by the lamp only to whoever stands there and waits for this answer."""
    terms = till.terms
    assert terms is not None, "a request was answered, so there is a policy"
    wanted = RefundWanted(refund.sale, refund.amount)
    is_awaited = isinstance(till.phase, Refunding) and till.phase.refund.key == refund.key
    if isinstance(answer, Refunded):
        left = LeftOfSale(refund.sale, Money(answer.left_in_cents, answer.amount.currency))
        till = replace(till, left_of_sale=left)
        slip = refund_slip(refund, answer, terms)
    elif is_awaited and answer.reason is Reason.APPROVAL_NEEDED:
        slip = supervisor_slip(wanted, terms)
    else:
        left = _left_of(till, wanted) if answer.reason is Reason.OVER_WHAT_IS_LEFT else None
        slip = no_refund_slip(wanted, answer.reason, left, terms, now.wall_ms)
    effects: Effects = ()
    if is_awaited:
        till, ended, effects = _light(till, wanted, answer, now)
        entries = (*entries, *ended)
    return till, (
        Journal(entries),
        *effects,
        Print(slip),
        Journal((RefundShown(refund.key),)),
        Note("refund_answered", refund.key, _name_of(answer)),
    )


def _light(
    till: Till, wanted: RefundWanted, answer: Refunded | Declined, now: Now
) -> tuple[Till, tuple[Entry, ...], Effects]:
    now_s = now.monotonic_s
    if isinstance(answer, Refunded):
        till = replace(till, phase=Showing(Light.REFUNDED, now_s + REFUNDED_S))
        return till, (), (ShowLight(Light.REFUNDED), MakeSound(Sound.REFUNDED))
    if answer.reason is Reason.APPROVAL_NEEDED:
        supervisor = SupervisorWanted(wanted, now_s + SUPERVISOR_WAIT_S)
        till, effects = watch(till, supervisor, now.wall_ms)
        return till, (), (*effects, MakeSound(Sound.DECLINED))
    ended: tuple[Entry, ...] = ()
    if answer.reason in SESSION_IS_OVER:
        till, over = end_session(till)
        ended = (over,)
    till, effects = decline(till, now_s, answer.reason.value)
    return till, ended, effects


def _left_of(till: Till, wanted: RefundWanted) -> Money | None:
    known = till.left_of_sale
    return known.left if known is not None and known.sale == wanted.sale else None


def _name_of(answer: Outcome) -> str:
    return answer.reason.value if isinstance(answer, Declined) else "refunded"


def _refuse_offline(till: Till, now: Now) -> Step:
    assert till.terms is not None, "somebody is signed in, so there is a policy"
    reason = Reason.OFFLINE_NOT_ALLOWED
    slip = refusal_slip("No refund", sentence_of(reason), till.terms, now.wall_ms)
    till, effects = decline(till, now.monotonic_s, reason.value)
    return till, (*effects, Print(slip))
