"""What the lamp says, read from gpio-sim's files alone: how often each lead was high.

Software PWM makes strength a matter of how often; which leads are lit, and whether they are lit
all the time, is certain. That is enough for what may never be mistaken: full green alone is an
approval, and no other light has it (device/hardware/lamp.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final

MEMORY: Final = 8
"""Glances that make one colour: a dim light is high in a few samples of many.

White that breathes is now and then so dim that one lead is missed: a colour is one that the
glances before these had as well.
"""


class Hue(StrEnum):
    """Which leads are lit."""

    DARK = "dark"
    RED = "red"
    GREEN = "green"
    BLUE = "blue"
    AMBER = "amber"
    CYAN = "cyan"
    VIOLET = "violet"
    WHITE = "white"


@dataclass(frozen=True)
class Glance:
    """A tenth of a second: of so many samples, how many saw each lead high."""

    samples: int
    red: int
    green: int
    blue: int
    at: float
    guest_at: float

    @property
    def is_full_green(self) -> bool:
        return self.green == self.samples and self.red == self.blue == 0

    @property
    def is_full_red(self) -> bool:
        return self.red == self.samples and self.green == self.blue == 0


_HUES: Final = {
    (False, False, False): Hue.DARK,
    (True, False, False): Hue.RED,
    (False, True, False): Hue.GREEN,
    (False, False, True): Hue.BLUE,
    (True, True, False): Hue.AMBER,
    (False, True, True): Hue.CYAN,
    (True, False, True): Hue.VIOLET,
    (True, True, True): Hue.WHITE,
}


def _hue_of(glances: Sequence[Glance]) -> Hue:
    lit = (
        any(each.red for each in glances),
        any(each.green for each in glances),
        any(each.blue for each in glances),
    )
    return _HUES[lit]


class Lamp:
    """Every glance since the machine was started."""

    def __init__(self) -> None:
        self.glances: list[Glance] = []

    def glance(self, glance: Glance) -> None:
        self.glances.append(glance)

    def hue(self, since: float = 0.0) -> Hue | None:
        """The colour of the last moments, all of them after `since`; None: not known yet."""
        recent = self.glances[-2 * MEMORY :]
        if len(recent) < 2 * MEMORY or recent[0].at <= since:
            return None
        before, lately = _hue_of(recent[:MEMORY]), _hue_of(recent[MEMORY:])
        return lately if lately is before else None

    def approved_at(self, since: float) -> float | None:
        """When full green alone was first seen after `since`, in two glances running."""
        return self._two_running("is_full_green", since)

    def refused_at(self, since: float) -> float | None:
        """When full red alone was."""
        return self._two_running("is_full_red", since)

    def lately(self) -> str:
        return ", ".join(
            f"{each.red}/{each.green}/{each.blue} of {each.samples}" for each in self.glances[-5:]
        )

    def _two_running(self, name: str, since: float) -> float | None:
        after = [each for each in self.glances if each.at > since]
        for first, second in pairwise(after):
            if getattr(first, name) and getattr(second, name):
                return first.at
        return None
