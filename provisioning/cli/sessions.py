"""Where railtix-ops keeps who is signed in: a private file, one session for each cloud."""

import os
import stat
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from provisioning.cli.speaking import refuse
from provisioning.files import PRIVATE, write_atomically

_FILE: Final = "ops-sessions.json"
_OTHERS: Final = 0o077


class Session(msgspec.Struct, frozen=True):
    """A console session as the cloud gave it: good until it ends there."""

    user_name: str
    bearer: str
    expires_at: datetime
    ca: str | None = None
    """The authorities that vouch for this cloud; None: those of the system."""

    def __repr__(self) -> str:
        return f"Session({self.user_name!r}, until {self.expires_at})"


class _Kept(msgspec.Struct, frozen=True):
    current: str | None = None
    """The cloud that was signed in to last."""
    sessions: dict[str, Session] = {}


@dataclass(frozen=True, slots=True)
class Sessions:
    """The file's content; each change writes it anew."""

    path: Path
    current: str | None
    by_url: dict[str, Session] = field(repr=False)

    @classmethod
    def read(cls) -> "Sessions":
        """Ends the command where the file is another's to read, or is damaged."""
        path = _folder() / _FILE
        try:
            held = stat.S_IMODE(path.stat().st_mode)
            content = path.read_bytes()
        except FileNotFoundError:
            return cls(path, None, {})
        if held & _OTHERS:
            refuse(f"others may read {path}, where sessions are kept: chmod 600 it")
        try:
            kept = msgspec.json.decode(content, type=_Kept)
        except msgspec.DecodeError:
            refuse(f"{path} cannot be read: remove it, and sign in again")
        return cls(path, kept.current, kept.sessions)

    def of(self, url: str) -> Session | None:
        return self.by_url.get(url)

    def keep(self, url: str, session: Session) -> None:
        """Raises OSError."""
        self._write(replace(self, current=url, by_url=self.by_url | {url: session}))

    def forget(self, url: str) -> None:
        """Raises OSError."""
        left = {other: session for other, session in self.by_url.items() if other != url}
        current = None if self.current == url else self.current
        self._write(replace(self, current=current, by_url=left))

    def _write(self, after: "Sessions") -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = msgspec.json.encode(_Kept(after.current, after.by_url))
        write_atomically(self.path, msgspec.json.format(content, indent=2) + b"\n", PRIVATE)


def _folder() -> Path:
    """The XDG base directory specification: relative paths there do not count."""
    named = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(named) if named.startswith("/") else Path.home() / ".config"
    return base / "railtix"
