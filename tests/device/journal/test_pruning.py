import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from device.journal.chain import FILE_NAME, FIRST_SCHEMA, base_row, read, standing_of
from device.journal.journal import Journal, JournalFault, look_at
from device.journal.pruning import LOOK_AGAIN_MS, STEP_ENTRIES
from device.journal.retention import DAY_MS, MIB, Retention
from device.till.contents import AskToCancel, AskToPostAgain
from device.till.entries import (
    CancelReason,
    DeniedTaken,
    Entry,
    LightShown,
    MessageClosed,
    PolicyTaken,
    RefundAnswered,
    RefundOpened,
    Resent,
    SaleAcceptedOffline,
    SaleAnswered,
    SaleCancelled,
    SaleOpened,
    SessionBegan,
    SessionEnded,
    Synced,
    WalletKeysTaken,
)
from device.till.spell import OfflineRecord
from device.till.standing import Standing
from protocol.messages import DeniedChanges, Refunded, SaleName
from protocol.money import Money
from tests.device.stage import EPOCH_MS, WALLET_KEY, a_session, approved, asking, named

NOW_MS = EPOCH_MS
WITHIN_STEPS = 100


def sale(key: str) -> SaleOpened:
    return structs.replace(asking().standing.sales[0].sale, key=key)


def settled(number: int) -> tuple[Entry, ...]:
    key = f"key-{number:012d}"
    return sale(key), SaleAnswered(key, approved(), f"reply-{number}"), LightShown(key)


def a_journal(folder: Path, retention: Retention | None = None) -> Journal:
    return Journal(
        folder,
        fresh_epoch=lambda: "epoch-000000000000",
        wall_ms=lambda: NOW_MS,
        retention=retention,
    )


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(a_journal(tmp_path)) as journal:
        journal.open()
        yield journal


def rest(journal: Journal, cloud_ms: int) -> None:
    """As long as there is anything to be done."""
    for _ in range(WITHIN_STEPS):
        before = journal._since_checkpoint
        journal.rest(cloud_ms)
        if journal._since_checkpoint == before and journal._pruner._idle_until_ms > cloud_ms:
            return
    raise AssertionError("pruning comes to an end")


def numbers(folder: Path) -> list[int]:
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        return [n for (n,) in connection.execute("SELECT number FROM entries ORDER BY number")]


def old(journal: Journal, count: int = 3) -> int:
    """So many settled sales, known to be there at `NOW_MS`; the last one's newest entry."""
    for number in range(count):
        journal.append(*settled(number))
    journal.rest(NOW_MS)
    return journal.position.last


def test_what_is_settled_goes_when_it_is_older_than_one_keeps_it(
    journal: Journal, tmp_path: Path
) -> None:
    last = old(journal)
    journal.append(*settled(99))
    before = journal.position
    rest(journal, NOW_MS + 89 * DAY_MS)
    assert numbers(tmp_path) == list(range(1, last + 4))
    rest(journal, NOW_MS + 91 * DAY_MS)
    assert numbers(tmp_path) == list(range(last + 1, last + 4))
    assert journal.position == before


def test_numbers_head_and_what_entries_amounted_to_stay_true(
    journal: Journal, tmp_path: Path
) -> None:
    journal.append(PolicyTaken(7, "signed.policy"), SessionBegan(a_session(), "signed.session"))
    journal.append(Resent("restore-1"))
    last = old(journal)
    rest(journal, NOW_MS + 200 * DAY_MS)
    position, standing = journal.position, journal.standing
    assert numbers(tmp_path) == []
    looked = look_at(tmp_path)
    assert looked is not None
    assert (looked.position, looked.standing) == (position, standing)
    journal.close()
    journal.open()
    assert (journal.position, journal.standing) == (position, standing)
    assert standing.policy == PolicyTaken(7, "signed.policy")
    assert standing.session is not None
    assert standing.resent_for == "restore-1"
    journal.append(*settled(50))
    assert journal.position.last == last + 3
    journal.open()
    assert journal.position.last == last + 3


def test_what_is_not_settled_never_goes_nor_what_came_after_it(
    journal: Journal, tmp_path: Path
) -> None:
    journal.append(*settled(1))
    open_sale = sale("key-open")
    journal.append(open_sale, SaleCancelled("key-open", CancelReason.NO_REPLY))
    old(journal)
    rest(journal, NOW_MS + 900 * DAY_MS)
    assert numbers(tmp_path)[0] == 5
    journal.append(MessageClosed("key-open", "cancel", "t"))
    rest(journal, NOW_MS + 1000 * DAY_MS)
    assert numbers(tmp_path)[0] == 5, "its answer is new, and belongs to it"
    assert journal.recall(0)[0] == AskToCancel(open_sale)
    rest(journal, NOW_MS + 1100 * DAY_MS)
    assert numbers(tmp_path) == []


def test_nothing_newer_than_the_oldest_backup_goes_however_large_the_file(tmp_path: Path) -> None:
    retention = Retention(keep_days=90, backup_horizon_days=35, size_max_mib=1)
    with closing(a_journal(tmp_path, retention)) as journal:
        journal.open()
        journal.append(*settled(1))
        large = LightShown("x" * MIB)
        journal.append(large)
        journal.rest(NOW_MS)
        rest(journal, NOW_MS + 34 * DAY_MS)
        assert numbers(tmp_path)[0] == 1
        rest(journal, NOW_MS + 36 * DAY_MS)
        assert numbers(tmp_path) == []


def test_only_the_clouds_time_makes_anything_old(journal: Journal, tmp_path: Path) -> None:
    """An appliance without a clock writes its sales in 1970."""
    for number in range(3):
        journal.append(structs.replace(sale(f"key-{number}"), at_ms=0))
        journal.append(SaleAnswered(f"key-{number}", approved(), "t"), LightShown(f"key-{number}"))
    journal.rest(None)
    rest(journal, NOW_MS)
    rest(journal, NOW_MS + 30 * DAY_MS)
    rest(journal, NOW_MS - 300 * DAY_MS)
    assert numbers(tmp_path)[0] == 1


def test_what_is_said_again_after_a_restore_is_never_half_a_sale(journal: Journal) -> None:
    old(journal, 2)
    opened = sale("key-late")
    journal.append(opened)
    rest(journal, NOW_MS + DAY_MS)
    number = journal.position.last
    journal.append(SaleAnswered(opened.key, approved(), "late"), LightShown(opened.key))
    rest(journal, NOW_MS + 91 * DAY_MS)
    assert journal.recall(0) == (AskToPostAgain(opened, number, "late"),)


def test_many_go_a_few_at_a_time(journal: Journal, tmp_path: Path) -> None:
    entries = [entry for number in range(STEP_ENTRIES) for entry in settled(number)]
    journal.append(*entries)
    journal.rest(NOW_MS)
    count = len(numbers(tmp_path))
    cloud_ms = NOW_MS + 91 * DAY_MS
    went: list[int] = []
    while count:
        journal.rest(cloud_ms)
        left = len(numbers(tmp_path))
        went.append(count - left)
        count = left
        look = look_at(tmp_path)
        assert look is not None
        assert look.position == journal.position
    assert max(went) <= STEP_ENTRIES
    journal.rest(cloud_ms)
    journal.rest(cloud_ms + LOOK_AGAIN_MS)
    assert journal.position.last == 3 * STEP_ENTRIES + 1


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM entries WHERE number = 20",
        "DELETE FROM base",
        "UPDATE base SET number = number - 1",
        "UPDATE base SET epoch = 'another', number = number + 1",
        "INSERT OR REPLACE INTO base VALUES (1, 'epoch-000000000000', 19, x'00', x'00', x'00')",
        "UPDATE entries SET key = 'x' WHERE number = 20",
    ],
)
def test_the_file_itself_refuses_to_forget_what_is_above_the_base(
    journal: Journal, tmp_path: Path, statement: str
) -> None:
    old(journal, 4)
    rest(journal, NOW_MS + 91 * DAY_MS)
    journal.append(*settled(80), *settled(81), *settled(82))
    position = journal.position
    assert position.last >= 20
    with (
        closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection,
        pytest.raises(sqlite3.IntegrityError),
    ):
        connection.execute(statement)
    journal.open()
    assert journal.position == position


@pytest.mark.parametrize("column", ["standing", "head", "number", "epoch", "checksum"])
def test_a_base_that_was_changed_is_set_aside_with_its_journal(
    journal: Journal, tmp_path: Path, column: str
) -> None:
    old(journal)
    rest(journal, NOW_MS + 91 * DAY_MS)
    journal.close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER a_base_only_rises")
        value = {"number": "11", "epoch": "'x'"}.get(column, "CAST('{}' AS BLOB)")
        connection.execute(f"UPDATE base SET {column} = {value}")
    with pytest.raises(JournalFault):
        look_at(tmp_path)
    journal.open()
    assert journal.position.last == 1
    assert (tmp_path / "journal-set-aside-1.db").exists()


class FailingConnection:
    """A connection whose disk fails at one statement, once."""

    def __init__(self, connection: sqlite3.Connection, statement: str, code: int) -> None:
        self._connection = connection
        self._statement = statement
        self._code = code
        self.has_failed = False

    def execute(self, sql: str, *parameters: Any) -> object:
        if sql.startswith(self._statement) and not self.has_failed:
            self.has_failed = True
            error = sqlite3.OperationalError("injected")
            error.sqlite_errorcode = self._code
            error.sqlite_errorname = "SQLITE_INJECTED"
            raise error
        return self._connection.execute(sql, *parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


STATEMENTS = (
    "BEGIN",
    "INSERT INTO base",
    "INSERT INTO marks",
    "DELETE FROM marks",
    "DELETE FROM entries",
    "COMMIT",
)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_disk_that_is_full_while_pruning_harms_nothing(
    journal: Journal, tmp_path: Path, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = old(journal)
    journal.append(*settled(70))
    position = journal.position
    failing = FailingConnection(_connection(journal), statement, sqlite3.SQLITE_FULL)
    monkeypatch.setattr(journal, "_connection", failing)
    cloud_ms = NOW_MS + 91 * DAY_MS
    rest(journal, cloud_ms)
    assert failing.has_failed
    assert journal.is_open
    journal.append(*settled(71))
    assert journal.position.last == position.last + 3
    rest(journal, cloud_ms + 2 * LOOK_AGAIN_MS)
    assert numbers(tmp_path)[0] == last + 1
    journal.open()
    assert journal.position.last == position.last + 3


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_disk_that_fails_while_pruning_is_a_fault_and_leaves_old_or_new(
    journal: Journal, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old(journal)
    journal.append(*settled(70))
    position, standing = journal.position, journal.standing
    failing = FailingConnection(_connection(journal), statement, sqlite3.SQLITE_IOERR)
    monkeypatch.setattr(journal, "_connection", failing)
    with pytest.raises(JournalFault):
        rest(journal, NOW_MS + 91 * DAY_MS)
    assert not journal.is_open
    journal.open()
    assert (journal.position, journal.standing) == (position, standing)


def test_a_journal_of_the_first_schema_is_taken_over_whole(tmp_path: Path) -> None:
    with closing(a_journal(tmp_path)) as journal:
        journal.open()
        old(journal)
        position = journal.position
        journal.close()
        with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as connection:
            kept = connection.execute("SELECT * FROM entries").fetchall()
        (tmp_path / FILE_NAME).unlink()
        with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as connection:
            connection.executescript(f"{FIRST_SCHEMA}PRAGMA user_version=1;")
            connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", kept)
        looked = look_at(tmp_path)
        assert looked is not None
        assert looked.position == position
        journal.open()
        assert journal.position == position
        old(journal)
        rest(journal, NOW_MS + 91 * DAY_MS)
        assert numbers(tmp_path) == []


def test_a_journal_of_a_later_release_is_not_written_to(tmp_path: Path) -> None:
    with closing(a_journal(tmp_path)) as journal:
        journal.open()
        journal.append(*settled(1))
        journal.close()
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
            connection.execute("PRAGMA user_version=99")
        with pytest.raises(JournalFault, match="schema 99"):
            journal.open()
    assert not list(tmp_path.glob("*aside*"))


def test_a_base_says_all_that_a_standing_holds(journal: Journal) -> None:
    journal.append(PolicyTaken(7, "signed.policy"), SessionBegan(a_session(), "signed.session"))
    journal.append(sale("key-a"), SaleAnswered("key-a", approved(), "t"))
    journal.append(sale("key-b"), SaleCancelled("key-b", CancelReason.STAFF), Resent("r-1"))
    journal.append(sale("key-c"), accepted("key-c"), a_refund("key-d"))
    journal.append(a_refund("key-e"), RefundAnswered("key-e", refunded(), "t"))
    journal.append(SessionEnded("another-session-00", "key-out"), Synced(NOW_MS, NOW_MS))
    journal.append(DeniedTaken(DeniedChanges(3, True, ("payer-0001",), (), False), NOW_MS))
    journal.append(WalletKeysTaken(7, (named("w2", WALLET_KEY),)))
    base, chain = read(_connection(journal))
    assert base.last == 0
    empty = Standing()
    for field in fields(Standing):
        value = getattr(chain.standing, field.name)
        assert value != getattr(empty, field.name), f"{field.name} is tried here too"
    for field in fields(OfflineRecord):
        value = getattr(chain.standing.record, field.name)
        assert value != getattr(empty.record, field.name), f"{field.name} is tried here too"
    assert standing_of(base_row(chain)[3]) == chain.standing


def accepted(key: str) -> SaleAcceptedOffline:
    return SaleAcceptedOffline(
        key=key,
        wallet_qr="qr",
        payer_id="payer-0002",
        token_id="token-0002",
        token_expires_s=NOW_MS // 1000,
        amount=Money(500, "EUR"),
        scanned_at_ms=NOW_MS,
        accepted_at_ms=NOW_MS,
    )


def a_refund(key: str) -> RefundOpened:
    return RefundOpened(
        key=key,
        correlation_id="correlation-000001",
        session_id="session-0123456789",
        initials="AL",
        event_id="summer",
        stall_id="bar",
        policy_version=1,
        sale=SaleName("till-1", "key-000000000001"),
        amount=None,
        approval_id=None,
        at_ms=NOW_MS,
    )


def refunded() -> Refunded:
    return Refunded("0198c0df", Money(500, "EUR"), 0, Money(2000, "EUR"), "RF7", NOW_MS)


def test_keeping_less_than_the_oldest_backup_is_refused() -> None:
    with pytest.raises(ValueError, match="keep_days"):
        Retention(keep_days=10, backup_horizon_days=35)


def _connection(journal: Journal) -> sqlite3.Connection:
    assert journal._connection is not None
    return journal._connection
