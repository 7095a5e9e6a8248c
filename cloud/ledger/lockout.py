"""How long a badge waits at one appliance after wrong PINs: doubling, and for that pair alone."""

from datetime import datetime, timedelta
from typing import Final

TRIES_FREE: Final = 5
FIRST_WAIT: Final = timedelta(seconds=30)
LONGEST_WAIT: Final = timedelta(hours=1)


def locked_until(failures: int, now: datetime) -> datetime | None:
    """Until when nothing more is tried after so many wrong PINs in a row; None: try again."""
    if failures < TRIES_FREE:
        return None
    # Beyond twenty doublings the longest wait was reached long ago.
    doublings = min(failures - TRIES_FREE, 20)
    return now + min(FIRST_WAIT * 2**doublings, LONGEST_WAIT)
