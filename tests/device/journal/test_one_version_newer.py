"""A later release wrote the journal, was taken back, and came again: nothing of it is lost."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

from device.journal.chain import FILE_NAME, SCHEMA_VERSION, Chain, base_row
from device.journal.journal import Journal, JournalFault, LaterJournal, look_at
from device.journal.owed import what_is_owed
from device.journal.retention import DAY_MS
from device.till.entries import (
    CancelReason,
    Entry,
    LightShown,
    SaleAcceptedOffline,
    SaleAnswered,
    SaleCancelled,
    SaleOpened,
    encode,
    key_of,
    kind_of,
)
from protocol.money import Money
from tests.device.stage import EPOCH_MS, approved, asking

LATER_SCHEMA = f"""
ALTER TABLE entries ADD COLUMN shift INTEGER NOT NULL DEFAULT 0;
ALTER TABLE base ADD COLUMN tips INTEGER NOT NULL DEFAULT 0;
ALTER TABLE marks ADD COLUMN note TEXT NOT NULL DEFAULT '';
CREATE TABLE tips (number INTEGER PRIMARY KEY, cents INTEGER NOT NULL) STRICT;
CREATE TABLE readable (since INTEGER NOT NULL) STRICT;
INSERT INTO readable VALUES ({SCHEMA_VERSION});
PRAGMA user_version={SCHEMA_VERSION + 1};
"""
"""What the release after this one may do to a journal, and say that this one can go on with it."""


def a_journal(folder: Path) -> Journal:
    return Journal(folder, fresh_epoch=lambda: "epoch-000000000000", wall_ms=lambda: EPOCH_MS)


def sale(key: str) -> SaleOpened:
    return structs.replace(asking().standing.sales[0].sale, key=key)


def offline(key: str) -> tuple[Entry, ...]:
    return sale(key), SaleAcceptedOffline(
        key=key,
        wallet_qr="wallet",
        payer_id="payerpayer1",
        token_id=f"token-{key}",
        token_expires_s=EPOCH_MS // 1000 + 90,
        amount=Money(500, "EUR"),
        scanned_at_ms=EPOCH_MS,
        accepted_at_ms=EPOCH_MS,
    )


class Later:
    """The release after this one, as far as it writes: it knows more fields and more kinds."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME

    def upgrade(self) -> None:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.executescript(LATER_SCHEMA)

    def append(self, *bodies: tuple[str, str, bytes]) -> None:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            row = "SELECT epoch, number, head FROM entries ORDER BY number DESC LIMIT 1"
            epoch, number, head = connection.execute(row).fetchone()
            chain = Chain(epoch, number, head, look_free())
            for kind, key, body in bodies:
                chain = chain.after_stranger(body)
                connection.execute(
                    "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, 7)",
                    (epoch, chain.last, kind, key, body, chain.head),
                )

    def rows(self) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path)) as connection:
            return list(connection.execute("SELECT * FROM entries ORDER BY number"))


def look_free() -> Any:
    from device.till.standing import Standing

    return Standing()


def extended(entry: Entry) -> tuple[str, str, bytes]:
    """An entry with a field that this release does not know."""
    raw = msgspec.json.decode(encode(entry)) | {"tip_in_cents": 50}
    return kind_of(entry), key_of(entry), msgspec.json.encode(raw)


TIP = ("tip_given", "key-tip", b'{"entry":"tip_given","key":"key-tip","cents":50}')


@pytest.fixture
def later(tmp_path: Path) -> Later:
    """Sold under this release, updated, sold under the later one, and rolled back."""
    with closing(a_journal(tmp_path)) as journal:
        journal.open()
        journal.append(*offline("key-before"))
    later = Later(tmp_path)
    later.upgrade()
    later.append(*map(extended, offline("key-later")), TIP)
    later.append(*map(extended, (sale("key-done"), SaleAnswered("key-done", approved(), "t"))))
    later.append(extended(LightShown("key-done")))
    return later


def test_this_release_goes_on_with_it_and_owes_what_it_owed(later: Later, tmp_path: Path) -> None:
    with closing(a_journal(tmp_path)) as journal:
        standing = journal.open()
        assert [each.sale.key for each in standing.unsynced] == ["key-before", "key-later"]
        journal.append(sale("key-back"), SaleCancelled("key-back", CancelReason.STAFF))
        journal.close()
        assert journal.open().sale("key-back") is not None
        assert {each.key for each in journal.recall(0)} == {"key-done", "key-back"}
    assert not list(tmp_path.glob("*aside*")), "nothing of it is damaged"
    looked = look_at(tmp_path)
    assert looked is not None
    assert looked.passed_over == 1


def test_the_later_release_finds_all_of_its_own_when_it_comes_again(
    later: Later, tmp_path: Path
) -> None:
    before = later.rows()
    with closing(a_journal(tmp_path)) as journal:
        journal.open()
        journal.append(*offline("key-back"))
    after = later.rows()
    assert after[: len(before)] == before, "not a byte of what it wrote has changed"
    assert [row[6] for row in after[len(before) :]] == [0, 0], "by its own defaults"
    head = before[-1][5]
    chain = Chain(before[0][0], before[-1][1], head, look_free())
    for _, number, _, _, body, said, _ in after[len(before) :]:
        chain = chain.after_stranger(body)
        assert (number, said) == (chain.last, chain.head)
    with closing(sqlite3.connect(later.path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION + 1,)


def test_nothing_of_a_later_releases_journal_is_pruned(later: Later, tmp_path: Path) -> None:
    before = later.rows()
    with closing(a_journal(tmp_path)) as journal:
        journal.open()
        for days in range(0, 400, 40):
            journal.rest(EPOCH_MS + days * DAY_MS)
    assert later.rows() == before


def test_a_base_of_a_later_release_is_read_as_far_as_it_is_known(tmp_path: Path) -> None:
    with closing(a_journal(tmp_path)) as journal:
        journal.open()
        journal.append(*offline("key-before"))
        chain = journal._chain
    Later(tmp_path).upgrade()
    epoch, number, head, standing, _ = base_row(chain)
    more = msgspec.json.encode(msgspec.json.decode(standing) | {"tips": [50]})
    said = b"%s\0%d\0%s%s" % (epoch.encode(), number, head, more)
    import hashlib

    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as connection:
        connection.execute(
            "INSERT INTO base VALUES (1, ?, ?, ?, ?, ?, 50)",
            (epoch, number, head, more, hashlib.sha256(said).digest()),
        )
    looked = look_at(tmp_path)
    assert looked is not None
    assert [each.sale.key for each in looked.standing.unsynced] == ["key-before"]


def test_what_a_kind_owes_that_is_new_a_reset_does_not_guess(later: Later, tmp_path: Path) -> None:
    assert later.rows()
    with pytest.raises(LaterJournal, match="only a later release knows"):
        what_is_owed(tmp_path)


def test_a_later_entry_that_is_damaged_is_still_damage(later: Later, tmp_path: Path) -> None:
    with closing(sqlite3.connect(later.path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER entries_never_change")
        connection.execute("UPDATE entries SET body = x'00' WHERE key = 'key-later'")
    with closing(a_journal(tmp_path)) as journal:
        journal.open()
        assert list(tmp_path.glob("*aside*"))
        keys = {each.sale.key for each in journal.standing.unsynced}
        assert keys == {"key-before"}, "what can be read of it is carried over"


@pytest.mark.parametrize(
    "script",
    [
        f"UPDATE readable SET since = {SCHEMA_VERSION + 1}",
        "DELETE FROM readable",
        "DROP TABLE readable",
    ],
)
def test_a_release_that_cannot_be_gone_back_from_says_so_and_is_left_alone(
    later: Later, tmp_path: Path, script: str
) -> None:
    with closing(sqlite3.connect(later.path, isolation_level=None)) as connection:
        connection.execute(script)
    before = later.rows()
    with closing(a_journal(tmp_path)) as journal, pytest.raises(JournalFault, match="later"):
        journal.open()
    assert later.rows() == before
    assert not list(tmp_path.glob("*aside*"))
