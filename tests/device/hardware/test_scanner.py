import builtins
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Condition, Event
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pytest
import segno

from device.hardware.camera import Frame
from device.hardware.scanner import GONE_FRAMES, REPEAT_S, Reading, Scanner, read_qr, threshold
from venue.phone import empty_counter, phone

if TYPE_CHECKING:
    from numpy.typing import NDArray

Until = Callable[[Callable[[], bool]], None]
WALLET = "".join(f"{(at * 37) % 78:02d}" for at in range(282))
"""As long as a wallet QR: 282 characters as digit pairs."""


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def without_zxing(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def refuse(
        name: str,
        globals_: dict[str, object] | None = None,
        locals_: dict[str, object] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        if name == "zxingcpp":
            raise ImportError(name)
        return real_import(name, globals_, locals_, fromlist, level)

    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("difficulty", ["easy", "normal"])
def test_a_wallet_qr_on_a_phone_is_read(difficulty: str, seed: int) -> None:
    grey = phone(WALLET, rng(seed), "easy" if difficulty == "easy" else "normal")
    assert read_qr(grey) == Reading(WALLET, "zxing-cpp")


@pytest.mark.parametrize("seed", range(4))
def test_without_zxing_zbar_reads_the_easy_phones(without_zxing: None, seed: int) -> None:
    grey = phone(WALLET, rng(seed), "easy")
    readings = [read_qr(grey, turn) for turn in range(3)]
    assert Reading(WALLET, "zbar") in readings


def test_without_zxing_an_inverted_code_has_its_turn(without_zxing: None) -> None:
    inverted = 255 - phone("https://example.org", rng(2), "easy")
    readings = [read_qr(inverted, turn) for turn in range(3)]
    assert Reading("https://example.org", "zbar") in readings


def test_the_threshold_follows_the_light() -> None:
    ramp = np.tile(np.linspace(40, 220, 400).astype(np.uint8), (240, 1))
    ramp[100:110, ::40] -= 30
    black = threshold(ramp) == 0
    assert black[100:110, ::40].all()
    assert black.mean() < 0.05


def test_an_empty_counter_is_no_reading() -> None:
    assert read_qr(empty_counter(rng(1))) is None


@pytest.mark.parametrize(
    "content", ["WIFI:T:WPA;S=Fair;P:secret;;", "https://example.org/x", "Grüße €", "x" * 1200]
)
def test_any_other_qr_is_read_as_it_stands(content: str) -> None:
    code = segno.make(content, error="l", micro=False)
    rows = np.array([list(row) for row in code.matrix_iter(border=4)], np.uint8)
    grey = np.kron(np.where(rows, 0, 255), np.ones((5, 5))).astype(np.uint8)
    reading = read_qr(grey)
    assert reading is not None
    assert reading.text == content


@pytest.mark.parametrize(
    "poison",
    [np.zeros((0, 0), np.uint8), np.zeros((3, 4, 3), np.uint8), np.zeros((4, 4), np.float64)],
)
def test_what_is_no_grey_picture_is_refused(poison: "NDArray[np.uint8]") -> None:
    with pytest.raises(ValueError, match="not a grey picture"):
        read_qr(poison)


@dataclass
class Scripted:
    """A camera and a decoder that do what a test says, one frame at a time."""

    now: float = 1000.0
    texts: list[str | None] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    _changed: Condition = field(default_factory=Condition)
    captures: int = 0
    done: int = 0

    def frame(self, text: str | None, times: int = 1) -> None:
        with self._changed:
            self.texts += [text] * times
            self._changed.notify_all()

    def capture(self) -> Frame | None:
        with self._changed:
            self.done = self.captures
            if not self._changed.wait_for(lambda: len(self.texts) > self.captures, 0.02):
                return None
            self.captures += 1
        if self.texts[self.captures - 1] == "stall":
            return None
        self.now += 0.04
        return Frame(np.zeros((4, 4), np.uint8), self.now)

    def close(self) -> None: ...

    def read(self, grey: "NDArray[np.uint8]", turn: int) -> Reading | None:
        assert (grey.shape, turn) == ((4, 4), self.captures - self.texts.count("stall"))
        text = self.texts[self.captures - 1]
        if text == "poison":
            raise RuntimeError("zbar: assertion failed")
        return None if text is None else Reading(text, "script")

    def on_qr(self, text: str, captured_at: float, decoded_at: float) -> None:
        assert captured_at <= decoded_at
        self.seen.append(text)


@pytest.fixture
def script() -> Scripted:
    return Scripted()


@pytest.fixture
def scanner(script: Scripted) -> Iterator[Scanner]:
    made = Scanner(script, script.on_qr, read=script.read, clock=lambda: script.now)
    yield made
    made.close()


@pytest.fixture
def run(script: Scripted, until: Until) -> Callable[[], list[str]]:
    """Let every scripted frame pass; a frame that gives no more news has been judged."""

    def pass_all() -> list[str]:
        until(lambda: script.done == len(script.texts))
        assert script.done == len(script.texts)
        return script.seen

    return pass_all


Run = Callable[[], list[str]]


def test_nothing_is_captured_before_somebody_looks(scanner: Scanner, script: Scripted) -> None:
    script.frame("one")
    assert not Event().wait(0.05)
    assert (script.captures, scanner.frames, scanner.last_frame_at) == (0, 0, None)


def test_a_code_in_view_is_reported_once(scanner: Scanner, script: Scripted, run: Run) -> None:
    scanner.look(True)
    script.frame("one", 10)
    assert run() == ["one"]
    assert (scanner.frames, scanner.misses) == (10, 0)
    assert scanner.last_frame_at == pytest.approx(1000.4)


def test_a_blurred_frame_is_not_a_new_phone(scanner: Scanner, script: Scripted, run: Run) -> None:
    scanner.look(True)
    for text in ("one", None, None, "one", None, "one"):
        script.frame(text)
    assert run() == ["one"]
    assert scanner.misses == 3


def test_a_code_that_left_and_came_back_is_reported_again(
    scanner: Scanner, script: Scripted, run: Run
) -> None:
    scanner.look(True)
    script.frame("one")
    script.frame(None, GONE_FRAMES)
    script.frame("one")
    assert run() == ["one", "one"]


def test_another_code_is_reported_at_once(scanner: Scanner, script: Scripted, run: Run) -> None:
    scanner.look(True)
    for text in ("one", "two", "one"):
        script.frame(text)
    assert run() == ["one", "two", "one"]


def test_a_code_that_stays_is_reported_again_after_a_while(
    scanner: Scanner, script: Scripted, run: Run
) -> None:
    scanner.look(True)
    script.frame("one", int(REPEAT_S / 0.04) + 2)
    assert run() == ["one", "one"]


def test_looking_anew_reports_what_is_still_in_view(
    scanner: Scanner, script: Scripted, run: Run
) -> None:
    scanner.look(True)
    script.frame("one")
    run()
    scanner.look(False)
    assert not scanner.is_looking
    scanner.look(True)
    script.frame("one", 2)  # the first of them may have been asked for before the switch
    assert run() == ["one", "one"]


def test_a_poisoned_frame_costs_one_frame(scanner: Scanner, script: Scripted, run: Run) -> None:
    scanner.look(True)
    for text in ("poison", "one", "poison", "two"):
        script.frame(text)
    assert run() == ["one", "two"]
    assert scanner.faults == 2


def test_a_camera_that_gives_nothing_costs_nothing(
    scanner: Scanner, script: Scripted, run: Run
) -> None:
    scanner.look(True)
    for text in ("stall", "one"):
        script.frame(text)
    assert run() == ["one"]
    assert (scanner.frames, scanner.misses, scanner.faults) == (1, 0, 0)


def test_a_frame_from_before_the_switch_is_not_reported(until: Until) -> None:
    script, decoding, go_on = Scripted(), Event(), Event()

    def slow_read(grey: "NDArray[np.uint8]", turn: int) -> Reading:
        decoding.set()
        go_on.wait(10)
        return Reading("late", "script")

    scanner = Scanner(script, script.on_qr, read=slow_read, clock=lambda: script.now)
    try:
        scanner.look(True)
        script.frame("late")
        assert decoding.wait(10)
        scanner.look(False)
        go_on.set()
        until(lambda: scanner.frames == 1)
    finally:
        go_on.set()
        scanner.close()
    assert script.seen == []
