"""What time it is, as far as it may be believed: a trusted moment, and what has elapsed since."""

from dataclasses import dataclass, replace
from typing import Final

from device.till.events import Now

KEPT_S: Final = 600.0
"""So long an earlier anchor outdoes one whose answer was longer on its way."""


@dataclass(frozen=True)
class Anchor:
    """A moment that is known by both clocks. Without `is_signed` it is NTP's word, not the
    cloud's, taken once: what happens to the wall clock after it changes nothing."""

    cloud_ms: int
    monotonic_s: float
    is_signed: bool = True

    def at(self, monotonic_s: float) -> int:
        return self.cloud_ms + round((monotonic_s - self.monotonic_s) * 1000)


def anchor_in(anchor: Anchor | None, now: Now) -> Anchor | None:
    """What there is, else the wall clock where something trustworthy has set it."""
    if anchor is None and now.wall_is_set:
        return Anchor(now.wall_ms, now.monotonic_s, is_signed=False)
    return anchor


def anchor_signed(anchor: Anchor | None, cloud_ms: int, now_s: float) -> Anchor:
    """After a signed answer that says `cloud_ms`, and arrives now: it was then, or earlier.

    So of two anchors the one that gives the later time is nearer to the truth; only not for long,
    or a monotonic clock that runs fast would never be put right.
    """
    signed = Anchor(cloud_ms, now_s)
    if anchor is None or not anchor.is_signed or now_s - anchor.monotonic_s >= KEPT_S:
        return signed
    return anchor if anchor.at(now_s) > cloud_ms else signed


def believed(now: Now, anchor: Anchor | None) -> Now:
    """The same moment by trusted time, where there is one: from here on `wall_is_set` says so."""
    if anchor is None:
        return now
    return replace(now, wall_ms=anchor.at(now.monotonic_s), wall_is_set=True)
