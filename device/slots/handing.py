"""Takes a bundle out of the appliance's hands: what was checked is what RAUC is given.

The folder belongs to the unprivileged program, which may change a file there at any moment, also
one that is open. So its bytes are copied once to where only root writes; their SHA-256 is that of
the copy.
"""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from typing import Final

from device.slots.rauc import Fault
from device.slots.wire import NAME_PATTERN, Refusal, Refused
from device.updating.slots import Failure
from protocol.updates import BUNDLE_BYTES_MAX

COPY: Final = "bundle.raucb"
CHUNK: Final = 1024 * 1024
ROOM: Final = 128 * 1024 * 1024
"""Bytes that a copy leaves free: what is sold must always find room."""
_NAME: Final = re.compile(NAME_PATTERN)


def open_bundle(folder: Path, name: str, owners: AbstractSet[int]) -> int | Refused:
    """A descriptor of the bundle: a plain file with one name, of one of `owners`, right in the
    folder."""
    if not _NAME.fullmatch(name):
        return Refused(Refusal.NAME, "a bundle is named <SHA-256>.raucb, without a folder")
    try:
        at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            # NONBLOCK: a pipe of that name must not hold us.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(name, flags, dir_fd=at)
        finally:
            os.close(at)
    except OSError as error:
        return Refused(Refusal.NO_BUNDLE, error.strerror or "")
    said = os.fstat(descriptor)
    if not stat.S_ISREG(said.st_mode):
        why = "it is no plain file"
    elif said.st_nlink != 1:
        why = "it has another name elsewhere"
    elif said.st_uid not in owners:
        why = "it is somebody else's"
    elif not 0 < said.st_size <= BUNDLE_BYTES_MAX:
        why = f"{said.st_size} bytes are no bundle"
    else:
        return descriptor
    os.close(descriptor)
    return Refused(Refusal.NO_BUNDLE, why)


def copy(descriptor: int, sha256: str, hold: Path, room: int = ROOM) -> Path | Fault:
    """Its bytes, where only root writes, if they are those that were announced.

    Closes the descriptor; on a Fault nothing is left of the copy.
    """
    target = hold / COPY
    try:
        with os.fdopen(descriptor, "rb", buffering=0) as source:
            hold.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            size = os.fstat(source.fileno()).st_size
            free = _free(hold)
            if free < size + room:
                return Fault(Failure.SPACE, f"{free >> 20} MiB are free, {size >> 20} are needed")
            digest = _copy(source.fileno(), target, size)
    except OSError as error:
        with suppress(OSError):
            target.unlink(missing_ok=True)
        is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        failure = Failure.SPACE if is_full else Failure.OTHER
        return Fault(failure, f"it could not be copied: {error.strerror}")
    if digest != sha256:
        target.unlink(missing_ok=True)
        return Fault(Failure.CHANGED, "its SHA-256 is not the one that was announced")
    return target


def drop(hold: Path) -> None:
    """What an installation that was cut off left. Raises OSError."""
    (hold / COPY).unlink(missing_ok=True)


def _copy(source: int, target: Path, size: int) -> str:
    """No more than it was when it was looked at: one that grows meanwhile fills no disk."""
    digest = hashlib.sha256()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(target, flags, 0o600), "wb") as file:
        left = size
        while left > 0:
            chunk = os.read(source, min(CHUNK, left))
            if not chunk:
                break
            digest.update(chunk)
            file.write(chunk)
            left -= len(chunk)
    return digest.hexdigest()


def _free(folder: Path) -> int:
    said = os.statvfs(folder)
    return said.f_bavail * said.f_frsize
