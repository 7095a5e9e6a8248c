"""After the cloud's database came back from a backup: what it may have lost is said again."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from device.till.contents import AskToCancel, AskToPostAgain, AskToPostOffline, SaidAgain
from device.till.effects import Effect, Journal, Note, RecallSettled
from device.till.entries import (
    Entry,
    MessageClosed,
    Resent,
    SaleAcceptedOffline,
    SaleAnswered,
    SaleCancelled,
    SaleOpened,
)
from device.till.events import SettledRecalled
from device.till.outbox import post, upload
from device.till.resting import Step
from device.till.states import Resending, Till, may_beat
from protocol.messages import Approved, Resend

AT_ONCE_MAX: Final = 20
"""So many wait for their answer: sales at the stall go on between them."""


def settled_sales(
    entries: Iterable[tuple[int, Entry]],
) -> tuple[SaidAgain, ...]:
    """Of these numbered entries the sales that were decided, each as it is said again.

    One taken offline only once it is settled: until then it is in the outbox, or staff are asked.
    """
    opened: dict[str, tuple[int, SaleOpened]] = {}
    accepted: dict[str, SaleAcceptedOffline] = {}
    again: dict[str, SaidAgain] = {}
    for number, entry in entries:
        match entry:
            case SaleOpened(key=key):
                opened[key] = (number, entry)
            case SaleAnswered(key=key, outcome=Approved(), token=token) if key in opened:
                number_of_sale, sale = opened[key]
                again[key] = AskToPostAgain(sale, number_of_sale, token)
            case SaleAcceptedOffline(key=key):
                accepted[key] = entry
            case MessageClosed(key=key, kind="offline_acceptance", token=token) if (
                key in opened and key in accepted
            ):
                number_of_sale, sale = opened[key]
                # What went to a person's list is proved by nothing: it is said as it was.
                again[key] = (
                    AskToPostAgain(sale, number_of_sale, token)
                    if entry.is_posting
                    else AskToPostOffline(sale, accepted[key], number_of_sale)
                )
            case SaleCancelled(key=key) if key in opened:
                again[key] = AskToCancel(opened[key][1])
            case _:
                pass
    return tuple(again.values())


def attend(till: Till, resend: Resend | None, now_s: float) -> Step:
    """With each heartbeat's answer: begin, or go on where something kept it from going on."""
    if till.resending is not None:
        if till.resending.rest is None:
            return till, (RecallSettled(till.resending.restore_id, till.resending.from_entry),)
        return go_on(till, now_s)
    if resend is None or resend.restore_id == till.resent_for:
        return till, ()
    resending = Resending(resend.restore_id, resend.from_entry)
    recall = RecallSettled(resend.restore_id, resend.from_entry)
    return replace(till, resending=resending), (recall, Note("resending_asked"))


def take_up(till: Till, event: SettledRecalled, now_s: float) -> Step:
    resending = till.resending
    if resending is None or resending.restore_id != event.restore_id:
        return till, ()
    till = replace(till, resending=replace(resending, rest=event.settled))
    return go_on(till, now_s)


def go_on(till: Till, now_s: float) -> Step:
    """Say the next ones, as many as there is room for; note in the journal when all is said."""
    resending = till.resending
    if resending is None or resending.rest is None or not may_beat(till):
        return till, ()
    effects: list[Effect] = []
    on_their_way = {each.content.key for each in till.outbox}
    rest = tuple(each for each in resending.rest if each.key not in on_their_way)
    waiting = sum(not isinstance(each.content, AskToPostOffline) for each in till.outbox)
    room = max(0, AT_ONCE_MAX - waiting)
    for content in rest[:room]:
        if isinstance(content, AskToPostOffline):
            till = upload(till, [content], now_s)
            continue
        till, sent = post(till, content, now_s)
        effects += sent
    if not rest and not _is_waiting(till):
        till = replace(till, resending=None, resent_for=resending.restore_id)
        return till, (Journal((Resent(resending.restore_id),)), Note("resending_done"))
    return replace(till, resending=replace(resending, rest=rest[room:])), tuple(effects)


def _is_waiting(till: Till) -> bool:
    said_again = (AskToPostAgain, AskToCancel, AskToPostOffline)
    return any(isinstance(each.content, said_again) for each in till.outbox)
