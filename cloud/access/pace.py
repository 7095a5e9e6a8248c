"""How often something may be asked: so many at once, refilled evenly; no clock of its own.

The generic cell rate algorithm (ITU-T I.371): one number a subject, and no burst at a window's
edge.
"""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_UNITS_S: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_PACE: Final = re.compile(rf"([1-9][0-9]{{0,6}})/({'|'.join(_UNITS_S)})")
_FORGET_FROM: Final = 1024


@dataclass(frozen=True, slots=True)
class Pace:
    """`count` at once, and the same number again spread over each `per_s` seconds."""

    count: int
    per_s: float

    @classmethod
    def read(cls, text: str) -> "Pace":
        """From `20/minute`: second, minute, hour or day. Raises ValueError for anything else."""
        found = _PACE.fullmatch(text)
        if found is None:
            raise ValueError("a pace is written as 20/minute (second, minute, hour, day)")
        return cls(int(found[1]), _UNITS_S[found[2]])

    def __str__(self) -> str:
        """As it is read, where the time has a name."""
        names = {seconds: name for name, seconds in _UNITS_S.items()}
        return f"{self.count}/{names.get(int(self.per_s), f'{self.per_s:g} s')}"


@dataclass(frozen=True, slots=True)
class Wait:
    """Too often: how long until one more is due, and how many in a row were told so."""

    seconds: float
    refused: int


@dataclass(slots=True)
class _Spent:
    until: float
    """When everything that was taken is refilled."""
    refused: int = 0


class Meter:
    """One pace, counted for each subject apart, in this process; forgets whoever is refilled."""

    def __init__(self, pace: Pace, now: Callable[[], float]) -> None:
        """`now`: seconds of a clock that never goes back."""
        self._each_s = pace.per_s / pace.count
        self._ahead_s = pace.per_s - self._each_s
        self._now = now
        self._mutex = threading.Lock()
        self._spent: dict[str, _Spent] = {}
        self._forget_at = _FORGET_FROM

    def take(self, subject: str) -> Wait | None:
        """Take one; None where it was due."""
        now = self._now()
        with self._mutex:
            spent = self._spent.get(subject)
            if spent is None:
                self._forget(now)
                spent = self._spent[subject] = _Spent(now)
            wait_s = spent.until - self._ahead_s - now
            if wait_s > 0:
                spent.refused += 1
                return Wait(wait_s, spent.refused)
            spent.until = max(spent.until, now) + self._each_s
            spent.refused = 0
            return None

    def is_spent(self, subject: str) -> bool:
        """Whether `take` would refuse just now."""
        now = self._now()
        with self._mutex:
            spent = self._spent.get(subject)
            return spent is not None and spent.until - self._ahead_s > now

    def __len__(self) -> int:
        return len(self._spent)

    def _forget(self, now: float) -> None:
        """Strangers choose their addresses: what is refilled anyway must not fill memory."""
        if len(self._spent) < self._forget_at:
            return
        self._spent = {name: spent for name, spent in self._spent.items() if spent.until > now}
        # Doubling: each entry is looked at about once for each that is entered.
        self._forget_at = max(_FORGET_FROM, 2 * len(self._spent))
