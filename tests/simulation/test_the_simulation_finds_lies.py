"""A simulation that finds nothing proves nothing: here it meets tills and clouds that do lie."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random  # noqa: TID251  # handed in by the simulation
from typing import Final

import pytest
from msgspec import structs

from cloud.ledger.decide import Decided, decide_batch
from cloud.ledger.facts import Facts, KeyState, KnownKey, PostedSale, Presented
from cloud.ledger.postings import Wallet
from device.till.effects import Effect, Journal, ShowLight
from device.till.entries import LightShown, SaleAnswered, SaleCancelled, SaleKept, SaleOpened
from device.till.events import Event, JournalFailed, JournalOpened, Now, ReplyArrived
from device.till.machine import step
from device.till.resting import Step
from device.till.signals import Light
from device.till.states import Asking, Till
from device.till.states import JournalBroken as Broken
from protocol.ids import UserId
from protocol.messages import Approved, Cancel, Cancelled
from protocol.money import Money
from tests.simulation.disk import Disk
from tests.simulation.fair import hold_fair
from tests.simulation.history import PromiseBrokenError
from tests.simulation.weather import WORST
from tests.simulation.world import CRASH, Parts

TRIES_MAX: Final = 12


def light_before_journal(till: Till, event: Event, now: Now) -> Step:
    till, effects = step(till, event, now)
    lights = [each for each in effects if isinstance(each, ShowLight)]
    if ShowLight(Light.APPROVED) in lights:
        effects = (*lights, *(each for each in effects if each not in lights))
    return till, effects


def light_without_journal(till: Till, event: Event, now: Now) -> Step:
    till, effects = step(till, event, now)
    return till, tuple(_without(each, SaleAnswered) for each in effects)


def scans_before_journaling(till: Till, event: Event, now: Now) -> Step:
    """And so knows nothing of the sale after a power cut."""
    till, effects = step(till, event, now)
    return till, tuple(_without(each, SaleOpened) for each in effects)


def light_in_spite_of_a_failing_disk(till: Till, event: Event, now: Now) -> Step:
    answered = isinstance(event, JournalFailed) and any(
        isinstance(each, SaleAnswered) and isinstance(each.outcome, Approved)
        for each in event.entries
    )
    if answered and not isinstance(till.phase, Broken):
        return till, (ShowLight(Light.APPROVED),)
    return step(till, event, now)


def green_for_a_past_sale(till: Till, event: Event, now: Now) -> Step:
    before = till
    till, effects = step(till, event, now)
    if isinstance(event, JournalOpened) and before.terms is None:
        unshown = [each for each in event.standing.sales if each.approval is not None]
        if unshown:
            return till, (*effects, ShowLight(Light.APPROVED), Journal((LightShown("-"),)))
    return till, effects


def takes_any_reply(till: Till, event: Event, now: Now) -> Step:
    match till.phase, event:
        case Asking(sale=sale, request_hash=str() as wanted), ReplyArrived() as arrived:
            reply = structs.replace(arrived.reply, key=sale.key, request_hash=wanted)
            return step(till, ReplyArrived(reply, arrived.token), now)
        case _:
            return step(till, event, now)


def forgets_its_outbox(till: Till, event: Event, now: Now) -> Step:
    till, effects = step(till, event, now)
    return replace(till, outbox=()), effects


def forgets_undecided_sales_at_start(till: Till, event: Event, now: Now) -> Step:
    if isinstance(event, JournalOpened):
        decided = tuple(each for each in event.standing.sales if each.approval or each.is_cancelled)
        event = replace(event, standing=replace(event.standing, sales=decided))
    return step(till, event, now)


def keeps_unshown_approvals_unasked(till: Till, event: Event, now: Now) -> Step:
    """What was approved and perhaps never seen simply stays paid."""
    if not isinstance(event, JournalOpened):
        return step(till, event, now)
    sales = event.standing.sales
    kept = tuple(each for each in sales if each.approval and not each.is_cancelled)
    asked = tuple(each for each in sales if each not in kept)
    event = replace(event, standing=replace(event.standing, sales=asked))
    till, effects = step(till, event, now)
    return till, (Journal(tuple(SaleKept(each.sale.key) for each in kept)), *effects)


def cancels_only_on_the_wire(till: Till, event: Event, now: Now) -> Step:
    """The fault light, and a cancel that no power cut survives."""
    till, effects = step(till, event, now)
    return till, tuple(_without(each, SaleCancelled) for each in effects)


def uses_keys_twice(till: Till, event: Event, now: Now) -> Step:
    hundred = now.fresh_key[:-2] + "00"
    return step(till, event, replace(now, fresh_key=hundred))


class DiskWithoutFsync(Disk):
    """It says "written" and means "soon"."""

    def __init__(self, random: Random, epoch: str) -> None:
        super().__init__(random, epoch)
        self._coin = random

    def lose_power(self) -> None:
        super().lose_power()
        if len(self.written) > 10 and self._coin.random() < 0.5:
            del self.written[-1]


def without_key_look_up(facts: Facts, batch: Sequence[Presented]) -> Decided:
    return decide_batch(structs.replace(facts, keys={}, reviews={}), batch)


def burns_no_token(facts: Facts, batch: Sequence[Presented]) -> Decided:
    return decide_batch(structs.replace(facts, spent=frozenset()), batch)


def leaves_no_tombstone(facts: Facts, batch: Sequence[Presented]) -> Decided:
    decided = decide_batch(facts, batch)
    decisions = [
        structs.replace(decision, key=None)
        if isinstance(presented.request, Cancel) and decision.answer == Cancelled(None)
        else decision
        for presented, decision in zip(batch, decided.decisions, strict=True)
    ]
    return structs.replace(decided, decisions=decisions)


def reverses_nothing(facts: Facts, batch: Sequence[Presented]) -> Decided:
    def forget(known: KnownKey) -> KnownKey:
        return structs.replace(known, sale=None)

    return decide_batch(_with_keys(facts, forget), batch)


def reverses_again(facts: Facts, batch: Sequence[Presented]) -> Decided:
    def revive(known: KnownKey) -> KnownKey:
        match known:
            case KnownKey(state=KeyState.CANCELLED, sale=PostedSale() as sale):
                whole = structs.replace(sale, left_in_cents=sale.amount.amount_in_cents)
                return structs.replace(known, state=KeyState.APPROVED, sale=whole)
            case _:
                return known

    return decide_batch(_with_keys(facts, revive), batch)


def ignores_revocation(facts: Facts, batch: Sequence[Presented]) -> Decided:
    appliances = {
        device_id: structs.replace(each, revoked=False)
        for device_id, each in facts.appliances.items()
    }
    return decide_batch(structs.replace(facts, appliances=appliances), batch)


def lends_money(facts: Facts, batch: Sequence[Presented]) -> Decided:
    decided = decide_batch(structs.replace(facts, wallets=_with(facts.wallets, 5000)), batch)
    return structs.replace(decided, wallets=_with(decided.wallets, -5000))


def loses_a_cent(facts: Facts, batch: Sequence[Presented]) -> Decided:
    decided = decide_batch(facts, batch)
    if any(each.posting is not None for each in decided.decisions):
        return structs.replace(decided, wallets=_with(decided.wallets, -1))
    return decided


@pytest.mark.parametrize(
    "lying_step",
    [
        light_before_journal,
        light_without_journal,
        scans_before_journaling,
        light_in_spite_of_a_failing_disk,
        green_for_a_past_sale,
        takes_any_reply,
        forgets_its_outbox,
        forgets_undecided_sales_at_start,
        keeps_unshown_approvals_unasked,
        cancels_only_on_the_wire,
        uses_keys_twice,
    ],
)
def test_a_till_that_lies_is_found_out(lying_step: Callable[[Till, Event, Now], Step]) -> None:
    _expect_accusation(Parts(step=lying_step))


@pytest.mark.parametrize(
    "lying_decide",
    [
        without_key_look_up,
        burns_no_token,
        leaves_no_tombstone,
        reverses_nothing,
        reverses_again,
        ignores_revocation,
        lends_money,
        loses_a_cent,
    ],
)
def test_a_cloud_that_lies_is_found_out(
    lying_decide: Callable[[Facts, Sequence[Presented]], Decided],
) -> None:
    _expect_accusation(Parts(decide=lying_decide))


def test_a_disk_that_lies_is_found_out() -> None:
    _expect_accusation(Parts(disk=DiskWithoutFsync))


def _expect_accusation(parts: Parts) -> None:
    """Of a broken promise, by one of the first fairs; that something crashed is none."""
    with pytest.raises(PromiseBrokenError, match=r"RAILTIX_SEED=\d+") as accusation:
        _hold_fairs(parts)
    assert not str(accusation.value).startswith(CRASH)


def _hold_fairs(parts: Parts) -> None:
    for seed in range(TRIES_MAX):
        hold_fair(seed, WORST, parts)


def _without(effect: Effect, kind: type[SaleOpened | SaleAnswered | SaleCancelled]) -> Effect:
    match effect:
        case Journal(entries=entries):
            return Journal(tuple(each for each in entries if not isinstance(each, kind)))
        case _:
            return effect


def _with_keys(facts: Facts, change: Callable[[KnownKey], KnownKey]) -> Facts:
    return structs.replace(facts, keys={of: change(each) for of, each in facts.keys.items()})


def _with(
    wallets: Mapping[tuple[UserId, str], Wallet], cents: int
) -> dict[tuple[UserId, str], Wallet]:
    return {
        of: structs.replace(each, balance=each.balance + Money(cents, each.balance.currency))
        for of, each in wallets.items()
    }
