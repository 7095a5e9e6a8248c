"""The newest checkpoint of the cloud's audit log, kept where the cloud cannot reach it."""

from pathlib import Path
from typing import Final

from device import durable
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
        durable.keep(self._path, f"{token}\n".encode("ascii"))
        return True

    def read(self) -> Checkpoint | None:
        """What is kept; None where there is nothing that can be read. Raises OSError."""
        try:
            return read_checkpoint(self._path.read_text("utf-8", errors="replace").strip())
        except FileNotFoundError:
            return None
