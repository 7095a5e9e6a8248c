import time
from collections.abc import Callable, Iterator
from itertools import combinations, islice, product
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


def mock_pins() -> Factory:
    return MockFactory(pin_class=MockPWMPin)


@pytest.fixture(params=["mock pins", "simulated edge"])
def factory(request: pytest.FixtureRequest, wiring: "Wiring") -> Factory:
    return wiring.factory if request.param == "simulated edge" else mock_pins()


@pytest.fixture
def lamp(factory: Factory) -> Iterator[RgbLamp]:
    made = RgbLamp(PINS, factory)
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


def test_a_closed_lamp_is_dark(factory: Factory) -> None:
    lamp = RgbLamp(PINS, factory)
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
    lamp = RgbLamp(PINS, wiring.factory)
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
    made = RgbLamp(pins, wired)
    made.show(Light.APPROVED)
    assert colour(wired) == (1, 0, 1)
    assert colours_told[-1] == GREEN
    made.close()
    assert colours_told[-1] == (0, 0, 0)
    wired.close()
