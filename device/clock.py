"""Whether something trustworthy has set the wall clock since boot; a Pi has no clock of its own.

After a boot the wall clock is behind, so an expired code would look valid. NTP daemons say so in
two places: the kernel's own flag, which chrony and systemd-timesyncd clear (adjtimex(2),
STA_UNSYNC), and a file that systemd-timesyncd touches. A date set by hand does neither.
"""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Final

TIMESYNC_MARKER: Final = Path("/run/systemd/timesync/synchronized")
"""/run is empty after a boot."""

STA_UNSYNC: Final = 0x0040
"""linux/timex.h"""


class _Timex(ctypes.Structure):
    """`struct timex` up to its status; the rest is only room for what the kernel writes."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    )


def kernel_status() -> int:
    """The kernel's clock status bits. Raises OSError where it does not tell them."""
    timex = _Timex()  # modes 0: read, and set nothing
    adjtimex = getattr(ctypes.CDLL(None, use_errno=True), "adjtimex", None)
    if adjtimex is None:
        raise OSError("there is no adjtimex")
    if adjtimex(ctypes.byref(timex)) == -1:
        raise OSError(ctypes.get_errno(), "adjtimex")
    status: int = timex.status
    return status


class WallClock:
    """Asks until the answer is yes; a yes holds, since the clock then runs on by itself.

    The kernel takes its own yes back after some hours without NTP, which an evening offline is.
    """

    def __init__(
        self,
        status: Callable[[], int] = kernel_status,
        marker: Path = TIMESYNC_MARKER,
    ) -> None:
        self._status = status
        self._marker = marker
        self._is_set = False

    def is_set(self) -> bool:
        """Whether NTP has set the wall clock since boot; no where that cannot be learnt."""
        if not self._is_set:
            self._is_set = self._kernel_says_so() or self._timesync_says_so()
        return self._is_set

    def _kernel_says_so(self) -> bool:
        try:
            return not self._status() & STA_UNSYNC
        except OSError:
            return False

    def _timesync_says_so(self) -> bool:
        try:
            return self._marker.exists()
        except OSError:
            return False
