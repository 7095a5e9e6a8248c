"""The buzzer: each sound's tones over time; `play` never waits for them."""

from dataclasses import dataclass
from threading import Condition, Thread
from typing import TYPE_CHECKING, Final, Protocol, assert_never

import structlog

from device.till.signals import Sound

if TYPE_CHECKING:
    from gpiozero.pins import Factory

LOWEST_HZ: Final = 220.0
HIGHEST_HZ: Final = 3520.0
LOUDEST: Final = 0.5
RESTING_HZ: Final = 50.0
"""Of a pulse without width: silence.

Its pulse is never ended, as gpiozero's TonalBuzzer would: where lgpio 0.2.2 ends the pulse that it
began last, its thread may stop for good, and the lamp stays as it is (docs/facts.md).
"""

_log = structlog.get_logger(__name__)


class Buzzer(Protocol):
    """One voice: a new sound ends the one before."""

    def play(self, sound: Sound) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Beep:
    """A tone, or silence, and how long it lasts."""

    hz: float | None
    seconds: float


_PAUSE: Final = Beep(None, 0.08)


def beeps_of(sound: Sound) -> tuple[Beep, ...]:
    """What docs/lights.md says of sounds in hertz and seconds."""
    match sound:
        case Sound.CLICK:
            return (Beep(1760, 0.015),)
        case Sound.SCANNED:
            return (Beep(1320, 0.08),)
        case Sound.APPROVED:
            return (Beep(2640, 0.25),)
        case Sound.APPROVED_OFFLINE:
            return (Beep(2640, 0.25), _PAUSE, Beep(1320, 0.08))
        case Sound.DECLINED:
            return (Beep(440, 0.2), _PAUSE, Beep(440, 0.2))
        case Sound.REFRESH_QR:
            return (Beep(880, 0.08), _PAUSE, Beep(880, 0.08), _PAUSE, Beep(880, 0.08))
        case Sound.REFUNDED:
            return (Beep(990, 0.12), _PAUSE, Beep(1485, 0.2))
        case Sound.FAULT:
            return (Beep(220, 1.2),)
        case _:
            assert_never(sound)


class PiezoBuzzer:
    """The real buzzer: a passive piezo on one PWM pin."""

    def __init__(self, pin: int, pin_factory: "Factory") -> None:
        from gpiozero import PWMOutputDevice  # noqa: PLC0415 -- see RgbLamp

        self._piezo = PWMOutputDevice(pin, frequency=RESTING_HZ, pin_factory=pin_factory)
        self._changed = Condition()
        self._beeps: tuple[Beep, ...] = ()
        self._playing: Sound | None = None
        self._is_interrupted = False
        self._is_closing = False
        self._thread = Thread(target=self._run, name="buzzer", daemon=True)
        self._thread.start()

    def play(self, sound: Sound) -> None:
        with self._changed:
            if sound is Sound.CLICK and self._playing not in {None, Sound.CLICK}:
                return  # a key pressed early must not cut off the word about a sale
            self._playing = sound
            self._beeps = beeps_of(sound)
            self._is_interrupted = True
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join()
        self._piezo.close()

    def _run(self) -> None:
        with self._changed:
            while not self._is_closing:
                if not self._beeps:
                    self._playing = None
                    self._changed.wait()
                    continue
                beep, *rest = self._beeps
                self._beeps = tuple(rest)
                try:
                    self._sound(beep.hz)
                    self._is_interrupted = False
                    self._changed.wait_for(
                        lambda: self._is_closing or self._is_interrupted, beep.seconds
                    )
                    self._sound(None)
                except Exception:  # noqa: BLE001 -- the next sound must still be tried
                    self._beeps = ()
                    _log.exception("the buzzer's sound stopped")

    def _sound(self, hz: float | None) -> None:
        if hz is None:
            self._piezo.value = 0
            self._piezo.frequency = RESTING_HZ
        else:
            self._piezo.frequency = hz
            self._piezo.value = LOUDEST
