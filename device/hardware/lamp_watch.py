"""Whether the lamp's leads do what they were told, judged by one look at their lines after another.

lgpio's thread once stopped and left every line as it was (docs/facts.md). A green light that stays
would be an approval of whatever comes next, so a program whose lamp does not obey must end: the
kernel lets its lines go.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

LEADS: Final = ("red", "green", "blue")
DIMMED_MAX: Final = 0.8
"""A lead that shines for no larger part of a pulse is seen dark in one of a few looks."""
LOOKS: Final = 40
"""So many that contradict, one after the other: lit by chance in all of them is a lead at 0.8 once
in 7,500 tries; the lights have 0.9 or 0.6 and less, and 0.6 is once in 750 million."""
LOOK_S: Final = 0.097
LOOK_AGAIN_S: Final = 0.017
"""Where something contradicted. Neither is a multiple of a pulse, which takes 0.01 s: looks that
always met the same place of it would say nothing."""


@dataclass
class LampWatch:
    """Counts, for each lead, how many looks in a row contradicted."""

    _doubts: list[int] = field(default_factory=lambda: [0] * len(LEADS))

    def look(self, wanted: Sequence[float], lit: Sequence[bool]) -> str | None:
        """The lead that stands still; None: none so far.

        `wanted`: the part of each pulse that each lead should shine, 0 to 1. `lit`: whether it
        does at this moment. Both are red, green, blue.
        """
        for at, (part, is_lit) in enumerate(zip(wanted, lit, strict=True)):
            self._doubts[at] = self._doubts[at] + 1 if _contradicts(part, is_lit=is_lit) else 0
        return next(
            (lead for lead, doubts in zip(LEADS, self._doubts, strict=True) if doubts >= LOOKS),
            None,
        )

    @property
    def pause_s(self) -> float:
        """Until the next look."""
        return LOOK_AGAIN_S if any(self._doubts) else LOOK_S


def _contradicts(part: float, *, is_lit: bool) -> bool:
    """A lead in between may be either at any moment: what it may not be is lit for ever."""
    if part <= DIMMED_MAX:
        return is_lit
    return part == 1.0 and not is_lit
