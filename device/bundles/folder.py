"""The folder of bundles: each named after its SHA-256, half of one under a name of its own."""

import os
import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device.durable import fsync
from device.updating.facts import Bundle
from protocol.updates import Update

FOLDER: Final = "update"
_OURS: Final = re.compile(r"([0-9a-f]{64})\.(part|raucb)")


@dataclass(frozen=True)
class BundleFolder:
    """Under the appliance's state; nothing else in that state is touched from here."""

    state: Path

    @property
    def path(self) -> Path:
        return self.state / FOLDER

    def whole(self, sha256: str) -> Path:
        """There only once every byte was found right."""
        return self.path / f"{sha256}.raucb"

    def part(self, sha256: str) -> Path:
        return self.path / f"{sha256}.part"

    def look(self, update: Update | None) -> Bundle:
        """What there is of it."""
        if update is None:
            return Bundle()
        try:
            if self.whole(update.sha256).stat().st_size == update.size:
                return Bundle(update.size, is_whole=True)
        except OSError:
            pass
        return Bundle(self.bytes_of_part(update.sha256))

    def bytes_of_part(self, sha256: str) -> int:
        try:
            return self.part(sha256).stat().st_size
        except OSError:
            return 0

    def free_bytes(self) -> int:
        """What an unprivileged program may still write; 0 where that cannot be known."""
        try:
            said = os.statvfs(self.state)
        except OSError:
            return 0
        return said.f_bavail * said.f_frsize

    def open_part(self, sha256: str) -> int:
        """A descriptor to write by. Raises OSError."""
        self.path.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self.part(sha256), flags, 0o600)

    def call_whole(self, sha256: str) -> None:
        """It is flushed, and was found right. Raises OSError."""
        self.part(sha256).replace(self.whole(sha256))
        fsync(self.path)

    def drop(self, sha256: str) -> None:
        """Raises OSError."""
        self.part(sha256).unlink(missing_ok=True)
        self.whole(sha256).unlink(missing_ok=True)

    def keep_only(self, wanted: AbstractSet[str]) -> int:
        """Let all other bundles go; how many. Raises OSError."""
        if not self.path.is_dir():
            return 0
        needless = [
            path
            for path in self.path.iterdir()
            if (found := _OURS.fullmatch(path.name)) is not None and found[1] not in wanted
        ]
        for path in needless:
            path.unlink(missing_ok=True)
        return len(needless)
