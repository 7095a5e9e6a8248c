"""Virtual time: what is due next is done next, and a minute takes no time."""

import heapq
import itertools
from collections.abc import Callable
from typing import Final

START_MS: Final = 1_780_000_000_000
"""By the cloud's clock: some day in 2026."""


class Clock:
    """Milliseconds since 1970; of things due at the same moment, the first planned is first."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self._numbers = itertools.count()
        self._due: list[tuple[int, int, Callable[[], None]]] = []

    def plan(self, wait_ms: float, deed: Callable[[], None]) -> None:
        assert wait_ms >= 0, "nothing is planned for the past"
        heapq.heappush(self._due, (self.now_ms + round(wait_ms), next(self._numbers), deed))

    def run_for(self, span_ms: int) -> None:
        end_ms = self.now_ms + span_ms
        while self._due and self._due[0][0] <= end_ms:
            self.now_ms, _, deed = heapq.heappop(self._due)
            deed()
        self.now_ms = end_ms
