"""Every key in every phase of the real machine: the key map says exactly what has an effect."""

from collections.abc import Callable
from typing import get_args

import pytest

from device.till.contents import AskToRefund
from device.till.effects import Effect, MakeSound
from device.till.events import KeyPressed
from device.till.keymap import KEYMAP, KEYS, Work, deed_of
from device.till.machine import step
from device.till.signals import Light, Sound
from device.till.states import (
    Asking,
    BalanceWanted,
    HandedOverAsked,
    Inquiring,
    JournalBroken,
    KeyingAmount,
    KeyingPin,
    KeyingPinAgain,
    KeyingProducts,
    KeyingRefund,
    LeaveAsked,
    NobodySignedIn,
    Phase,
    Ready,
    ReceiptWanted,
    Refunding,
    Scanning,
    Showing,
    SigningIn,
    Starting,
    SupervisorWanted,
    WaitingForPolicy,
)
from protocol.messages import Reason, SaleName
from protocol.receipt_qr import write
from tests.device.stage import (
    PIN,
    Stage,
    a_badge,
    a_wallet_qr,
    approved,
    asking,
    booted,
    declined,
    ready,
    scanning,
    with_policy,
)

RECEIPT = write(SaleName("till-1", "sale-00000000000001"))


def pressed(keys: str) -> Stage:
    stage = ready()
    stage.press(keys)
    return stage


def keying_pin() -> Stage:
    stage = with_policy()
    stage.show(a_badge())
    stage.press("1")
    return stage


def signing_in() -> Stage:
    stage = with_policy()
    stage.show(a_badge())
    stage.press(f"{PIN}#")
    return stage


def keying_pin_again() -> Stage:
    stage = signing_in()
    stage.answer(declined(Reason.PIN_NOT_SET))
    stage.press("1")
    return stage


def scanned_first() -> Stage:
    stage = ready()
    stage.show(a_wallet_qr())
    return stage


def showing() -> Stage:
    stage = asking()
    stage.answer(approved())
    return stage


def at_fault() -> Stage:
    stage = asking()
    stage.hold("*")
    return stage


def refund_amount() -> Stage:
    stage = pressed("B")
    stage.show(RECEIPT)
    return stage


def refunding() -> Stage:
    stage = refund_amount()
    stage.press("#")
    return stage


def supervisor_wanted() -> Stage:
    stage = refunding()
    stage.answer(declined(Reason.APPROVAL_NEEDED), stage.last(AskToRefund))
    return stage


def leaving() -> Stage:
    stage = ready()
    stage.hold("D")
    return stage


def handed_over() -> Stage:
    stage = showing()
    stage.journal.pop()
    stage.cut_power()
    return stage


def broken() -> Stage:
    stage = scanning()
    stage.failing_writes = stage.failing_opens = True
    stage.press("*")
    return stage


STAGES: list[tuple[Work, type[Phase], Callable[[], Stage]]] = [
    (Work.NOBODY, Starting, Stage),
    (Work.NOBODY, WaitingForPolicy, booted),
    (Work.NOBODY, NobodySignedIn, with_policy),
    (Work.NOBODY, SigningIn, signing_in),
    (Work.NOBODY, JournalBroken, broken),
    (Work.PIN, KeyingPin, keying_pin),
    (Work.PIN_AGAIN, KeyingPinAgain, keying_pin_again),
    (Work.READY, Ready, ready),
    (Work.SCANNED, Ready, scanned_first),
    (Work.AMOUNT, KeyingAmount, lambda: pressed("5")),
    (Work.PRODUCTS, KeyingProducts, lambda: pressed("A3")),
    (Work.SHOW_QR, Scanning, scanning),
    (Work.ASKING, Asking, asking),
    (Work.RESULT, Showing, showing),
    (Work.FAULT, Showing, at_fault),
    (Work.CODE_WANTED, BalanceWanted, lambda: pressed("C")),
    (Work.CODE_WANTED, ReceiptWanted, lambda: pressed("B")),
    (Work.CODE_WANTED, SupervisorWanted, supervisor_wanted),
    (Work.REFUND_AMOUNT, KeyingRefund, refund_amount),
    (Work.INQUIRING, Inquiring, lambda: pressed("D")),
    (Work.INQUIRING, Refunding, refunding),
    (Work.LEAVING, LeaveAsked, leaving),
    (Work.HANDED_OVER, HandedOverAsked, handed_over),
]


def test_every_phase_and_all_work_is_pressed_here() -> None:
    assert {phase for _, phase, _ in STAGES} == set(get_args(Phase))
    assert {work for work, _, _ in STAGES} == set(Work) == set(KEYMAP)


@pytest.mark.parametrize(
    ("work", "phase", "set_up"),
    STAGES,
    ids=[f"{phase.__name__}, {work.name.lower()}" for work, phase, _ in STAGES],
)
def test_the_key_map_says_something_exactly_where_a_key_does_something(
    work: Work, phase: type[Phase], set_up: Callable[[], Stage]
) -> None:
    stage = set_up()
    assert type(stage.till.phase) is phase
    assert (stage.till.phase == Ready()) == (work is Work.READY)
    if phase is Showing:
        assert (stage.light is Light.FAULT) == (work is Work.FAULT)
    silent = {MakeSound(Sound.CLICK), MakeSound(Sound.DECLINED)}
    for key in KEYS:
        for held in (False, True):
            till, effects = step(stage.till, KeyPressed(key, held), stage.now())
            heard: set[Effect] = {each for each in effects if isinstance(each, MakeSound)}
            does_something = till.phase != stage.till.phase or bool(set(effects) - (heard & silent))
            said = deed_of(work, key, held=held)
            assert does_something == (said is not None), (key, held, said)


def test_no_key_has_two_meanings_at_once() -> None:
    for work, deeds in KEYMAP.items():
        for key in KEYS:
            for held in (False, True):
                meanings = [each for each in deeds if each.is_done_by(key, held=held)]
                assert len(meanings) <= 1, (work, key, held)
