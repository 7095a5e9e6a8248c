"""The newest checkpoint in a file of its own: what left the database cannot be rolled back with it.

Beside it `checkpoints.jsonl` has every one that was ever kept, a line each.
"""

import json
import os
import secrets
from pathlib import Path
from typing import Final

from protocol.checkpoint import Checkpoint, read_checkpoint

HISTORY: Final = "checkpoints.jsonl"


def read_kept(path: Path) -> tuple[str, Checkpoint] | None:
    """The token and what it says; None where none was kept yet.

    Raises OSError, or ValueError where the file holds something else: that is not the same as none.
    """
    try:
        token = path.read_text("ascii").strip()
    except FileNotFoundError:
        return None
    checkpoint = read_checkpoint(token)
    if checkpoint is None:
        raise ValueError(f"{path} holds no checkpoint")
    return token, checkpoint


def keep(path: Path, token: str) -> bool:
    """Put it in the place of an older one, whole or not at all; False where a newer one is kept."""
    checkpoint = read_checkpoint(token)
    assert checkpoint is not None, "our own checkpoint"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    standing = read_kept(path)
    if standing is not None and standing[1].order >= checkpoint.order:
        return False
    line = {"epoch": checkpoint.epoch, "size": checkpoint.size, "jws": token}
    _append(path.with_name(HISTORY), json.dumps(line) + "\n")
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(descriptor, "w") as file:
        file.write(token + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True


def _append(path: Path, line: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode("ascii"))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
