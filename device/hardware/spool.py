"""Slips that wait for the printer, a file each: kept over a restart, seen and dropped by hand.

A slip is on the disk before the till goes on, which then writes that its light was seen: so after a
power cut a green that nobody is asked about has its receipt, on paper or here. That it was printed
is not flushed: one that is on paper may come again, as a copy. A file that is damaged all the same
is removed.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Final, Literal, assert_never

import msgspec
import structlog

from device.durable import fsync, keep
from device.hardware.letters import printable
from device.till.receipt import Columns, Line, Qr, Rule, Slip, SlipKind, Text, words_of

FOLDER: Final = "slips"
SUFFIX: Final = ".slip"
FILE_MAX: Final = 64 * 1024
"""Bytes: far more than any slip."""

_log = structlog.get_logger(__name__)


class _Text(msgspec.Struct, frozen=True, tag="text", forbid_unknown_fields=True):
    text: str
    bold: bool = False
    large: bool = False
    centred: bool = False


class _Columns(msgspec.Struct, frozen=True, tag="columns", forbid_unknown_fields=True):
    left: str
    right: str
    bold: bool = False


class _Rule(msgspec.Struct, frozen=True, tag="rule", forbid_unknown_fields=True):
    pass


class _Qr(msgspec.Struct, frozen=True, tag="qr", forbid_unknown_fields=True):
    content: str
    caption: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    kind: SlipKind
    lines: tuple[_Text | _Columns | _Rule | _Qr, ...]


@dataclass(frozen=True)
class Waiting:
    """A slip in the folder."""

    path: Path
    slip: Slip
    since: float
    """When it was put there, in seconds since 1970 by the appliance's clock."""


class Spool:
    """The folder of one appliance. Its files are numbered in the order of the slips.

    Any thread may put one.
    """

    def __init__(self, state: Path) -> None:
        self.folder = folder_of(state)
        with suppress(OSError):
            self._make_folder()
            for draft in self.folder.glob(f".*{SUFFIX}.new"):
                draft.unlink()
        self._left = _files(self.folder)
        self._next = 1 + max(map(_number, self._left), default=0)
        self._lock = Lock()
        self._is_refused = False

    def put(self, slip: Slip) -> Path | None:
        """Write one, and flush it; None where the disk refuses, and it waits in memory alone."""
        with self._lock:
            path = self.folder / f"{self._next:08d}{SUFFIX}"
            try:
                self._make_folder()
                keep(path, _encode(slip))
            except OSError as fault:
                if not self._is_refused:
                    _log.warning("slip_not_kept", reason=fault.strerror)
                self._is_refused = True
                return None
            self._is_refused = False
            self._next += 1
            return path

    def _make_folder(self) -> None:
        """At the start, so that a sale need not; and where somebody removed it since."""
        if not self.folder.is_dir():
            self.folder.mkdir(mode=0o700, parents=True)
            fsync(self.folder.parent)

    def left(self) -> tuple[Waiting, ...]:
        """What the last run left, oldest first; what cannot be read is removed."""
        found: list[Waiting] = []
        for path in self._left:
            slip = _read(path)
            if slip is None:
                _log.warning("slip_damaged", file=path.name)
                drop(path)
            else:
                found.append(slip)
        return tuple(found)


def folder_of(state: Path) -> Path:
    return state / FOLDER


def look(state: Path) -> tuple[Waiting, ...]:
    """The slips that wait, oldest first; reads only, also while the appliance runs."""
    read = (_read(path) for path in _files(folder_of(state)))
    return tuple(each for each in read if each is not None)


def drop(path: Path) -> bool:
    """Whether it was there to be dropped. The printer's thread notices that it is gone."""
    try:
        path.unlink()
    except OSError:
        return False
    return True


def is_gone(path: Path) -> bool:
    """Whether it was dropped; a disk that does not say so is believed to have it still."""
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def spell(waiting: Waiting) -> str:
    """A slip for a terminal: when it came, what it is worth late, and its words."""
    at = datetime.fromtimestamp(waiting.since, UTC)
    words = " | ".join(
        printable("  ".join(words_of(line))) for line in waiting.slip.lines if words_of(line)
    )
    return f"{waiting.path.stem}  {at:%Y-%m-%d %H:%M:%S} UTC  {waiting.slip.kind}  {words}"


def _files(folder: Path) -> list[Path]:
    try:
        paths = [path for path in folder.iterdir() if path.suffix == SUFFIX]
    except OSError:
        return []
    return sorted(paths, key=lambda path: (_number(path), path.name))


def _number(path: Path) -> int:
    return int(path.stem) if path.stem.isascii() and path.stem.isdecimal() else 0


def _read(path: Path) -> Waiting | None:
    try:
        with path.open("rb") as file:
            encoded = file.read(FILE_MAX + 1)
            since = os.fstat(file.fileno()).st_mtime
        if len(encoded) > FILE_MAX:
            return None
        return Waiting(path, _decode(encoded), since)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _encode(slip: Slip) -> bytes:
    lines = tuple(_file_line(line) for line in slip.lines)
    return msgspec.json.encode(_File(1, slip.kind, lines))


def _decode(encoded: bytes) -> Slip:
    file = msgspec.json.decode(encoded, type=_File)
    return Slip(tuple(_slip_line(line) for line in file.lines), file.kind)


def _file_line(line: Line) -> _Text | _Columns | _Rule | _Qr:
    match line:
        case Text(text, bold, large, centred):
            return _Text(text, bold, large, centred)
        case Columns(left, right, bold):
            return _Columns(left, right, bold)
        case Rule():
            return _Rule()
        case Qr(content, caption):
            return _Qr(content, caption)
        case _:
            assert_never(line)


def _slip_line(line: _Text | _Columns | _Rule | _Qr) -> Line:
    match line:
        case _Text():
            return Text(line.text, line.bold, line.large, line.centred)
        case _Columns():
            return Columns(line.left, line.right, line.bold)
        case _Rule():
            return Rule()
        case _Qr():
            return Qr(line.content, line.caption)
        case _:
            assert_never(line)
