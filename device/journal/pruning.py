"""Old entries leave a journal: settled, older than any backup, a few at a time, between sales."""

import sqlite3
from typing import Final

from device.journal.chain import Chain, base_row, rows
from device.journal.retention import DAY_MS, Retention

STEP_ENTRIES: Final = 200
"""So many are read, and so many deleted, in one go."""
LOOK_AGAIN_MS: Final = 3600 * 1000


class Pruner:
    """One step a call. Only the cloud's time counts: an appliance's own clock may be years behind
    after a boot, and what was written then would look old.

    A mark says "when the cloud's time was T, entry N was the newest": so all up to N are older.
    The base moves in one transaction, and from then on counts; rows below it are swept after.
    """

    def __init__(self, retention: Retention, base: Chain) -> None:
        self.base = base
        self._retention = retention
        self._read = base
        """How far the search for the next base has come."""
        self._found: Chain | None = None
        """The next base, not written so far."""
        self._idle_until_ms = 0

    def step(self, connection: sqlite3.Connection, chain: Chain, cloud_ms: int) -> int:
        """How many rows were written or deleted. Raises sqlite3.Error; then all is as before."""
        if cloud_ms < self._idle_until_ms:
            return 0
        # Set first: what fails is not tried again at once.
        self._idle_until_ms = cloud_ms + LOOK_AGAIN_MS
        changed = self._mark(connection, chain, cloud_ms) + self._sweep(connection)
        limit = self._limit(connection, cloud_ms)
        is_done = self._find_next_base(connection, limit)
        if self._found is not None:
            changed += self._move(connection, self._found)
        if changed or not is_done:
            self._idle_until_ms = 0
        return changed

    def _mark(self, connection: sqlite3.Connection, chain: Chain, cloud_ms: int) -> int:
        """Once a day."""
        newest = connection.execute("SELECT number, at_ms FROM marks ORDER BY number DESC LIMIT 1")
        number, at_ms = newest.fetchone() or (self.base.last, 0)
        if chain.last <= number or cloud_ms < at_ms + DAY_MS:
            return 0
        connection.execute(
            "INSERT INTO marks (number, at_ms) VALUES (?, ?)", (chain.last, cloud_ms)
        )
        return 1

    def _sweep(self, connection: sqlite3.Connection) -> int:
        return connection.execute(
            "DELETE FROM entries WHERE number IN"
            " (SELECT number FROM entries WHERE number <= ? ORDER BY number LIMIT ?)",
            (self.base.last, STEP_ENTRIES),
        ).rowcount

    def _limit(self, connection: sqlite3.Connection, cloud_ms: int) -> int:
        """The newest entry that is old enough to go."""
        sizes = [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        ]
        size_bytes = (sizes[0] - sizes[1]) * sizes[2]
        oldest_ms = cloud_ms - self._retention.age_min_ms(size_bytes)
        query = "SELECT max(number) FROM marks WHERE at_ms <= ?"
        (number,) = connection.execute(query, (oldest_ms,)).fetchone()
        return number or 0

    def _find_next_base(self, connection: sqlite3.Connection, limit: int) -> bool:
        """Read on towards the newest place where everything before was settled; whether this is
        the end of it.

        Never within a sale, a spell or a refund: what belongs together goes together, so that a
        cloud that is restored can be told all of it.
        """
        room = min(limit - self._read.last, STEP_ENTRIES)
        if room <= 0:
            return True
        for epoch, number, head, body in rows(connection, self._read.last + 1, room):
            self._read = self._read.after_row(epoch, number, head, body)
            if self._read.is_settled:
                self._found = self._read
        return self._read.last >= limit

    def _move(self, connection: sqlite3.Connection, base: Chain) -> int:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "INSERT INTO base (one, epoch, number, head, standing, checksum)"
            " VALUES (1, ?, ?, ?, ?, ?) ON CONFLICT (one) DO UPDATE SET"
            " epoch = excluded.epoch, number = excluded.number, head = excluded.head,"
            " standing = excluded.standing, checksum = excluded.checksum",
            base_row(base),
        )
        connection.execute("DELETE FROM marks WHERE number <= ?", (base.last,))
        connection.execute("COMMIT")
        self.base = base
        self._found = None
        return 1
