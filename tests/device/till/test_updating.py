import pytest

from device.till.effects import Effect, Look, MakeSound, Print, ShowLight
from device.till.entries import SaleOpened
from device.till.events import KeyPressed, UpdateBegan, UpdateEnded
from device.till.machine import step
from device.till.receipt import SlipKind
from device.till.signals import Light, Sound
from device.till.states import (
    HandedOverAsked,
    JournalBroken,
    KeyingAmount,
    NobodySignedIn,
    Ready,
    Scanning,
    Starting,
    Till,
    WaitingForPolicy,
    is_unfinished,
)
from tests.device import stage
from tests.device.stage import Stage, a_badge, a_wallet_qr, approved


@pytest.fixture
def ready() -> Stage:
    return stage.ready()


def test_nothing_begins_while_the_appliance_is_updated(ready: Stage) -> None:
    ready.take(UpdateBegan())
    assert ready.light is Light.UPDATING
    assert not ready.is_looking
    written = list(ready.journal)
    slips = len(ready.slips)
    ready.press("500#")
    ready.show(a_wallet_qr(1))
    ready.show(a_badge())
    ready.hold("D")
    assert ready.journal == written
    assert ready.till.phase == Ready()
    assert ready.light is Light.UPDATING
    assert ready.sounds[-1] is Sound.DECLINED
    assert len(ready.slips) == slips + 1, "one slip says why, however many keys are pressed"
    assert ready.slips[-1].kind is SlipKind.QUESTION
    assert "Updating" in ready.texts()[0]


def test_after_an_update_that_did_not_come_about_it_sells_again(ready: Stage) -> None:
    ready.take(UpdateBegan())
    ready.take(UpdateBegan())
    ready.take(UpdateEnded())
    assert ready.light is Light.READY
    assert ready.is_looking
    ready.wait(5)
    ready.press("500#")
    ready.show(a_wallet_qr(1))
    ready.answer(approved())
    assert ready.light is Light.APPROVED
    before = ready.till
    ready.take(UpdateEnded())
    assert ready.till == before


def test_a_sale_that_is_open_goes_on_to_its_light(ready: Stage) -> None:
    """The lock is the till's until then: such an update waits, and is only heard of early."""
    ready.press("500#")
    ready.take(UpdateBegan())
    assert isinstance(ready.till.phase, Scanning)
    assert ready.is_looking
    ready.show(a_wallet_qr(1))
    ready.answer(approved())
    assert ready.light is Light.APPROVED
    ready.wait(3)
    assert ready.light is Light.UPDATING


def test_what_of_a_sale_may_not_be_broken_into(ready: Stage) -> None:
    assert not is_unfinished(ready.till)
    ready.press("5")
    assert isinstance(ready.till.phase, KeyingAmount)
    assert is_unfinished(ready.till)
    ready.press("00#")
    assert any(isinstance(each, SaleOpened) for each in ready.journal)
    assert is_unfinished(ready.till)


def test_what_the_next_start_finds_again_holds_nothing_up() -> None:
    for phase in (
        Starting(),
        WaitingForPolicy(),
        NobodySignedIn(),
        HandedOverAsked(()),
        JournalBroken((), 0.0, Light.FAULT),
    ):
        assert not is_unfinished(Till(phase=phase))


def test_an_appliance_without_a_policy_says_so_too() -> None:
    blank = stage.booted()

    def effects_of(event: UpdateBegan | UpdateEnded | KeyPressed) -> tuple[Effect, ...]:
        blank.till, effects = step(blank.till, event, blank.now())
        return effects

    assert isinstance(blank.till.phase, WaitingForPolicy)
    began = effects_of(UpdateBegan())
    assert ShowLight(Light.UPDATING) in began
    assert not any(isinstance(each, Look) for each in began)
    pressed = effects_of(KeyPressed("5"))
    assert MakeSound(Sound.DECLINED) in pressed
    assert any(isinstance(each, Print) for each in pressed)
    ended = effects_of(UpdateEnded())
    assert ShowLight(Light.OFFLINE_NOT_ALLOWED) in ended
    assert not any(isinstance(each, Look) for each in ended)
