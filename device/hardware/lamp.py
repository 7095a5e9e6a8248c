"""The lamp: each light's colours over time, begun before `show` returns.

What speaks about a sale shines at full strength; what only tells the till's state is dimmer. Full
green with no other colour is in the two approvals alone, not even in passing between two colours.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, cycle
from math import cos, pi
from threading import Condition, Event, Thread
from time import monotonic  # noqa: TID251 -- the lamp is an edge: patterns run in real time
from typing import TYPE_CHECKING, Final, Protocol, assert_never

import structlog

from device.hardware.lamp_watch import LampWatch
from device.hardware.settings import LampPins
from device.till.signals import Light

if TYPE_CHECKING:
    from gpiozero.pins import Factory

Colour = tuple[float, float, float]
"""Red, green, blue from 0 to 1, in the order the pins are written."""

DARK: Final[Colour] = (0.0, 0.0, 0.0)
GREEN: Final[Colour] = (0.0, 1.0, 0.0)
RED: Final[Colour] = (1.0, 0.0, 0.0)
BLUE: Final[Colour] = (0.0, 0.0, 1.0)
AMBER: Final[Colour] = (1.0, 0.5, 0.0)
WHITE: Final[Colour] = (1.0, 1.0, 1.0)
CYAN: Final[Colour] = (0.0, 0.9, 1.0)
TEAL: Final[Colour] = (0.0, 0.9, 0.5)
VIOLET: Final[Colour] = (0.5, 0.0, 1.0)

_log = structlog.get_logger(__name__)


class Lamp(Protocol):
    """One lamp, one light at a time."""

    def show(self, light: Light) -> None:
        """Begin a light's pattern; its first colour shines when this returns."""
        ...

    def off(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Step:
    """A colour and how long it lasts."""

    colour: Colour
    seconds: float


@dataclass(frozen=True)
class Pattern:
    """Steps shown once, then steps shown round and round; the last colour stays."""

    once: tuple[Step, ...] = ()
    forever: tuple[Step, ...] = ()

    def steps(self) -> Iterator[Step]:
        return chain(self.once, cycle(self.forever))


def pattern_of(light: Light) -> Pattern:  # noqa: C901, PLR0912 -- a branch a light
    """What docs/lights.md's table of lights looks like in time."""
    match light:
        case Light.DARK:
            return Pattern(once=(Step(DARK, 0),))
        case Light.NOBODY_SIGNED_IN:
            return _swell(WHITE, low=0.04, high=0.5, period_s=4.0, steps=40)
        case Light.READY:
            return Pattern(once=(Step(_dim(WHITE, 0.15), 0),))
        case Light.SHOW_QR:
            return _swell(BLUE, low=0.15, high=0.6, period_s=1.0, steps=20)
        case Light.KEY_THE_AMOUNT:
            # Two pulses and a rest, where "show the QR" has one after the other.
            pulse = _swell(CYAN, low=0.15, high=0.6, period_s=0.5, steps=10).forever
            return Pattern(forever=(*pulse, *pulse, Step(_dim(CYAN, 0.15), 0.6)))
        case Light.ASKING:
            return Pattern(forever=(Step(BLUE, 0.1), Step(DARK, 0.1)))
        case Light.APPROVED:
            return Pattern(once=(Step(GREEN, 2.0), Step(DARK, 0)))
        case Light.APPROVED_OFFLINE:
            blink = (Step(AMBER, 0.15), Step(DARK, 0.15))
            return Pattern(once=(Step(GREEN, 1.3), Step(DARK, 0.1), *blink, *blink))
        case Light.DECLINED:
            return Pattern(once=(Step(RED, 2.0), Step(DARK, 0)))
        case Light.REFRESH_QR:
            return Pattern(once=(Step(RED, 0.4), Step(DARK, 0.4)) * 3)
        case Light.FAULT:
            # Longer lit than dark, where "asking" is as long in both.
            return Pattern(forever=(Step(RED, 0.15), Step(DARK, 0.07)))
        case Light.OFFLINE_ALLOWED:
            return _swell(AMBER, low=0.04, high=0.5, period_s=2.0, steps=40)
        case Light.OFFLINE_NOT_ALLOWED:
            amber = Step(_dim(AMBER, 0.6), 0.12)
            return Pattern(forever=(amber, Step(DARK, 0.12), amber, Step(DARK, 1.0)))
        case Light.READY_NO_PAPER:
            white = _dim(WHITE, 0.12)
            return Pattern(forever=(Step(white, 0.4), *_WINK, Step(white, 1.16)))
        case Light.OFFLINE_ALLOWED_NO_PAPER:
            amber = _dim(AMBER, 0.12)
            return Pattern(forever=(Step(amber, 0.4), *_WINK, *_WINK, Step(amber, 1.16)))
        case Light.OFFLINE_NOT_ALLOWED_NO_PAPER:
            amber = Step(_dim(AMBER, 0.55), 0.12)
            return Pattern(forever=(amber, Step(DARK, 0.12), amber, Step(DARK, 0.4), *_WINK))
        case Light.SHOW_RECEIPT:
            blue = _dim(BLUE, 0.8)
            return Pattern(
                forever=(Step(blue, 0.6), Step(DARK, 0.2), Step(blue, 0.2), Step(DARK, 0.7))
            )
        case Light.SUPERVISOR:
            blink = (Step(CYAN, 0.1), Step(DARK, 0.1))
            return Pattern(forever=(*blink, *blink, Step(CYAN, 0.1), Step(DARK, 0.7)))
        case Light.REFUNDED:
            return Pattern(once=(Step(TEAL, 0.8), Step(DARK, 0.2)) * 2)
        case Light.ENROL:
            swell = _swell(VIOLET, low=0.04, high=0.5, period_s=1.6, steps=32).forever
            return Pattern(forever=(*swell, Step(DARK, 0.6)))
        case Light.JOINING:
            return Pattern(forever=(Step(VIOLET, 0.25), Step(DARK, 0.25)))
        case Light.ENROLLED:
            return Pattern(forever=(Step(_dim(VIOLET, 0.9), 1.2), Step(DARK, 0.15)))
        case Light.NO_WAY:
            return Pattern(forever=(Step(_dim(VIOLET, 0.7), 0.2), Step(DARK, 1.2)))
        case Light.NOT_ENROLLED:
            violet = _dim(VIOLET, 0.6)
            return Pattern(
                forever=(Step(violet, 0.15), Step(DARK, 0.15), Step(violet, 0.9), Step(DARK, 0.8))
            )
        case Light.UPDATING:
            white = _dim(WHITE, 0.7)
            return Pattern(forever=(*(Step(white, 0.2), Step(DARK, 0.2)) * 3, Step(DARK, 1.0)))
        case _:
            assert_never(light)


def _dim(colour: Colour, level: float) -> Colour:
    red, green, blue = colour
    return (round(red * level, 4), round(green * level, 4), round(blue * level, 4))


_WINK: Final = (Step(DARK, 0.12), Step(_dim(VIOLET, 0.8), 0.2), Step(DARK, 0.12))
"""No paper. The darkness around it is seen by those who do not see the violet."""


def _swell(colour: Colour, *, low: float, high: float, period_s: float, steps: int) -> Pattern:
    levels = (low + (high - low) * (1 - cos(2 * pi * step / steps)) / 2 for step in range(steps))
    return Pattern(forever=tuple(Step(_dim(colour, level), period_s / steps) for level in levels))


Level = Callable[[int], bool]
"""Whether a pin's line is high at this moment, by the line itself: not what gpiozero was told."""


OnStuck = Callable[[str], None]
"""Told which lead does not do what it was told: red, green or blue."""


def end_the_program(_lead: str) -> None:
    """At once: the journal makes that safe at any line, and the kernel lets the lines go."""
    os._exit(os.EX_IOERR)


class RgbLamp:
    """The real lamp: three PWM pins, and a look at what their lines do.

    Where they do not do what they were told, `on_stuck` is called, from a thread of the lamp's.
    """

    def __init__(
        self,
        pins: LampPins,
        pin_factory: "Factory",
        level: Level,
        on_stuck: OnStuck = end_the_program,
    ) -> None:
        from gpiozero import RGBLED  # noqa: PLC0415 -- 11 MiB that the other parts may not need

        self._pins = pins
        self._level = level
        self._on_stuck = on_stuck
        self._wanted = DARK
        self._led = RGBLED(
            pins.red,
            pins.green,
            pins.blue,
            active_high=pins.common == "cathode",
            pwm=True,
            pin_factory=pin_factory,
        )
        self._changed = Condition()
        self._rest: Iterator[Step] = iter(())
        self._next_at: float | None = None
        """When the step being shown ends; None while it lasts."""
        self._closing = Event()
        self._threads = (
            Thread(target=self._run, name="lamp", daemon=True),
            Thread(target=self._look_after, name="lamp-watch", daemon=True),
        )
        for thread in self._threads:
            thread.start()

    def show(self, light: Light) -> None:
        steps = pattern_of(light).steps()
        with self._changed:
            if self._closing.is_set():
                return
            self._rest = steps
            self._advance(monotonic())
            self._changed.notify()

    def off(self) -> None:
        self.show(Light.DARK)

    def close(self) -> None:
        with self._changed:
            self._closing.set()
            self._changed.notify()
        for thread in self._threads:
            thread.join()
        self._led.close()

    def _advance(self, starts_at: float) -> None:
        step = next(self._rest, None)
        if step is None:
            self._next_at = None
            return
        self._next_at = starts_at + step.seconds
        self._wanted = step.colour
        self._led.value = step.colour

    def _run(self) -> None:
        with self._changed:
            while not self._closing.is_set():
                now = monotonic()
                if self._next_at is None:
                    self._changed.wait()
                elif now < self._next_at:
                    self._changed.wait(self._next_at - now)
                else:
                    try:
                        # From when it was due, so that a late wake-up does not stretch a pattern.
                        self._advance(max(self._next_at, now - 0.5))
                    except Exception:  # noqa: BLE001 -- the next light must still be shown
                        self._next_at = None
                        _log.exception("the lamp's pattern stopped")

    def _look_after(self) -> None:
        watch = LampWatch()
        while not self._closing.wait(watch.pause_s):
            # Without the lock: a light must not wait for this, and one look that meets a change
            # between two colours is forgotten by the next.
            wanted = self._wanted
            try:
                lit = self._lit()
            except Exception:  # noqa: BLE001 -- the library's own; the lamp shines as before
                _log.exception("the lamp's lines cannot be read, and nobody looks after it")
                return
            stuck = watch.look(wanted, lit)
            if stuck is not None:
                _log.critical("lamp_stuck", lead=stuck, wanted=wanted, lit=lit)
                self._on_stuck(stuck)
                return

    def _lit(self) -> tuple[bool, bool, bool]:
        is_lit_high = self._pins.common == "cathode"
        red, green, blue = (
            self._level(number) is is_lit_high
            for number in (self._pins.red, self._pins.green, self._pins.blue)
        )
        return red, green, blue
