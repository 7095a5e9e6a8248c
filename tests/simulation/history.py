"""What happened in a run, kept as it is and only told where a promise was broken."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from tests.simulation.clock import START_MS, Clock

MARGIN_MS: Final = 500
LINE_MAX: Final = 240
NO_KEY: Final = ""


@dataclass(frozen=True)
class _Moment:
    at_ms: int
    who: str
    what: str
    about: tuple[object, ...]


class PromiseBrokenError(AssertionError):
    """The light lied; the message names the seed and tells the sale."""


class History:
    """Everything in order; `tally` counts how often each thing came about."""

    def __init__(self, seed: int, clock: Clock) -> None:
        self.seed = seed
        self.tally: Counter[str] = Counter()
        self._clock = clock
        self._moments: list[_Moment] = []

    def note(self, who: str, what: str, *about: object) -> None:
        self.tally[what] += 1
        self._moments.append(_Moment(self._clock.now_ms, who, what, about))

    def broken(self, promise: str, who: str = "", key: str = NO_KEY) -> PromiseBrokenError:
        """The failure to raise, with the story of that sale, or of the last seconds."""
        story = "\n".join(self._story(who, key))
        return PromiseBrokenError(
            f"{promise}\n  seed {self.seed}, appliance {who or '-'}, key {key or '-'}"
            f" (again: RAILTIX_SEED={self.seed})\n{story}"
        )

    def _story(self, who: str, key: str) -> list[str]:
        lines = [(each, self._tell(each)) for each in self._moments]
        named = [each.at_ms for each, line in lines if key and key in line]
        first = min(named, default=self._clock.now_ms - 10_000) - MARGIN_MS
        last = max(named, default=self._clock.now_ms) + MARGIN_MS
        return [
            line
            for each, line in lines
            if first <= each.at_ms <= last
            and (each.who == who or (key and key in line))
            and "eartbeat" not in line
        ]

    @staticmethod
    def _tell(moment: _Moment) -> str:
        about = " ".join(str(each) for each in moment.about)
        about = about if len(about) < LINE_MAX else f"{about[:LINE_MAX]} ..."
        return f"  {(moment.at_ms - START_MS) / 1000:9.3f}  {moment.who:8} {moment.what} {about}"
