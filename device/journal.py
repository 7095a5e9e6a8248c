"""The journal: numbered, chained, fsynced entries in SQLite; nothing in it ever changes."""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from device.till.contents import AskToCancel, AskToPostAgain
from device.till.entries import Entry, EpochBegan, decode, encode, key_of, kind_of
from device.till.resending import settled_sales
from device.till.standing import Standing
from protocol.encoding import to_base64url
from protocol.messages import JournalPosition

FILE_NAME: Final = "journal.db"
CHECKPOINT_ENTRIES: Final = 200
"""After so many entries the write-ahead log is folded into the file, between sales."""

_SCHEMA: Final = """
CREATE TABLE entries (
    epoch TEXT NOT NULL,
    number INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    body BLOB NOT NULL,
    head BLOB NOT NULL
) STRICT;
CREATE TABLE probe (at_ms INTEGER NOT NULL) STRICT;
INSERT INTO probe VALUES (0);
CREATE TRIGGER entries_stay BEFORE DELETE ON entries
    BEGIN SELECT RAISE(ABORT, 'journal entries stay'); END;
CREATE TRIGGER entries_never_change BEFORE UPDATE ON entries
    BEGIN SELECT RAISE(ABORT, 'journal entries never change'); END;
"""
_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
"""SQLITE_ERROR: our own statements are right, so a table is missing."""

CommitHook = Callable[[Literal["before", "after"], tuple[Entry, ...]], None]
"""Called around every commit: where a test cuts the power. The path is the same without one."""


class JournalFault(Exception):  # noqa: N818 -- the disk's fault, not an error in what was asked
    """The disk did not take it, or did not give it; named by SQLite's own error name."""


class _CorruptError(Exception):
    """The file is readable and wrong."""


@dataclass(frozen=True)
class Chain:
    """Where the entries stand and what they amount to."""

    epoch: str
    last: int
    head: bytes
    standing: Standing

    @classmethod
    def of(cls, epoch: str) -> "Chain":
        return cls(epoch, 0, hashlib.sha256(epoch.encode()).digest(), Standing())

    def after(self, entry: Entry, body: bytes) -> "Chain":
        number = self.last + 1
        head = hashlib.sha256(self.head + number.to_bytes(8, "big") + body).digest()
        return Chain(self.epoch, number, head, self.standing.after(number, entry))

    @property
    def position(self) -> JournalPosition:
        return JournalPosition(
            epoch=self.epoch,
            last=self.last,
            settled_below=self.standing.settled_below(self.last),
            head=to_base64url(self.head),
        )


class Journal:
    """One connection, owned by the thread that opened it."""

    def __init__(
        self,
        folder: Path,
        *,
        fresh_epoch: Callable[[], str],
        wall_ms: Callable[[], int],
        on_commit: CommitHook | None = None,
    ) -> None:
        self.path = folder / FILE_NAME
        self._fresh_epoch = fresh_epoch
        self._wall_ms = wall_ms
        self._on_commit = on_commit
        self._connection: sqlite3.Connection | None = None
        self._chain = Chain.of("not-opened-so-far")
        self._since_checkpoint = 0

    @property
    def standing(self) -> Standing:
        """What the entries amount to; while the journal is broken, as last known."""
        return self._chain.standing

    @property
    def position(self) -> JournalPosition:
        return self._chain.position

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def open(self) -> Standing:
        """Open and check every entry; a corrupt file is set aside and a new epoch begins.

        Raises JournalFault where the disk cannot be read or written.
        """
        self.close()
        after = ""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._open()
            except _CorruptError as corruption:
                self.close()
                after = f"{self._set_aside()}: {corruption}"
                self._open()
            if self._chain.last == 0:
                self._begin(after)
        except sqlite3.Error as error:
            self.close()
            raise JournalFault(_name(error)) from error
        except OSError as error:
            self.close()
            raise JournalFault(f"{type(error).__name__}: {error.strerror}") from error
        return self._chain.standing

    def append(self, *entries: Entry) -> None:
        """Write all of them in one fsynced commit, or none.

        Raises JournalFault; whether they are on the disk is then unknown until it is opened again.
        """
        connection = self._connection
        if connection is None:
            raise JournalFault("not open")
        chain = self._chain
        rows: list[tuple[str, int, str, str, bytes, bytes]] = []
        for entry in entries:
            body = encode(entry)
            chain = chain.after(entry, body)
            rows.append((chain.epoch, chain.last, kind_of(entry), key_of(entry), body, chain.head))
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", rows)
            if self._on_commit is not None:
                self._on_commit("before", entries)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self.close()
            raise JournalFault(_name(error)) from error
        self._chain = chain
        self._since_checkpoint += len(entries)
        if self._on_commit is not None:
            self._on_commit("after", entries)

    def number_of(self, key: str) -> int:
        """The number of an open sale's own entry; 0 where this journal no longer knows it."""
        sale = self.standing.sale(key)
        return 0 if sale is None else sale.number

    def recall(self, from_entry: int) -> tuple[AskToPostAgain | AskToCancel, ...]:
        """The decided sales that were opened at `from_entry` or later, as they are said again.

        Raises JournalFault.
        """
        if self._connection is None:
            raise JournalFault("not open")
        try:
            rows = _rows(self._connection, from_entry)
            return settled_sales((number, decode(body)) for _, number, _, body in rows)
        except sqlite3.Error as error:
            self.close()
            raise JournalFault(_name(error)) from error

    def rest(self) -> None:
        """Between sales: fold a long write-ahead log into the file, so that no sale pays for it.

        Raises JournalFault.
        """
        if self._connection is None or self._since_checkpoint < CHECKPOINT_ENTRIES:
            return
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            self.close()
            raise JournalFault(_name(error)) from error
        self._since_checkpoint = 0

    def close(self) -> None:
        if self._connection is not None:
            # What is committed is on the disk; a failing disk may also fail to close.
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _open(self) -> None:
        connection = sqlite3.connect(self.path, isolation_level=None)
        self._connection = connection
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchall()
            # FULL: with NORMAL a power cut loses commits on an SD card (docs/facts.md).
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA wal_autocheckpoint=0")
            if connection.execute("PRAGMA user_version").fetchone() == (0,):
                connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version=1;COMMIT;")
                _fsync_folder(self.path.parent)
            self._chain = _read(connection)
            # A disk that is full or read-only must be known before a customer stands there.
            connection.execute("UPDATE probe SET at_ms = ?", (self._wall_ms(),))
        except sqlite3.DatabaseError as error:
            if _is_corrupt(error):
                raise _CorruptError(_name(error)) from error
            raise

    def _begin(self, after: str) -> None:
        epoch = self._fresh_epoch()
        self._chain = Chain.of(epoch)
        began = EpochBegan(epoch, self._wall_ms(), after)
        self.append(began)

    def _set_aside(self) -> str:
        """Rename the file, its log and its index; returns the new name."""
        numbers = (number for number in range(1, 10_000))
        aside = next(
            path
            for path in (self.path.with_name(f"journal-set-aside-{n}.db") for n in numbers)
            if not path.exists()
        )
        for suffix in ("-wal", "-shm", ""):
            old = self.path.with_name(self.path.name + suffix)
            if old.exists():
                old.replace(aside.with_name(aside.name + suffix))
        _fsync_folder(self.path.parent)
        return aside.name


def look_at(folder: Path) -> Chain | None:
    """What another process's journal says, read only; None where there is none.

    Raises JournalFault where it cannot be read.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        ) as connection:
            return _read(connection)
    except sqlite3.Error as error:
        raise JournalFault(_name(error)) from error
    except _CorruptError as corruption:
        raise JournalFault(str(corruption)) from corruption


def _read(connection: sqlite3.Connection) -> Chain:
    """Every entry, checked. Raises _CorruptError where one is missing, changed or unknown."""
    if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise _CorruptError("quick_check")
    chain: Chain | None = None
    for epoch, number, head, body in _rows(connection):
        chain = Chain.of(epoch) if chain is None else chain
        try:
            chain = chain.after(decode(body), body)
        except msgspec.DecodeError as error:
            raise _CorruptError(f"entry {number} is unreadable") from error
        if (epoch, number, head) != (chain.epoch, chain.last, chain.head):
            raise _CorruptError(f"entry {number} does not follow")
    return chain or Chain.of("not-opened-so-far")


def _rows(
    connection: sqlite3.Connection, from_entry: int = 0
) -> Iterator[tuple[str, int, bytes, bytes]]:
    yield from connection.execute(
        "SELECT epoch, number, head, body FROM entries WHERE number >= ? ORDER BY number",
        (from_entry,),
    )


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_corrupt(error: sqlite3.Error) -> bool:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _CORRUPT


def _name(error: sqlite3.Error) -> str:
    name: str | None = getattr(error, "sqlite_errorname", None)
    return name or type(error).__name__
