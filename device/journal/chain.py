"""What a journal file holds: numbered, chained entries above a base; read and checked."""

import hashlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from device.till.entries import Entry, decode
from device.till.later_entries import decode_known, decode_later
from device.till.standing import Standing
from protocol.encoding import to_base64url
from protocol.messages import JournalPosition

FILE_NAME: Final = "journal.db"
SCHEMA_VERSION: Final = 2

FIRST_SCHEMA: Final = """
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
_SECOND_SCHEMA: Final = """
CREATE TABLE base (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    epoch TEXT NOT NULL,
    number INTEGER NOT NULL,
    head BLOB NOT NULL,
    standing BLOB NOT NULL,
    checksum BLOB NOT NULL
) STRICT;
CREATE TABLE marks (number INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL) STRICT;
DROP TRIGGER entries_stay;
CREATE TRIGGER entries_stay BEFORE DELETE ON entries
    WHEN OLD.number > coalesce((SELECT number FROM base), 0)
    BEGIN SELECT RAISE(ABORT, 'journal entries stay'); END;
CREATE TRIGGER a_base_is_an_entry BEFORE INSERT ON base
    WHEN NOT EXISTS (
        SELECT 1 FROM entries
        WHERE epoch = NEW.epoch AND number = NEW.number AND head = NEW.head
    )
    BEGIN SELECT RAISE(ABORT, 'a base is an entry of this journal'); END;
CREATE TRIGGER a_base_only_rises BEFORE UPDATE ON base
    WHEN NEW.number <= OLD.number OR NEW.epoch <> OLD.epoch
    BEGIN SELECT RAISE(ABORT, 'a base only rises'); END;
CREATE TRIGGER a_base_stays BEFORE DELETE ON base
    BEGIN SELECT RAISE(ABORT, 'a base stays'); END;
"""
_UPGRADES: Final = (FIRST_SCHEMA, _SECOND_SCHEMA)

_READABLE: Final = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'readable'"
"""A later release that this one can go on from makes a table `readable (since INTEGER)`: the
oldest schema whose program may read and append. It never takes back what is in `entries`, `base`
and `marks`; what it adds has defaults. Each release promises that to the one before it."""

_STANDING: Final = msgspec.json.Decoder(Standing)
_ENCODER: Final = msgspec.json.Encoder()


class CorruptError(Exception):
    """The file is readable and wrong."""


class LaterSchemaError(Exception):
    """The file is of a release that came after this one: not ours to judge, nor to write to."""


@dataclass(frozen=True)
class Chain:
    """Where the entries stand and what they amount to."""

    epoch: str
    last: int
    head: bytes
    standing: Standing
    passed_over: int = 0
    """Entries of kinds that only a later release knows."""

    @classmethod
    def of(cls, epoch: str) -> "Chain":
        return cls(epoch, 0, hashlib.sha256(epoch.encode()).digest(), Standing())

    def after(self, entry: Entry, body: bytes) -> "Chain":
        number = self.last + 1
        head = hashlib.sha256(self.head + number.to_bytes(8, "big") + body).digest()
        standing = self.standing.after(number, entry)
        return Chain(self.epoch, number, head, standing, self.passed_over)

    def after_stranger(self, body: bytes) -> "Chain":
        """What a later release wrote of a kind that is not known here: it changes nothing."""
        number = self.last + 1
        head = hashlib.sha256(self.head + number.to_bytes(8, "big") + body).digest()
        return Chain(self.epoch, number, head, self.standing, self.passed_over + 1)

    def after_row(
        self, epoch: str, number: int, head: bytes, body: bytes, *, is_later: bool = False
    ) -> "Chain":
        """Raises CorruptError where the row is unreadable, or is not the next one."""
        try:
            entry = decode_later(body) if is_later else decode(body)
            chain = self.after_stranger(body) if entry is None else self.after(entry, body)
        except msgspec.DecodeError as error:
            raise CorruptError(f"entry {number} is unreadable") from error
        if (epoch, number, head) != (chain.epoch, chain.last, chain.head):
            raise CorruptError(f"entry {number} does not follow")
        return chain

    @property
    def is_settled(self) -> bool:
        """Whether everything so far has its final answer."""
        return self.standing.settled_below(self.last) > self.last

    @property
    def position(self) -> JournalPosition:
        return JournalPosition(
            epoch=self.epoch,
            last=self.last,
            settled_below=self.standing.settled_below(self.last),
            head=to_base64url(self.head),
        )


NOTHING: Final = Chain.of("not-opened-so-far")


def is_later(connection: sqlite3.Connection) -> bool:
    """Whether a later release wrote this, and this one may go on with it.

    Raises LaterSchemaError where it may not.
    """
    version = version_of(connection)
    if version <= SCHEMA_VERSION:
        return False
    if connection.execute(_READABLE).fetchone() is not None:
        (since,) = connection.execute("SELECT max(since) FROM readable").fetchone()
        if isinstance(since, int) and since <= SCHEMA_VERSION:
            return True
    raise LaterSchemaError(f"schema {version}: written by a later release")


def upgrade_script(version: int) -> str | None:
    """What makes a file of this version one of ours; None where it is one, or a later one. One
    transaction."""
    if version >= SCHEMA_VERSION:
        return None
    steps = "".join(_UPGRADES[version:])
    return f"BEGIN IMMEDIATE;{steps}PRAGMA user_version={SCHEMA_VERSION};COMMIT;"


def version_of(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def read(connection: sqlite3.Connection) -> tuple[Chain, Chain]:
    """The base, and all that follows from it, every entry checked.

    Raises CorruptError where one is missing, changed or unknown.
    """
    if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise CorruptError("quick_check")
    later = is_later(connection)
    base = _base(connection, later=later)
    chain = base
    for epoch, number, head, body in rows(connection, 0 if base is None else base.last + 1):
        if chain is None:
            base = chain = Chain.of(epoch)
        chain = chain.after_row(epoch, number, head, body, is_later=later)
    return base or NOTHING, chain or NOTHING


def rows(
    connection: sqlite3.Connection, from_entry: int, limit: int = -1
) -> Iterator[tuple[str, int, bytes, bytes]]:
    """Epoch, number, head and body, oldest first; a negative limit is none."""
    yield from connection.execute(
        "SELECT epoch, number, head, body FROM entries WHERE number >= ? ORDER BY number LIMIT ?",
        (from_entry, limit),
    )


def base_row(base: Chain) -> tuple[str, int, bytes, bytes, bytes]:
    """As it is stored. The chain proves head and number; the checksum what they amounted to."""
    standing = _ENCODER.encode(base.standing)
    checksum = _checksum(base.epoch, base.last, base.head, standing)
    return base.epoch, base.last, base.head, standing, checksum


def standing_of(stored: bytes) -> Standing:
    """Raises msgspec.DecodeError. What a later release adds to a standing begins empty."""
    return _STANDING.decode(stored)


def _base(connection: sqlite3.Connection, *, later: bool) -> Chain | None:
    if version_of(connection) < 2:
        # Looked at after an update, before the new program's first start.
        return None
    row = connection.execute("SELECT epoch, number, head, standing, checksum FROM base").fetchone()
    if row is None:
        return None
    epoch, number, head, standing, checksum = row
    if checksum != _checksum(epoch, number, head, standing):
        raise CorruptError("the base was changed")
    try:
        found = decode_known(standing, Standing) if later else standing_of(standing)
        return Chain(epoch, number, head, found)
    except msgspec.DecodeError as error:
        raise CorruptError("the base is unreadable") from error


def _checksum(epoch: str, number: int, head: bytes, standing: bytes) -> bytes:
    said = b"%s\0%d\0%s%s" % (epoch.encode(), number, head, standing)
    return hashlib.sha256(said).digest()
