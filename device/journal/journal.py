"""The journal: numbered, chained, fsynced entries in SQLite; nothing in it ever changes."""

import os
import sqlite3
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, Literal

import structlog

from device.journal.chain import (
    FILE_NAME,
    NOTHING,
    Chain,
    CorruptError,
    LaterSchemaError,
    is_later,
    read,
    rows,
    upgrade_script,
    version_of,
)
from device.journal.pruning import Pruner
from device.journal.retention import Retention
from device.journal.salvage import files_set_aside, forget_needless, name_to_set_aside, salvage
from device.till.contents import SaidAgain
from device.till.entries import Entry, EpochBegan, decode, encode, key_of, kind_of
from device.till.later_entries import decode_later
from device.till.resending import settled_sales
from device.till.standing import Standing
from protocol.messages import JournalPosition

CHECKPOINT_ENTRIES: Final = 200
"""After so many entries the write-ahead log is folded into the file, between sales."""

BUSY_TIMEOUT_MS: Final = 5000
"""While a log that a power cut left is recovered by somebody who looks."""

_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
"""SQLITE_ERROR: our own statements are right, so a table is missing."""

_INSERT: Final = (
    "INSERT INTO entries (epoch, number, kind, key, body, head) VALUES (?, ?, ?, ?, ?, ?)"
)
"""By name: a later release may have added columns."""

CommitHook = Callable[[Literal["before", "after"], tuple[Entry, ...]], None]
"""Called around every commit: where a test cuts the power. The path is the same without one."""

_log = structlog.get_logger(__name__)


class JournalFault(Exception):  # noqa: N818 -- the disk's fault, not an error in what was asked
    """The disk did not take it, or did not give it; named by SQLite's own error name."""


class LaterJournal(JournalFault):
    """Written by a release that came after this one: nothing is wrong with the disk."""


class Journal:
    """One connection, owned by the thread that opened it."""

    def __init__(
        self,
        folder: Path,
        *,
        fresh_epoch: Callable[[], str],
        wall_ms: Callable[[], int],
        on_commit: CommitHook | None = None,
        retention: Retention | None = None,
    ) -> None:
        self.path = folder / FILE_NAME
        self._fresh_epoch = fresh_epoch
        self._wall_ms = wall_ms
        self._on_commit = on_commit
        self._connection: sqlite3.Connection | None = None
        self._retention = retention or Retention()
        self._chain = NOTHING
        self._pruner = Pruner(self._retention, NOTHING)
        self._since_checkpoint = 0
        self._is_later = False
        """The file is of a later release, which was taken back: this one appends, and no more."""

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
        """Open and check every entry; a corrupt file is set aside and a new epoch begins with what
        the cloud was promised in the old one.

        Raises JournalFault where the disk cannot be read or written.
        """
        self.close()
        after = ""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._open()
            except CorruptError as corruption:
                self.close()
                after = f"{self._set_aside()}: {corruption}"
                self._open()
            if self._chain.last == 0:
                self._begin(after)
        except sqlite3.Error as error:
            self.close()
            raise JournalFault(_name(error)) from error
        except LaterSchemaError as error:
            self.close()
            raise LaterJournal(str(error)) from error
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
        new: list[tuple[str, int, str, str, bytes, bytes]] = []
        for entry in entries:
            body = encode(entry)
            chain = chain.after(entry, body)
            new.append((chain.epoch, chain.last, kind_of(entry), key_of(entry), body, chain.head))
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_INSERT, new)
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
        """The number of an open sale's or refund's own entry; 0 where none is open under it."""
        return self.standing.number_of(key)

    def recall(self, from_entry: int) -> tuple[SaidAgain, ...]:
        """The decided sales that were opened at `from_entry` or later, as they are said again.

        Raises JournalFault.
        """
        if self._connection is None:
            raise JournalFault("not open")
        try:
            # What is left below the base is neither checked nor whole any more.
            kept = rows(self._connection, max(from_entry, self._pruner.base.last + 1))
            read_one = decode_later if self._is_later else decode
            entries = ((number, read_one(body)) for _, number, _, body in kept)
            return settled_sales((number, each) for number, each in entries if each is not None)
        except sqlite3.Error as error:
            self.close()
            raise JournalFault(_name(error)) from error

    def rest(self, cloud_ms: int | None = None) -> None:
        """Between sales: fold a long write-ahead log into the file, so that no sale pays for it,
        and let a few old entries go.

        `cloud_ms`: the cloud's time, where it is known; without it nothing is known to be old.
        Raises JournalFault.
        """
        if self._connection is None:
            return
        try:
            if self._since_checkpoint >= CHECKPOINT_ENTRIES:
                # Whoever looks at the journal (`railtix-pos status`) holds it for seconds: the till
                # never waits for them, and the next time will do.
                self._connection.execute("PRAGMA busy_timeout=0")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                self._connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
                self._since_checkpoint = 0
            if cloud_ms is not None and not self._is_later:
                # What may go of a later release's journal only that release can tell.
                self._prune(self._connection, cloud_ms)
        except (sqlite3.Error, CorruptError) as error:
            self.close()
            raise JournalFault(_name(error)) from error

    def _prune(self, connection: sqlite3.Connection, cloud_ms: int) -> None:
        try:
            self._since_checkpoint += self._pruner.step(connection, self._chain, cloud_ms)
        except sqlite3.Error as error:
            if not _is(error, {sqlite3.SQLITE_FULL}):
                raise
            # Nothing was lost, and nothing of a sale depends on it: the next sale finds out.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            _log.warning("journal_not_pruned", fault=_name(error))

    def close(self) -> None:
        if self._connection is not None:
            # What is committed is on the disk; a failing disk may also fail to close.
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _open(self) -> None:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None
        )
        self._connection = connection
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchall()
            # FULL: with NORMAL a power cut loses commits on an SD card (docs/facts.md).
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA wal_autocheckpoint=0")
            self._is_later = is_later(connection)
            upgrade = upgrade_script(version_of(connection))
            if upgrade is not None:
                connection.executescript(upgrade)
                _fsync_folder(self.path.parent)
            base, self._chain = read(connection)
            self._pruner = Pruner(self._retention, base)
            # A disk that is full or read-only must be known before a customer stands there.
            connection.execute("UPDATE probe SET at_ms = ?", (self._wall_ms(),))
        except sqlite3.DatabaseError as error:
            if _is(error, _CORRUPT):
                raise CorruptError(_name(error)) from error
            raise

    def _begin(self, after: str) -> None:
        """The first entries of an epoch: also what the files set aside have promised the cloud.

        All of them, each time: the power may have gone between setting aside and beginning.
        """
        epoch = self._fresh_epoch()
        aside = files_set_aside(self.path.parent)
        saved = salvage(aside)
        if aside:
            after = f"{after or 'no file'}; {saved}"
        self._chain = Chain.of(epoch)
        self._pruner = Pruner(self._retention, self._chain)
        self.append(EpochBegan(epoch, self._wall_ms(), after), *saved.entries)
        forget_needless(aside, saved)

    def _set_aside(self) -> str:
        """Rename the file, its log and its index; returns the new name."""
        aside = name_to_set_aside(self.path.parent)
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
            return read(connection)[1]
    except sqlite3.Error as error:
        raise JournalFault(_name(error)) from error
    except LaterSchemaError as later:
        raise LaterJournal(str(later)) from later
    except CorruptError as corruption:
        raise JournalFault(str(corruption)) from corruption


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is(error: sqlite3.Error, codes: AbstractSet[int]) -> bool:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in codes


def _name(error: Exception) -> str:
    name: str | None = getattr(error, "sqlite_errorname", None)
    return name or str(error) or type(error).__name__
