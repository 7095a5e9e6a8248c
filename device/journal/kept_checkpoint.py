"""The newest checkpoint of the cloud's audit log, kept where the cloud cannot reach it."""

import os
from pathlib import Path
from typing import Final

from protocol.checkpoint import Checkpoint, read_checkpoint

FOLDER: Final = "audit"
"""Its own: what is flushed here is never taken for the journal's."""
FILE: Final = "checkpoint.jws"


class KeptCheckpoint:
    """One file in the state folder: replaced whole, fsynced, and never by an older one."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FOLDER / FILE

    def keep(self, token: str) -> bool:
        """Whether it is newer than what was kept, and is kept now. Raises OSError."""
        checkpoint = read_checkpoint(token)
        if checkpoint is None:
            return False
        standing = self.read()
        if standing is not None and standing.order >= checkpoint.order:
            return False
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        draft = self._path.with_name(f".{FILE}.new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(token + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return True

    def read(self) -> Checkpoint | None:
        """What is kept; None where there is nothing that can be read. Raises OSError."""
        try:
            return read_checkpoint(self._path.read_text("utf-8", errors="replace").strip())
        except FileNotFoundError:
            return None
