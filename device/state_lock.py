"""One program drives an appliance's state at a time."""

import fcntl
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Final

LOCK_FILE: Final = "railtix-pos.lock"


class AlreadyRunningError(Exception):
    """Another process holds this appliance's state."""


def lock_state(state: Path, stack: ExitStack) -> None:
    """Make sure that no other process drives this appliance. Raises AlreadyRunningError."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    file: IO[bytes] = stack.enter_context((state / LOCK_FILE).open("ab"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise AlreadyRunningError(f"{state} is in use by another railtix-pos") from error
