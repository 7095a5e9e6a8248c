"""How long one waits after wrong tries at a secret: a few are free, then it doubles."""

from datetime import datetime, timedelta
from typing import Final

TRIES_FREE: Final = 5
FIRST_WAIT: Final = timedelta(seconds=30)
LONGEST_WAIT: Final = timedelta(hours=1)


def locked_until(failures: int, now: datetime, tries_free: int = TRIES_FREE) -> datetime | None:
    """Until when nothing more is tried after so many wrong tries in a row; None: try again."""
    if failures < tries_free:
        return None
    # Beyond twenty doublings the longest wait was reached long ago.
    doublings = min(failures - tries_free, 20)
    return now + min(FIRST_WAIT * 2**doublings, LONGEST_WAIT)
