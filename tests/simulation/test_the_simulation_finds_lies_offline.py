"""Tills that lie while they sell alone, and a cloud that does when they upload: all found out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import pytest
from msgspec import structs

from cloud.ledger.decide import Decided, decide_batch
from cloud.ledger.facts import Facts, Presented
from device.till.contents import AskToPostOffline
from device.till.effects import Effect, Journal, SendRequest, ShowLight
from device.till.entries import Entry, SaleAcceptedOffline
from device.till.events import Event, JournalFailed, JournalOpened, Now
from device.till.machine import step
from device.till.resting import Step
from device.till.signals import Light
from device.till.spell import Spell
from device.till.states import JournalBroken, Till
from device.till.trusted_time import Anchor
from protocol.messages import OfflineAcceptance
from protocol.money import Money
from tests.simulation.fair import hold_fair
from tests.simulation.history import PromiseBrokenError
from tests.simulation.weather import LONELY
from tests.simulation.world import CRASH, Parts

TRIES_MAX: Final = 40


def forgets_the_spell_at_start(till: Till, event: Event, now: Now) -> Step:
    till, effects = step(till, event, now)
    if isinstance(event, JournalOpened):
        till = replace(till, record=replace(till.record, spell=Spell()))
    return till, effects


def forgets_what_each_wallet_bought(till: Till, event: Event, now: Now) -> Step:
    record = replace(till.record, spell=replace(till.record.spell, payers=()))
    return step(replace(till, record=record), event, now)


def ends_the_spell_with_each_answer(till: Till, event: Event, now: Now) -> Step:
    before = till.record.spell
    till, effects = step(till, event, now)
    if len(till.record.spell.unanswered) < len(before.unanswered):
        till = replace(till, record=replace(till.record, spell=Spell()))
    return till, effects


def takes_a_code_twice(till: Till, event: Event, now: Now) -> Step:
    return step(replace(till, record=replace(till.record, tokens=())), event, now)


def uploads_under_another_key(till: Till, event: Event, now: Now) -> Step:
    """Each time it says it again."""
    till, effects = step(till, event, now)
    return till, tuple(_with_another_key(each, now) for each in effects)


def forgets_its_uploads(till: Till, event: Event, now: Now) -> Step:
    till, effects = step(till, event, now)
    outbox = tuple(each for each in till.outbox if not isinstance(each.content, AskToPostOffline))
    return replace(till, outbox=outbox), effects


def uploads_another_amount(till: Till, event: Event, now: Now) -> Step:
    till, effects = step(till, event, now)
    return till, tuple(_one_cent_more(each) for each in effects)


def goes_by_the_wall_clock(till: Till, event: Event, now: Now) -> Step:
    return step(replace(till, anchor=Anchor(now.wall_ms, now.monotonic_s)), event, now)


def never_minds_how_long_ago_the_cloud_was_there(till: Till, event: Event, now: Now) -> Step:
    if till.anchor is None:
        return step(till, event, now)
    at_ms = till.anchor.at(now.monotonic_s)
    return step(
        replace(till, record=replace(till.record, synced_at_ms=at_ms, denied_at_ms=at_ms)),
        event,
        now,
    )


def green_before_the_acceptance_is_written(till: Till, event: Event, now: Now) -> Step:
    till, effects = step(till, event, now)
    green = ShowLight(Light.APPROVED_OFFLINE)
    if green in effects:
        effects = (green, *(each for each in effects if each != green))
    return till, effects


def green_without_writing(till: Till, event: Event, now: Now) -> Step:
    till, effects = step(till, event, now)
    return till, tuple(_unwritten(each) for each in effects)


def green_in_spite_of_a_failing_disk(till: Till, event: Event, now: Now) -> Step:
    is_acceptance = isinstance(event, JournalFailed) and any(
        isinstance(each, SaleAcceptedOffline) for each in event.entries
    )
    if is_acceptance and not isinstance(till.phase, JournalBroken):
        return till, (ShowLight(Light.APPROVED_OFFLINE),)
    return step(till, event, now)


def accepts_and_cancels(till: Till, event: Event, now: Now) -> Step:
    """An approval that comes after the acceptance is taken for an answer to something else."""
    if isinstance(event, JournalOpened):
        sales = tuple(replace(each, acceptance=None) for each in event.standing.sales)
        event = replace(event, standing=replace(event.standing, sales=sales))
    return step(till, event, now)


def posts_uploads_anew(facts: Facts, batch: Sequence[Presented]) -> Decided:
    """As if their keys had never been seen."""
    uploaded = {
        (each.request.device, each.request.idempotency_key)
        for each in batch
        if isinstance(each.request, OfflineAcceptance)
    }
    keys = {of: known for of, known in facts.keys.items() if of not in uploaded}
    return decide_batch(structs.replace(facts, keys=keys), batch)


def swallows_uploads(facts: Facts, batch: Sequence[Presented]) -> Decided:
    """It says that they are posted, and posts nothing."""
    decided = decide_batch(facts, batch)
    decisions = [
        structs.replace(decision, posting=None)
        if isinstance(presented.request, OfflineAcceptance)
        else decision
        for presented, decision in zip(batch, decided.decisions, strict=True)
    ]
    return Decided(decisions, facts.wallets) if decisions != decided.decisions else decided


@pytest.mark.parametrize(
    "lying_step",
    [
        forgets_the_spell_at_start,
        forgets_what_each_wallet_bought,
        ends_the_spell_with_each_answer,
        takes_a_code_twice,
        uploads_under_another_key,
        forgets_its_uploads,
        uploads_another_amount,
        goes_by_the_wall_clock,
        never_minds_how_long_ago_the_cloud_was_there,
        green_before_the_acceptance_is_written,
        green_without_writing,
        green_in_spite_of_a_failing_disk,
        accepts_and_cancels,
    ],
)
def test_a_till_that_lies_while_it_is_alone_is_found_out(
    lying_step: Callable[[Till, Event, Now], Step],
) -> None:
    _expect_accusation(Parts(step=lying_step))


@pytest.mark.parametrize("lying_decide", [posts_uploads_anew, swallows_uploads])
def test_a_cloud_that_lies_about_uploads_is_found_out(
    lying_decide: Callable[[Facts, Sequence[Presented]], Decided],
) -> None:
    _expect_accusation(Parts(decide=lying_decide))


def _expect_accusation(parts: Parts) -> None:
    """Of a broken promise, by one of the first fairs; that something crashed is none."""
    with pytest.raises(PromiseBrokenError, match=r"RAILTIX_SEED=\d+") as accusation:
        _hold_fairs(parts)
    assert not str(accusation.value).startswith(CRASH)


def _hold_fairs(parts: Parts) -> None:
    for seed in range(TRIES_MAX):
        hold_fair(seed, LONELY, parts)


def _with_another_key(effect: Effect, now: Now) -> Effect:
    match effect:
        case SendRequest(content=AskToPostOffline(sale=sale) as content):
            renamed = structs.replace(sale, key=now.fresh_key)
            return SendRequest(replace(content, sale=renamed))
        case _:
            return effect


def _one_cent_more(effect: Effect) -> Effect:
    match effect:
        case SendRequest(content=AskToPostOffline(sale=sale) as content):
            amount = sale.amount + Money(1, sale.amount.currency)
            return SendRequest(replace(content, sale=structs.replace(sale, amount=amount)))
        case _:
            return effect


def _unwritten(effect: Effect) -> Effect:
    def is_kept(entry: Entry) -> bool:
        return not isinstance(entry, SaleAcceptedOffline)

    match effect:
        case Journal(entries=entries):
            return Journal(tuple(each for each in entries if is_kept(each)))
        case _:
            return effect
