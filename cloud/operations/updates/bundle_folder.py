"""Bundles on disk, each named by its SHA-256: part by part into a draft, whole or not at all."""

import errno
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloud.operations.refusals import Code, Refusal
from protocol.updates import SHA256_PATTERN

PART_BYTES_MAX: Final = 1024 * 1024
DRAFTS_KEPT_S: Final = 7 * 24 * 3600
"""An upload that nobody has gone on with for so long is begun anew."""
_READ_BYTES: Final = 1024 * 1024
_NAME: Final = re.compile(SHA256_PATTERN)
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Received:
    """How much of a bundle is here."""

    size: int
    is_whole: bool
    """It is as its name says, and can be released."""


class BundleFolder:
    """Several processes and machines may share the folder; a lock on the draft orders writers."""

    def __init__(self, folder: Path, bundle_bytes_max: int) -> None:
        self._folder: Final = folder
        self._bundle_bytes_max: Final = bundle_bytes_max

    def find(self, sha256: str) -> Path | None:
        """The whole bundle's file."""
        path = self._whole(sha256)
        return path if path.is_file() else None

    def received(self, sha256: str) -> Received:
        for path, is_whole in ((self._whole(sha256), True), (self._draft(sha256), False)):
            try:
                return Received(path.stat().st_size, is_whole)
            except FileNotFoundError:
                continue
        return Received(0, is_whole=False)

    def take_part(self, sha256: str, offset: int, part: bytes) -> Received | Refusal:
        """The next part; one that is here already is taken again, and changes nothing."""
        if offset + len(part) > self._bundle_bytes_max:
            return Refusal(
                Code.BUNDLE_TOO_LARGE,
                f"A bundle has at most {self._bundle_bytes_max} bytes here.",
                "Release a smaller one; or raise bundle_megabytes_max under [updates].",
            )
        if offset == 0:
            self._forget_old_drafts()
        with self._locked_draft(sha256) as draft:
            here = self.received(sha256)
            size = here.size if here.is_whole or draft is None else os.fstat(draft).st_size
            if offset + len(part) <= size:
                return Received(size, here.is_whole)
            if offset != size or draft is None:
                return Refusal(
                    Code.BUNDLE_PART_MISPLACED,
                    f"{size} bytes of the bundle are here; this part begins at {offset}.",
                    f"Go on with the part that begins at {size}.",
                )
            refusal = _append(draft, size, part)
            return refusal or Received(size + len(part), is_whole=False)

    def finish(self, sha256: str, size: int) -> Refusal | None:
        """All `size` bytes are here: compare them with the name. A draft that differs is deleted,
        since nobody knows which part of it is wrong."""
        with self._locked_draft(sha256) as draft:
            here = self.received(sha256)
            if here.is_whole:
                return None
            if here.size < size or draft is None:
                return Refusal(
                    Code.BUNDLE_PART_MISPLACED,
                    f"{here.size} of the bundle's {size} bytes are here.",
                    f"Go on with the part that begins at {here.size}.",
                )
            if here.size != size or _sha256_of(draft) != sha256:
                self._draft(sha256).unlink(missing_ok=True)
                return Refusal(
                    Code.BUNDLE_DAMAGED,
                    "What arrived is not the bundle that it is named as; it was deleted.",
                    "Send it again from its beginning.",
                )
            os.fsync(draft)
            self._draft(sha256).replace(self._whole(sha256))
            _sync_folder(self._folder)
        return None

    @contextmanager
    def _locked_draft(self, sha256: str) -> Generator[int | None]:
        """Open for writing, by nobody else; None once the bundle is whole."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        while self.find(sha256) is None:
            draft = os.open(
                self._draft(sha256), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            try:
                fcntl.flock(draft, fcntl.LOCK_EX)
                # Whoever had the lock may have finished it, or deleted it, meanwhile.
                if _is_at(self._draft(sha256), draft):
                    yield draft
                    return
            finally:
                os.close(draft)
        yield None

    def _whole(self, sha256: str) -> Path:
        assert _NAME.fullmatch(sha256), "no name of a bundle"
        return self._folder / f"{sha256}.raucb"

    def _draft(self, sha256: str) -> Path:
        assert _NAME.fullmatch(sha256), "no name of a bundle"
        return self._folder / f".{sha256}.part"

    def _forget_old_drafts(self) -> None:
        oldest = time.time() - DRAFTS_KEPT_S  # noqa: TID251  # of files: their times are the disk's
        for draft in self._folder.glob(".*.part"):
            # Another upload may end meanwhile, and take its draft away.
            with suppress(FileNotFoundError):
                if draft.stat().st_mtime < oldest:
                    draft.unlink()


def _append(draft: int, size: int, part: bytes) -> Refusal | None:
    written = 0
    try:
        while written < len(part):
            written += os.pwrite(draft, part[written:], size + written)
    except OSError as error:
        os.ftruncate(draft, size)
        if error.errno not in _FULL:
            raise
        return Refusal(
            Code.STORAGE_FULL,
            "There is no room for the bundle on the server.",
            "Make room in the folder of [updates], then send the same again: it goes on.",
        )
    return None


def _sha256_of(draft: int) -> str:
    digest, at = hashlib.sha256(), 0
    while chunk := os.pread(draft, _READ_BYTES, at):
        digest.update(chunk)
        at += len(chunk)
    return digest.hexdigest()


def _is_at(path: Path, opened: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(opened))
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
