from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from device.hardware.buzzer import HIGHEST_HZ, LOWEST_HZ, RESTING_HZ, PiezoBuzzer, beeps_of
from device.hardware.simulated_pins import SimulatedPin
from device.till.signals import Sound

if TYPE_CHECKING:
    from .conftest import Wiring


Until = Callable[[Callable[[], bool]], None]


@pytest.fixture
def buzzer(wiring: "Wiring") -> Iterator[PiezoBuzzer]:
    made = PiezoBuzzer(wiring.settings.buzzer, wiring.factory)
    yield made
    made.close()


@pytest.mark.parametrize("sound", Sound)
def test_every_sound_is_heard_whole_and_ends_in_silence(
    sound: Sound, buzzer: PiezoBuzzer, wiring: "Wiring", until: Until
) -> None:
    buzzer.play(sound)
    beeps = [beep.hz for beep in beeps_of(sound) if beep.hz is not None]
    expected = [heard for hz in beeps for heard in (hz, None)]
    until(lambda: len(wiring.tones) >= len(expected))
    assert wiring.tones == pytest.approx(expected)


def test_silence_is_a_pulse_without_width_and_never_the_end_of_one(
    buzzer: PiezoBuzzer, wiring: "Wiring", until: Until
) -> None:
    """Where lgpio ends a pulse, the lamp's may stand still (docs/facts.md)."""
    pin = wiring.factory.pin(wiring.settings.buzzer)
    assert isinstance(pin, SimulatedPin)
    buzzer.play(Sound.APPROVED)
    until(lambda: len(wiring.tones) >= 2)
    until(lambda: pin.frequency == RESTING_HZ)
    assert (pin.frequency, pin.state) == (RESTING_HZ, 0)


def test_no_two_sounds_are_alike() -> None:
    assert len({beeps_of(sound) for sound in Sound}) == len(Sound)


def test_every_tone_is_one_the_piezo_has() -> None:
    hz = [beep.hz for sound in Sound for beep in beeps_of(sound) if beep.hz is not None]
    assert LOWEST_HZ <= min(hz) <= max(hz) <= HIGHEST_HZ


def test_a_new_word_ends_the_one_before(
    buzzer: PiezoBuzzer, wiring: "Wiring", until: Until
) -> None:
    buzzer.play(Sound.FAULT)
    until(lambda: len(wiring.tones) >= 1)
    buzzer.play(Sound.APPROVED)
    until(lambda: len(wiring.tones) >= 4)
    assert wiring.tones == pytest.approx([220, None, 2640, None])


def test_a_click_never_cuts_a_word_about_a_sale_short(
    buzzer: PiezoBuzzer, wiring: "Wiring", until: Until
) -> None:
    buzzer.play(Sound.DECLINED)
    until(lambda: len(wiring.tones) >= 1)
    buzzer.play(Sound.CLICK)
    until(lambda: len(wiring.tones) >= 4)
    assert wiring.tones == pytest.approx([440, None, 440, None])


def test_a_closed_buzzer_is_silent(buzzer: PiezoBuzzer, wiring: "Wiring", until: Until) -> None:
    buzzer.play(Sound.FAULT)
    until(lambda: len(wiring.tones) >= 1)
    buzzer.close()
    assert wiring.tones[-1] is None
