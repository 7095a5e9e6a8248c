"""What the till does about a journal: opening one, losing one, and what it finds unfinished."""

from dataclasses import replace
from typing import Final

from device.till.contents import AskToCancel, AskToPostOffline, AskToRefund, AskToSignOut
from device.till.effects import (
    Effect,
    Effects,
    Journal,
    Look,
    MakeSound,
    Note,
    OpenJournal,
    Print,
    ShowLight,
)
from device.till.entries import (
    CancelReason,
    DeniedTaken,
    Entry,
    LightShown,
    RefundAbandoned,
    RefundAnswered,
    RefundOpened,
    RefundShown,
    SaleAbandoned,
    SaleAcceptedOffline,
    SaleAnswered,
    SaleCancelled,
    SaleKept,
    SaleOpened,
    Synced,
)
from device.till.events import JournalFailed, JournalOpened, KeyPressed, Now
from device.till.outbox import post, send_unsigned, upload
from device.till.receipt import handed_over_slip, journal_fault_slip
from device.till.refunding import tell_again
from device.till.resting import Step, is_stray, pass_over, rest
from device.till.signals import Light, Sound
from device.till.standing import OpenSale, Standing
from device.till.states import (
    Asking,
    HandedOverAsked,
    JournalBroken,
    Phase,
    Refunding,
    Scanning,
    Showing,
    SupervisorWanted,
    Till,
)
from device.till.syncing import fold
from device.till.terms import terms_of

OPEN_AGAIN_S: Final = 5.0


def open_journal(till: Till, now: Now) -> Step:
    match till.phase:
        case JournalBroken() as broken:
            broken = replace(broken, open_at=now.monotonic_s + OPEN_AGAIN_S)
            return replace(till, phase=broken), (ShowLight(broken.light), OpenJournal())
        case _:
            return till, (OpenJournal(),)


def take_up(till: Till, event: JournalOpened, now: Now) -> Step:
    """The journal is there: finish what it, or the till's own memory, says is unfinished.

    What the till remembers and could not write counts as written: it is, before anything follows.
    """
    remembered = till.phase.unwritten if isinstance(till.phase, JournalBroken) else ()
    standing = event.standing
    unwritten: list[Entry] = []
    for entry in _of_this_journal(till, standing, remembered):
        if _is_worth_writing(entry, standing):
            standing = standing.after(0, entry)
            unwritten.append(entry)
    if till.terms is None and event.policy is not None:
        till = replace(till, terms=terms_of(event.policy, event.zone))
    till = replace(till, resent_for=till.resent_for or standing.resent_for)
    if till.session is None and standing.session is not None:
        till = replace(till, session=event.session)
    undecided = tuple(
        SaleCancelled(each.sale.key, CancelReason.NO_DECISION_AT_START)
        for each in standing.sales
        if each.is_undecided
    )
    for entry in undecided:
        standing = standing.after(0, entry)
    till = _recall(till, event.standing)
    if till.link.is_up:
        # Heartbeats rested meanwhile: the silence was ours.
        heard = replace(till.link, heard_at=now.monotonic_s, heartbeat_at=now.monotonic_s)
        till = replace(till, link=heard)
    till, sent = _post_unanswered(till, standing, now)
    till = _upload_unanswered(till, standing, now)
    unshown = tuple(each for each in standing.sales if each.may_be_unseen)
    till, effects = _ask_or_rest(till, unshown, now)
    entries: tuple[Entry, ...] = (*unwritten, *undecided)
    written: Effects = (Journal(entries),) if entries else ()
    return till, (*written, *effects, *sent, *tell_again(till, standing.refunds, now.wall_ms))


def lose(till: Till, event: JournalFailed, now: Now) -> Step:
    """Nobody knows what the disk holds now, so no sale begins, and the one at stake ends."""
    till, event = _forget_the_answer(till, event)
    before = till.phase
    at_stake = _sale_at_stake(till.phase, event)
    ended: tuple[Entry, ...] = ()
    if at_stake is not None:
        sale, may_be_published = at_stake
        if may_be_published:
            # From memory: the journal may not be able to tell it after a power cut.
            till, _ = post(till, AskToCancel(sale), now.monotonic_s)
            ended = (SaleCancelled(sale.key, CancelReason.JOURNAL_FAULT),)
        else:
            ended = (SaleAbandoned(sale.key),)
    # Whatever the journal says when it opens again: nothing of these was published.
    opened = {each.key for each in event.entries if isinstance(each, RefundOpened)}
    ended = (*ended, *map(RefundAbandoned, opened))
    outbox = tuple(
        each
        for each in till.outbox
        if not (isinstance(each.content, AskToRefund) and each.content.key in opened)
    )
    till = replace(till, outbox=outbox)
    unwritten = before.unwritten if isinstance(before, JournalBroken) else ()
    entries = (*unwritten, *_still_true(event.entries), *ended)
    light = _light_of_loss(before, at_stake is not None, event)
    broken = JournalBroken(entries, now.monotonic_s + OPEN_AGAIN_S, light)
    till, sent = send_unsigned(replace(till, phase=broken))
    if isinstance(before, JournalBroken):
        return till, sent
    alarm: Effects = (Look(False), Print(journal_fault_slip()), Note("journal_broken"))
    if light is Light.FAULT:
        return till, (ShowLight(light), MakeSound(Sound.FAULT), *sent, *alarm)
    if _is_green(before):
        # What shines is done, and true: its light is not taken back.
        return till, (*sent, *alarm)
    return till, (ShowLight(light), *sent, *alarm)


def _forget_the_answer(till: Till, event: JournalFailed) -> tuple[Till, JournalFailed]:
    """What staff took back is not told from memory: they are asked again, after a power cut too,
    and may say something else then."""
    answers = {
        each
        for each in event.entries
        if isinstance(each, SaleCancelled) and each.why is CancelReason.NOT_HANDED_OVER
    }
    keys = {each.key for each in answers}
    outbox = tuple(
        each
        for each in till.outbox
        if not (isinstance(each.content, AskToCancel) and each.content.key in keys)
    )
    entries = tuple(each for each in event.entries if each not in answers)
    return replace(till, outbox=outbox), replace(event, entries=entries)


def answer_handed_over(till: Till, phase: HandedOverAsked, event: KeyPressed, now: Now) -> Step:
    asked, rest_of = phase.sales[0], phase.sales[1:]
    match event.key, event.held:
        case "#", _ if not is_stray(till, now.monotonic_s):
            if asked.acceptance is not None:
                kept = AskToPostOffline(asked.sale, asked.acceptance)
                till = upload(till, [kept], now.monotonic_s)
            till, effects = _ask_or_rest(till, rest_of, now)
            return till, (
                Journal((SaleKept(asked.sale.key),)),
                MakeSound(Sound.CLICK),
                *effects,
            )
        case "*", True:
            till, sent = post(till, AskToCancel(asked.sale), now.monotonic_s)
            till, effects = _ask_or_rest(till, rest_of, now)
            cancelled = SaleCancelled(asked.sale.key, CancelReason.NOT_HANDED_OVER)
            return till, (Journal((cancelled,)), MakeSound(Sound.CLICK), *effects, *sent)
        case _:
            # Who keys a number has not read the slip: its `#` is no answer.
            till, _ = pass_over(till, event, now)
            return till, (MakeSound(Sound.DECLINED),)


def _ask_or_rest(till: Till, sales: tuple[OpenSale, ...], now: Now) -> Step:
    if not sales:
        return rest(till, now.wall_ms)
    first = sales[0]
    slip = handed_over_slip(first.sale, first.approval, till.terms)
    return replace(till, phase=HandedOverAsked(sales)), (
        # Never green: that word was for the customer who stood here then.
        ShowLight(Light.OFFLINE_NOT_ALLOWED),
        Look(False),
        Print(slip),
    )


def _is_worth_writing(entry: Entry, standing: Standing) -> bool:
    """What is said of a sale or a refund, only where the journal has it open."""
    match entry:
        case SaleCancelled() | SaleAbandoned() | LightShown() | SaleKept():
            return standing.sale(entry.key) is not None
        case RefundShown() | RefundAbandoned():
            return standing.refund(entry.key) is not None
        case _:
            return True


def _post_unanswered(till: Till, standing: Standing, now: Now) -> Step:
    """What the cloud has not answered of cancels, refunds and sign-outs, unless it is sent."""
    on_their_way = {each.content.key for each in till.outbox}
    contents = (
        *(AskToCancel(each.sale) for each in standing.sales if each.is_cancelled),
        *(AskToRefund(each.refund) for each in standing.refunds if each.answer is None),
        *(AskToSignOut(each.key, each.session_id) for each in standing.sign_outs),
    )
    effects: list[Effect] = []
    for content in contents:
        if content.key not in on_their_way:
            till, sent = post(till, content, now.monotonic_s)
            effects += sent
    return till, tuple(effects)


def _upload_unanswered(till: Till, standing: Standing, now: Now) -> Till:
    """Sales taken offline that the cloud has not answered, unless they are in the outbox.

    Not those that staff are asked about: what they take back is not uploaded first.
    """
    in_outbox = {each.content.key for each in till.outbox}
    return upload(
        till,
        (
            AskToPostOffline(each.sale, each.acceptance)
            for each in standing.sales
            if each.acceptance is not None
            and each.is_shown
            and not each.is_cancelled
            and each.sale.key not in in_outbox
        ),
        now.monotonic_s,
    )


def _recall(till: Till, standing: Standing) -> Till:
    """What bears on offline sales, as the journal has it; and what was learnt since, if this is the
    journal that it was learnt under. A new one the cloud has to have heard of first."""
    record, before = standing.record, till.record
    learnt = _of_this_journal(till, standing, till.unsaved)
    if _is_another(till, standing):
        till = replace(till, link=replace(till.link, heartbeat_key="", heartbeat_hash=None))
    till = replace(till, unsaved=learnt, sync_saved_ms=record.synced_at_ms)
    if before.epoch == record.epoch and before.synced_at_ms is not None:
        learnt = (*learnt, Synced(before.synced_at_ms, before.denied_at_ms))
    return replace(till, record=fold(record, learnt))


def _is_another(till: Till, standing: Standing) -> bool:
    """Whether this is not the journal that the till knew: that one was set aside."""
    return till.record.epoch not in {"", standing.record.epoch}


def _of_this_journal(
    till: Till, standing: Standing, entries: tuple[Entry, ...]
) -> tuple[Entry, ...]:
    """Without what counts only under the journal it was learnt under: a sync, and changes of a
    deny list whose beginning another one lacks."""
    if not _is_another(till, standing):
        return entries
    return tuple(each for each in entries if not isinstance(each, Synced | DeniedTaken))


def _sale_at_stake(phase: Phase, event: JournalFailed) -> tuple[SaleOpened, bool] | None:
    """The sale that this failure ends, and whether its request may have been published."""
    # Opened: scanned first, and decided in the same breath.
    undone = (SaleOpened, SaleAnswered, SaleAcceptedOffline)
    unanswered = {each.key for each in event.entries if isinstance(each, undone)}
    begun = {each.key for each in event.entries if isinstance(each, SaleOpened)}
    match phase:
        case Asking(sale=sale):
            # Scanned first: the journal failed before anything was published.
            return sale, sale.key not in begun
        case Showing(sale=SaleOpened() as sale) if sale.key in unanswered:
            return sale, True
        case Scanning(sale=sale) | Showing(then=Scanning(sale=sale)):
            return sale, False
        case _:
            return None


def _light_of_loss(before: Phase, is_at_stake: bool, event: JournalFailed) -> Light:
    """The fault light speaks of a sale, and only where in the end nothing is deducted."""
    if isinstance(before, JournalBroken):
        return before.light
    is_cancelled = any(isinstance(each, SaleCancelled) for each in event.entries)
    is_refund = any(isinstance(each, RefundOpened | RefundAnswered) for each in event.entries)
    is_waited_for = is_refund and _is_about_a_refund(before)
    if is_at_stake or is_cancelled or is_waited_for:
        return Light.FAULT
    return Light.OFFLINE_NOT_ALLOWED


def _is_about_a_refund(phase: Phase) -> bool:
    """Whether staff wait for what became of a refund: nobody knows yet."""
    match phase:
        case Refunding() | SupervisorWanted() | Showing(light=Light.REFUNDED):
            return True
        case _:
            return False


def _is_green(phase: Phase) -> bool:
    green = {Light.APPROVED, Light.APPROVED_OFFLINE, Light.REFUNDED}
    return isinstance(phase, Showing) and phase.light in green


def _still_true(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """What failed to be written and stays so: all but what was begun, and an answer nobody saw."""
    unseen = (SaleOpened, SaleAnswered, SaleAcceptedOffline, RefundOpened, RefundAnswered)
    return tuple(each for each in entries if not isinstance(each, unseen))
