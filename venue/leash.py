"""Ends what a dead parent left behind: a process of its own that reads process groups on stdin.

Standard library alone, and started by its path, so that it is up in a few milliseconds.
"""

import contextlib
import os
import select
import signal
import sys
import time

POLL_S = 0.2
GRACE_S = 3.0


def hold_until_death(parent: int) -> dict[int, int]:
    """Read `+GROUP SIGNAL` and `-GROUP` lines until the parent is gone; return what it held."""
    held: dict[int, int] = {}
    pending = b""
    while True:
        # The end of stdin alone would not do: a fork of the parent may keep the pipe open. Asked
        # before the look at stdin: what a parent said before it died is still read.
        alive = os.getppid() == parent
        if not select.select([0], [], [], POLL_S if alive else 0)[0]:
            if alive:
                continue
            break
        chunk = os.read(0, 65536)
        if not chunk:
            break
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"+"):
                group, number = line[1:].split()
                held[int(group)] = int(number)
            else:
                held.pop(int(line[1:]), None)
    return held


def end(held: dict[int, int]) -> None:
    """Send each group its signal, and SIGKILL to whoever is still there after the grace."""
    for group, number in held.items():
        _signal(group, number)
    # After SIGKILL there is nothing to wait for: what still answers is a zombie.
    alive = [group for group, number in held.items() if number != signal.SIGKILL]
    deadline = time.monotonic() + GRACE_S  # noqa: TID251 - a watchdog lives at the edge
    while alive and time.monotonic() < deadline:  # noqa: TID251 - the same clock
        time.sleep(0.02)
        alive = [group for group in alive if _signal(group, 0)]
    for group in alive:
        _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
        return True
    return False


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    end(hold_until_death(int(sys.argv[1])))
