"""Files that are either the old ones or the new ones, whenever the power goes."""

import os
import pwd
import shutil
import tempfile
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o600
PUBLIC: Final = 0o644


def write_atomically(
    path: Path, content: bytes, mode: int = PUBLIC, owner: str | None = None
) -> None:
    """Put `content` at `path` by fsync and rename, user `owner`'s where one is named.

    Raises OSError; the file at `path` is then the old one, untouched.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        if owner is not None:
            # The group as well: mosquitto 2.1 warns of another's.
            shutil.chown(draft, user=owner, group=pwd.getpwnam(owner).pw_gid)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Make the renames inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
