import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import combinations, islice, product
from threading import Event
from typing import TYPE_CHECKING

import pytest
from gpiozero.pins import Factory
from gpiozero.pins.mock import MockFactory, MockPWMPin

from device.hardware.buzzer import beeps_of
from device.hardware.lamp import GREEN, RgbLamp, Step, pattern_of
from device.hardware.settings import HardwareSettings, LampPins
from device.hardware.simulated_pins import KeyMatrix, SimulatedFactory
from device.till.signals import Light, Sound

if TYPE_CHECKING:
    from .conftest import Wiring

PINS = LampPins()
FINITE = {
    *(Light.APPROVED, Light.APPROVED_OFFLINE, Light.DECLINED, Light.REFRESH_QR),
    Light.REFUNDED,
}


class MockPins(MockFactory):
    """Pulses whose dimmed leads are dark at each look."""

    def __init__(self) -> None:
        super().__init__(pin_class=MockPWMPin)
        self.stuck: dict[int, bool] = {}
        """Lines that stand still, by pin."""

    def level(self, number: int) -> bool:
        return self.stuck.get(number, self.pin(number).state == 1.0)


@pytest.fixture(params=["mock pins", "simulated edge"])
def factory(request: pytest.FixtureRequest, wiring: "Wiring") -> "MockPins | SimulatedFactory":
    return wiring.factory if request.param == "simulated edge" else MockPins()


def lamp_on(factory: "MockPins | SimulatedFactory", pins: LampPins = PINS) -> RgbLamp:
    return RgbLamp(pins, factory, factory.level, on_stuck=nobody_expects)


def nobody_expects(_lead: str) -> None:
    raise AssertionError("the lamp did what it was told")


@pytest.fixture
def lamp(factory: "MockPins | SimulatedFactory") -> Iterator[RgbLamp]:
    made = lamp_on(factory)
    yield made
    made.close()


def colour(factory: Factory) -> tuple[float, float, float]:
    red, green, blue = (factory.pin(number).state for number in (PINS.red, PINS.green, PINS.blue))
    return (red, green, blue)


@pytest.mark.parametrize("light", Light)
def test_the_first_colour_shines_before_show_returns(
    light: Light, lamp: RgbLamp, factory: Factory
) -> None:
    lamp.show(light)
    assert colour(factory) == next(pattern_of(light).steps()).colour


def test_a_blink_goes_on_by_itself_and_ends_with_the_next_light(
    lamp: RgbLamp, factory: Factory, until: Callable[[Callable[[], bool]], None]
) -> None:
    lamp.show(Light.FAULT)
    seen = set[tuple[float, float, float]]()

    def both_seen() -> bool:
        seen.add(colour(factory))
        return len(seen) == 2

    until(both_seen)
    assert seen == {(1, 0, 0), (0, 0, 0)}
    lamp.show(Light.APPROVED)
    time.sleep(0.3)
    assert colour(factory) == GREEN


def test_a_closed_lamp_is_dark(factory: "MockPins | SimulatedFactory") -> None:
    lamp = lamp_on(factory)
    lamp.show(Light.APPROVED)
    lamp.close()
    assert colour(factory) == (0, 0, 0)
    lamp.show(Light.APPROVED)
    assert colour(factory) == (0, 0, 0)


def test_off_is_dark(lamp: RgbLamp, factory: Factory) -> None:
    lamp.show(Light.READY)
    lamp.off()
    assert colour(factory) == (0, 0, 0)


@pytest.mark.parametrize("light", FINITE)
def test_a_word_about_a_sale_ends_by_itself_in_the_dark(light: Light) -> None:
    pattern = pattern_of(light)
    assert pattern.forever == ()
    assert pattern.once[-1].colour == (0, 0, 0)
    assert 1.5 <= sum(step.seconds for step in pattern.once) <= 2.5


def shown(light: Light) -> tuple[tuple[float, float, float], ...]:
    return tuple(step.colour for step in islice(pattern_of(light).steps(), 60))


def test_full_green_alone_is_in_no_other_light_not_even_between_two_colours() -> None:
    approving = {light for light in Light if GREEN in shown(light)}
    assert approving == {Light.APPROVED, Light.APPROVED_OFFLINE}
    colours = {colour for light in Light for colour in shown(light)} - {GREEN}
    # RGBLED writes red, then green, then blue.
    passing = {
        between
        for before, after in product(colours, colours)
        for between in ((after[0], *before[1:]), (*after[:2], before[2]))
    }
    assert GREEN not in passing


def test_no_two_lights_look_alike() -> None:
    looks = {
        (shown(light), tuple(step.seconds for step in islice(pattern_of(light).steps(), 60)))
        for light in Light
    }
    assert len(looks) == len(Light)


def test_the_edge_reports_whole_colours_only(wiring: "Wiring") -> None:
    lamp = lamp_on(wiring.factory)
    for light in (Light.KEY_THE_AMOUNT, Light.DECLINED, Light.READY, Light.APPROVED):
        lamp.show(light)
    lamp.close()
    assert wiring.colours == [
        *(shown(light)[0] for light in (Light.KEY_THE_AMOUNT, Light.DECLINED, Light.READY)),
        GREEN,
        (0, 0, 0),
    ]


def without_colour(light: Light) -> tuple[tuple[float, float], ...]:
    """How bright, against its own brightest, and how long: what is left without any hue."""
    steps = [*pattern_of(light).once, *pattern_of(light).forever]
    luminances = [
        0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in colours(steps)
    ]
    brightest = max(luminances) or 1.0
    return tuple(
        (round(luminance / brightest, 1), step.seconds)
        for luminance, step in zip(luminances, steps, strict=True)
    )


def colours(steps: list[Step]) -> list[tuple[float, float, float]]:
    return [step.colour for step in steps]


def test_without_colour_only_the_two_that_have_each_a_sound_of_their_own_look_alike() -> None:
    alike = {
        frozenset({one, other})
        for one, other in combinations(Light, 2)
        if without_colour(one) == without_colour(other)
    }
    # Steady for two seconds: one high beep, or two low ones. Ready lasts, and dark is dark.
    assert alike == {frozenset({Light.APPROVED, Light.DECLINED})}
    assert beeps_of(Sound.APPROVED) != beeps_of(Sound.DECLINED)


def test_no_paper_is_seen_without_its_violet() -> None:
    winking = [light for light in Light if light.value.endswith("no paper")]
    assert len(winking) == 3
    for light in winking:
        steps = pattern_of(light).forever
        violet = [at for at, step in enumerate(steps) if step.colour[2] > step.colour[1]]
        assert violet
        for at in violet:
            assert steps[at - 1].colour == steps[(at + 1) % len(steps)].colour == (0, 0, 0)


def test_a_lamp_with_a_common_anode_shines_by_pulling_its_pins_low() -> None:
    pins = LampPins(common="anode")
    colours_told = list[tuple[float, float, float]]()
    wired = SimulatedFactory(
        HardwareSettings(kind="simulated", socket="unused", lamp=pins),
        KeyMatrix(),
        on_colour=lambda red, green, blue: colours_told.append((red, green, blue)),
        on_tone=lambda _hz: None,
    )
    made = lamp_on(wired, pins)
    made.show(Light.APPROVED)
    assert colour(wired) == (1, 0, 1)
    assert colours_told[-1] == GREEN
    made.close()
    assert colours_told[-1] == (0, 0, 0)
    wired.close()


GREEN_STANDS = {PINS.red: False, PINS.green: True, PINS.blue: False}
ALL_DARK = dict.fromkeys((PINS.red, PINS.green, PINS.blue), False)


@pytest.mark.parametrize(
    ("shown_first", "lines", "then"),
    [
        (Light.APPROVED, GREEN_STANDS, Light.READY),
        (Light.APPROVED, GREEN_STANDS, Light.ASKING),
        (Light.APPROVED, GREEN_STANDS, Light.NOBODY_SIGNED_IN),
        (Light.APPROVED, GREEN_STANDS, Light.DARK),
        (Light.READY, ALL_DARK, Light.APPROVED),
        (Light.READY, ALL_DARK, Light.DECLINED),
    ],
)
def test_a_lamp_whose_lines_stand_still_is_found_out(
    shown_first: Light, lines: dict[int, bool], then: Light
) -> None:
    pins, stuck = MockPins(), Event()
    lamp = RgbLamp(PINS, pins, pins.level, on_stuck=lambda _lead: stuck.set())
    lamp.show(shown_first)
    pins.stuck = lines
    lamp.show(then)

    assert stuck.wait(10)

    lamp.close()


def test_a_lamp_that_stands_still_ends_the_program() -> None:
    program = (
        "from device.hardware.lamp import RgbLamp;"
        "from device.hardware.settings import LampPins;"
        "from device.till.signals import Light;"
        "from gpiozero.pins.mock import MockFactory, MockPWMPin;"
        "from threading import Event;"
        "pins = MockFactory(pin_class=MockPWMPin);"
        "RgbLamp(LampPins(), pins, lambda _pin: True).show(Light.READY);"
        "Event().wait()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == os.EX_IOERR
    assert "lamp_stuck" in ended.stdout + ended.stderr


def test_lines_that_cannot_be_read_leave_a_lamp_that_shines() -> None:
    asked = Event()

    def unreadable(_pin: int) -> bool:
        asked.set()
        raise OSError("no such line")

    pins = MockPins()
    lamp = RgbLamp(PINS, pins, unreadable, on_stuck=nobody_expects)
    assert asked.wait(10)
    lamp.show(Light.APPROVED)
    assert colour(pins) == GREEN
    lamp.close()


def test_whoever_says_why_nothing_starts_goes_on_where_the_lamp_stands_still() -> None:
    program = (
        "from contextlib import ExitStack\n"
        "from time import sleep\n"
        "from gpiozero.pins.mock import MockFactory, MockPWMPin\n"
        "from device.hardware import build\n"
        "from device.hardware.settings import HardwareSettings\n"
        "from device.till.signals import Light\n"
        "pins = MockFactory(pin_class=MockPWMPin)\n"
        "pins.level = lambda _pin: True\n"
        "build._pi = lambda _settings, _parts: (None, pins, None)\n"
        "with ExitStack() as parts:\n"
        "    build.open_lamp(HardwareSettings(), parts).show(Light.FAULT)\n"
        "    sleep(3)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert "lamp_stuck" in ended.stdout + ended.stderr
    assert ended.returncode == 0
