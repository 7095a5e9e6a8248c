import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, ClassVar

import pytest
from gpiozero.pins.mock import MockFactory, MockPin
from hypothesis import given
from hypothesis import strategies as st

from device.hardware.build import HardwareRefusedError, open_hardware
from device.hardware.keypad import (
    HOLD_S,
    HOLDABLE,
    LAYOUT,
    PRESS_SCANS,
    RELEASE_SCANS,
    SCAN_INTERVAL_S,
    KeyWatch,
    MatrixKeypad,
    is_ghosted,
)
from device.hardware.settings import HardwareSettings, KeypadPins

if TYPE_CHECKING:
    from .conftest import Wiring

KEYS = "".join(LAYOUT)
NONE = frozenset[str]()


def watch(scans: list[frozenset[str]]) -> list[tuple[str, bool]]:
    keys, reports = KeyWatch(), list[tuple[str, bool]]()
    for at, down in enumerate(scans):
        reports += keys.see(down, at * SCAN_INTERVAL_S)
    return reports


def tap(key: str, scans: int = 6) -> list[frozenset[str]]:
    return [frozenset(key)] * scans + [NONE] * RELEASE_SCANS


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_reported_once_a_tap(key: str) -> None:
    assert watch(tap(key)) == [(key, False)]


@pytest.mark.parametrize("key", sorted(set(KEYS) - HOLDABLE))
def test_a_key_with_one_meaning_is_reported_at_the_press(key: str) -> None:
    assert watch([frozenset(key)] * PRESS_SCANS) == [(key, False)]


@pytest.mark.parametrize("key", sorted(HOLDABLE))
def test_a_key_with_two_meanings_waits_for_the_release(key: str) -> None:
    assert watch([frozenset(key)] * 10) == []
    assert watch(tap(key, 10)) == [(key, False)]


@pytest.mark.parametrize("key", sorted(HOLDABLE))
def test_a_long_press_is_reported_once_as_held(key: str) -> None:
    scans = int(HOLD_S / SCAN_INTERVAL_S) + PRESS_SCANS + 1
    assert watch([frozenset(key)] * (scans - 5)) == []
    assert watch(tap(key, scans)) == [(key, True)]
    assert watch(tap(key, scans * 3)) == [(key, True)]


def test_the_same_key_twice_is_two_presses() -> None:
    assert watch(tap("0") + tap("0")) == [("0", False), ("0", False)]


def test_a_bouncing_contact_is_one_press() -> None:
    five = frozenset("5")
    bounce = [five, NONE, five, NONE, NONE, five, five, five, NONE, five, five, NONE, NONE, five]
    assert watch([*bounce, five, NONE, NONE, NONE]) == [("5", False)]


def test_a_spike_of_one_scan_is_no_press() -> None:
    assert watch([frozenset("5"), NONE, NONE, frozenset("5"), NONE]) == []


@given(st.lists(st.sampled_from([NONE, frozenset("5")]), max_size=60))
def test_whatever_bounces_presses_and_releases_alternate(scans: list[frozenset[str]]) -> None:
    most = sum(1 for one, two in pairwise(scans) if one and two)
    assert len(watch(scans)) <= most


def test_two_keys_together_are_both_believed() -> None:
    for pair in combinations(KEYS, 2):
        down = frozenset(pair)
        assert not is_ghosted(down)
        assert {key for key, _ in watch([down] * 4 + [NONE] * 4)} == set(pair)


def test_a_ghost_in_the_fourth_corner_is_refused() -> None:
    three_fingers_read_as_four = frozenset("1245")
    assert is_ghosted(three_fingers_read_as_four)
    assert watch([three_fingers_read_as_four] * 20 + [NONE] * 5) == []


def test_after_a_ghost_the_keys_that_are_really_down_are_believed() -> None:
    held, ghosted = frozenset("12"), frozenset("1245")
    assert watch([held] * 4 + [ghosted] * 10 + [frozenset("24")] * 4 + [NONE] * 4) == [
        ("1", False),
        ("2", False),
        ("4", False),
    ]


def test_a_ghosted_scan_does_not_release_what_is_held() -> None:
    ghosted = frozenset("*0") | frozenset("78")
    assert watch([frozenset("*")] * 4 + [ghosted] * 10) == []


Press = Callable[[str], None]


@pytest.fixture
def reports() -> list[tuple[str, bool]]:
    return []


@pytest.fixture
def keypad(wiring: "Wiring", reports: list[tuple[str, bool]]) -> Iterator[MatrixKeypad]:
    def on_key(key: str, held: bool) -> None:
        reports.append((key, held))
        if key == "C":
            raise RuntimeError("the till stumbled")

    made = MatrixKeypad(wiring.settings.keypad, on_key, wiring.factory)
    yield made
    made.close()


@pytest.fixture
def let_scan(wiring: "Wiring", until: Callable[[Callable[[], bool]], None]) -> Press:
    def wait(key: str) -> None:
        first = wiring.matrix.looks(key)
        until(lambda: wiring.matrix.looks(key) >= first + 20)

    return wait


@pytest.fixture
def press(wiring: "Wiring", let_scan: Press) -> Press:
    def tap(key: str) -> None:
        wiring.matrix.press(key)
        let_scan(key)
        wiring.matrix.release(key)
        let_scan(key)

    return tap


def test_each_key_joins_its_own_row_and_column(
    keypad: MatrixKeypad, press: Press, reports: list[tuple[str, bool]]
) -> None:
    keys = KEYS.replace("C", "")
    for key in keys:
        press(key)
    assert reports == [(key, False) for key in keys]


def test_three_fingers_on_the_wires_report_no_fourth_key(
    keypad: MatrixKeypad, wiring: "Wiring", let_scan: Press, reports: list[tuple[str, bool]]
) -> None:
    for key in "124":
        wiring.matrix.press(key)
    let_scan("1")
    for key in "124":
        wiring.matrix.release(key)
    let_scan("1")
    assert "5" not in [key for key, _ in reports]


def test_two_keys_in_one_column_never_short_two_outputs(
    keypad: MatrixKeypad, wiring: "Wiring", until: Callable[[Callable[[], bool]], None]
) -> None:
    rows = [wiring.factory.pin(number) for number in wiring.settings.keypad.rows]
    columns = [wiring.factory.pin(number) for number in wiring.settings.keypad.columns]
    wiring.matrix.press("1")
    wiring.matrix.press("4")
    driven_high = list[object]()

    def watch_the_rows() -> bool:
        driven_high.extend(row for row in rows if row.function == "output" and row.state)
        return wiring.matrix.looks("1") > 100

    until(watch_the_rows)
    assert wiring.matrix.looks("1") > 100
    assert driven_high == []
    assert {column.function for column in columns} == {"input"}


@pytest.mark.parametrize("failing", range(4))
def test_a_scan_that_fails_halfway_leaves_no_row_deaf(
    keypad: MatrixKeypad,
    wiring: "Wiring",
    press: Press,
    reports: list[tuple[str, bool]],
    failing: int,
) -> None:
    """As when a line is busy: a process that is being started holds it for a moment."""
    row = wiring.factory.pin(wiring.settings.keypad.rows[failing])
    drive, faults = row.output_with_state, [OSError("GPIO busy")]

    def fail_once(state: float) -> None:
        if faults:
            raise faults.pop()
        drive(state)

    row.output_with_state = fail_once
    press("5")
    assert faults == []
    reports.clear()

    for key in "1478":
        press(key)

    assert [key for key, _ in reports] == list("1478")


def test_a_callback_that_fails_does_not_take_the_keypad_away(
    keypad: MatrixKeypad, press: Press, reports: list[tuple[str, bool]]
) -> None:
    press("C")
    press("2")
    assert reports == [("C", False), ("2", False)]


@dataclass
class Keys16:
    """A keypad's wires, pressed with; `looks` counts how often a column was read."""

    factory: MockFactory
    press: Press
    release: Press
    looks: Callable[[], int]


class _WiredPin(MockPin):
    """gpiozero's own mock pin; a column's is low while a key joins it to a row that is low."""

    down: ClassVar[set[str]] = set()
    reads: ClassVar[list[int]] = [0]
    pins: ClassVar[KeypadPins] = KeypadPins()
    wired_to: ClassVar[list[MockFactory]] = []

    def _get_state(self) -> bool:
        numbers = [f"GPIO{number}" for number in self.pins.columns]
        if self.info.name not in numbers or self.function != "input":
            return bool(super()._get_state())
        self.reads[0] += 1
        column = numbers.index(self.info.name)
        for key in tuple(self.down):
            row = next(at for at, keys in enumerate(LAYOUT) if key in keys)
            if LAYOUT[row].index(key) != column:
                continue
            pin = self.wired_to[0].pin(self.pins.rows[row])
            if pin.function == "output" and not pin.state:
                return False
        return True


@pytest.fixture(params=["the simulated edge's pins", "gpiozero's mock pins"])
def wires(request: pytest.FixtureRequest, wiring: "Wiring") -> Iterator[Keys16]:
    if request.param == "the simulated edge's pins":
        matrix = wiring.matrix
        yield Keys16(
            wiring.factory,
            matrix.press,
            matrix.release,
            lambda: min(matrix.looks(key) for key in LAYOUT[0]),
        )
        return
    _WiredPin.down.clear()
    factory = MockFactory(pin_class=_WiredPin)
    _WiredPin.wired_to[:] = [factory]
    yield Keys16(
        factory, _WiredPin.down.add, _WiredPin.down.discard, lambda: _WiredPin.reads[0] // 8
    )
    factory.close()


def test_the_contract_every_key_once_a_press_on_any_pins(
    wires: Keys16, until: Callable[[Callable[[], bool]], None]
) -> None:
    seen: list[tuple[str, bool]] = []
    keypad = MatrixKeypad(KeypadPins(), lambda key, held: seen.append((key, held)), wires.factory)

    def let_scan() -> None:
        first = wires.looks()
        until(lambda: wires.looks() >= first + 10)

    try:
        for key in KEYS:
            wires.press(key)
            let_scan()
            wires.release(key)
            let_scan()
        wires.press("*")
        until(lambda: seen[-1] == ("*", True))
        wires.release("*")
        let_scan()
    finally:
        keypad.close()
    assert seen == [*((key, False) for key in KEYS), ("*", True)]


def test_a_pi_without_its_pins_is_refused_and_nothing_else_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")
    monkeypatch.setitem(sys.modules, "gpiozero.pins.lgpio", None)
    with pytest.raises(HardwareRefusedError, match=r"hardware\.pins: lgpio cannot move this"):
        open_hardware(
            HardwareSettings(),
            on_key=lambda _key, _held: None,
            on_qr=lambda _text, _captured_at, _decoded_at: None,
        )
