"""The built-in card provider's own books, as a real one has them: one file, not the cloud's."""

import sqlite3
import threading
import weakref
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_BUSY_TIMEOUT_MS: Final = 15_000
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS checkouts (
    reference TEXT PRIMARY KEY,
    payment_id TEXT NOT NULL UNIQUE,
    address TEXT NOT NULL UNIQUE,
    amount_in_cents INTEGER NOT NULL CHECK (amount_in_cents > 0),
    currency TEXT NOT NULL,
    return_url TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'paid', 'expired')),
    -- How refunds to the card that paid go; the card's number is kept nowhere.
    refunds_go TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS refunds (
    name TEXT PRIMARY KEY,
    -- The merchant's key; none: made by hand, in the dashboard.
    refund_id TEXT UNIQUE,
    reference TEXT NOT NULL REFERENCES checkouts (reference),
    amount_in_cents INTEGER NOT NULL CHECK (amount_in_cents > 0),
    state TEXT NOT NULL CHECK (state IN ('pending', 'done', 'failed'))
) STRICT;
CREATE TABLE IF NOT EXISTS disputes (
    name TEXT PRIMARY KEY,
    reference TEXT NOT NULL REFERENCES checkouts (reference),
    amount_in_cents INTEGER NOT NULL CHECK (amount_in_cents > 0),
    state TEXT NOT NULL CHECK (state IN ('open', 'won'))
) STRICT;
CREATE TABLE IF NOT EXISTS events (
    event_id TEXT PRIMARY KEY,
    body BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('untold', 'told', 'given_up'))
) STRICT;
CREATE INDEX IF NOT EXISTS events_untold ON events (state) WHERE state = 'untold';
"""


class Books:
    """One connection, one deed at a time; several processes may share the file."""

    def __init__(self, path: Path | None) -> None:
        """`path` None: in memory, for as long as this object lives."""
        if path is not None:
            path.touch(mode=0o600)
        self._connection = sqlite3.connect(
            ":memory:" if path is None else path, check_same_thread=False, isolation_level=None
        )
        self._connection.row_factory = sqlite3.Row
        self._connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._connection.executescript(_TABLES)
        self._lock = threading.Lock()
        weakref.finalize(self, self._connection.close)

    @contextmanager
    def deed(self) -> Generator[sqlite3.Connection]:
        """All of it or nothing, and on the disk when the block ends."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
