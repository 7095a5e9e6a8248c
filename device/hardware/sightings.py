"""Which readings are news: a code in view is told once, and again when it stays or comes back."""

from typing import Final

REPEAT_S: Final = 1.5
"""A code that stays in view is reported again after this long."""

GONE_FRAMES: Final = 5
"""A code not seen in this many frames has left: one blurred frame is not a new phone."""


class Sightings:
    """Remembers the code in view: no clock, no camera."""

    def __init__(self) -> None:
        self._seen: str | None = None
        self._seen_at = 0.0
        self._unseen_frames = 0

    def forget(self) -> None:
        """Somebody looks anew: whatever is in view is news."""
        self._seen = None

    def is_news(self, text: str | None, at: float) -> bool:
        """Whether to report what the next frame said; None: it held nothing that could be read."""
        if text is None:
            self._unseen_frames += 1
            if self._unseen_frames >= GONE_FRAMES:
                self._seen = None
            return False
        self._unseen_frames = 0
        if text == self._seen and at - self._seen_at < REPEAT_S:
            return False
        self._seen, self._seen_at = text, at
        return True
