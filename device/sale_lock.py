"""The lock between the till and an installation: whoever holds it, the other one waits."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

LOCK: Final = "/run/railtix/sale.lock"
"""Made by tmpfiles.d in a folder that is root's: nobody can put another in its place."""


class SaleLock:
    """flock(2) on one file; the kernel lets go of it when the program ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def is_held(self) -> bool:
        return self._descriptor is not None

    def take(self) -> bool:
        """Whether it is ours now, or was already. Never waits. Raises OSError where there is no
        such file."""
        if self._descriptor is not None:
            return True
        # Never made here: one that only one side knows of would be no lock.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(self._path, flags)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def let_go(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None
