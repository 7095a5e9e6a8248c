import itertools
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from device.journal.chain import FILE_NAME
from device.journal.journal import CHECKPOINT_ENTRIES, Journal, JournalFault, look_at
from device.till.contents import AskToCancel, AskToPostAgain
from device.till.entries import (
    CancelReason,
    Entry,
    EpochBegan,
    LightShown,
    MessageClosed,
    PolicyTaken,
    SaleAbandoned,
    SaleAnswered,
    SaleCancelled,
    SaleKept,
    SaleOpened,
    SessionBegan,
    SessionEnded,
    decode,
    encode,
    key_of,
    kind_of,
)
from protocol.messages import Approved, JournalPosition
from protocol.money import Money
from tests.device.stage import a_session, approved, asking

EPOCHS = itertools.count(1)


def sale(key: str = "key-000000000001") -> SaleOpened:
    opened = asking().standing.sales[0].sale
    return SaleOpened(
        key=key,
        correlation_id=opened.correlation_id,
        session_id=opened.session_id,
        initials=opened.initials,
        event_id=opened.event_id,
        stall_id=opened.stall_id,
        policy_version=opened.policy_version,
        amount=opened.amount,
        lines=opened.lines,
        at_ms=opened.at_ms,
    )


def a_journal(folder: Path) -> Journal:
    return Journal(
        folder, fresh_epoch=lambda: f"epoch-{next(EPOCHS):012d}", wall_ms=lambda: 1_780_000_000_000
    )


def opened(folder: Path) -> Journal:
    journal = a_journal(folder)
    journal.open()
    return journal


def written(folder: Path, *entries: Entry) -> JournalPosition:
    journal = opened(folder)
    journal.append(*entries)
    position = journal.position
    journal.close()
    return position


def rows(folder: Path) -> list[tuple[str, int, str, str]]:
    connection = sqlite3.connect(folder / FILE_NAME)
    try:
        query = "SELECT epoch, number, kind, key FROM entries ORDER BY number"
        return list(connection.execute(query))
    finally:
        connection.close()


def tamper(folder: Path, statement: str) -> None:
    connection = sqlite3.connect(folder / FILE_NAME, isolation_level=None)
    connection.execute("DROP TRIGGER entries_stay")
    connection.execute("DROP TRIGGER entries_never_change")
    connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("entry", "kind", "key"),
    [
        (EpochBegan("e", 1), "epoch_began", ""),
        (PolicyTaken(1, "t"), "policy_taken", ""),
        (SessionBegan(a_session(), "t"), "session_began", ""),
        (SessionEnded("s", "k"), "session_ended", "k"),
        (SessionEnded("s", None), "session_ended", ""),
        (sale("k"), "sale_opened", "k"),
        (SaleAnswered("k", approved(), "t"), "sale_answered", "k"),
        (SaleCancelled("k", CancelReason.STAFF), "sale_cancelled", "k"),
        (SaleAbandoned("k"), "sale_abandoned", "k"),
        (LightShown("k"), "light_shown", "k"),
        (SaleKept("k"), "sale_kept", "k"),
        (MessageClosed("k", "cancel", "t"), "message_closed", "k"),
    ],
)
def test_every_entry_comes_back_as_it_was_written(entry: Entry, kind: str, key: str) -> None:
    assert decode(encode(entry)) == entry
    assert (kind_of(entry), key_of(entry)) == (kind, key)


def test_entries_are_numbered_without_gaps_from_the_epochs_beginning(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append(sale("key-a"))
    journal.append(SaleAnswered("key-a", approved(), "t"), sale("key-b"))
    journal.close()
    epoch = journal.position.epoch
    assert rows(tmp_path) == [
        (epoch, 1, "epoch_began", ""),
        (epoch, 2, "sale_opened", "key-a"),
        (epoch, 3, "sale_answered", "key-a"),
        (epoch, 4, "sale_opened", "key-b"),
    ]


def test_opened_again_a_journal_stands_where_it_stood(tmp_path: Path) -> None:
    position = written(tmp_path, sale("key-a"), SaleCancelled("key-a", CancelReason.STAFF))
    journal = opened(tmp_path)
    assert journal.position == position
    assert [each.sale.key for each in journal.standing.sales] == ["key-a"]
    assert journal.standing.sales[0].is_cancelled
    assert journal.number_of("key-a") == 2
    assert journal.number_of("unknown") == 0
    journal.close()


def test_all_below_the_oldest_open_entry_is_settled(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    assert journal.position.settled_below == 2
    journal.append(sale("key-a"))
    journal.append(sale("key-b"))
    assert journal.position.settled_below == 2
    journal.append(SaleAnswered("key-a", approved(), "t"))
    assert journal.position.settled_below == 2
    journal.append(LightShown("key-a"))
    assert journal.position.settled_below == 3
    journal.append(SaleAbandoned("key-b"))
    assert journal.position.settled_below == 7
    journal.close()


def test_a_cancelled_sale_is_open_until_the_cloud_has_answered(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append(sale("key-a"), SaleCancelled("key-a", CancelReason.NO_REPLY))
    journal.append(LightShown("key-a"))
    assert journal.position.settled_below == 2
    journal.append(MessageClosed("key-a", "cancel", "t"))
    assert journal.position.settled_below == 6
    journal.close()


def test_a_sign_out_is_open_until_the_cloud_has_answered(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append(SessionBegan(a_session(), "t"))
    journal.append(SessionEnded("another-session-00", None))
    assert journal.standing.session is not None
    journal.append(SessionEnded(a_session().session_id, "key-out"))
    assert journal.standing.session is None
    assert journal.position.settled_below == 4
    journal.append(MessageClosed("key-out", "sign_out", "t"))
    assert journal.standing.sign_outs == ()
    journal.close()


def test_an_approval_keeps_what_the_slip_needs(tmp_path: Path) -> None:
    written(tmp_path, sale("key-a"), SaleAnswered("key-a", approved(), "t"))
    journal = opened(tmp_path)
    approval = journal.standing.sales[0].approval
    assert isinstance(approval, Approved)
    assert approval.balance == Money(1500, "EUR")
    journal.close()


@pytest.mark.parametrize("statement", ["DELETE FROM entries", "UPDATE entries SET key = 'x'"])
def test_the_file_itself_refuses_to_forget_or_change(tmp_path: Path, statement: str) -> None:
    written(tmp_path, sale())
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET body = CAST(replace(body, 'EUR', 'CHF') AS BLOB) WHERE number = 2",
        "UPDATE entries SET head = zeroblob(32) WHERE number = 2",
        "UPDATE entries SET epoch = 'another' WHERE number = 2",
        "UPDATE entries SET body = x'00' WHERE number = 3",
        "DELETE FROM entries WHERE number = 2",
        "DELETE FROM entries WHERE number = 1",
        "UPDATE entries SET number = 9 WHERE number = 3",
        "DROP TABLE probe",
    ],
)
def test_a_journal_that_was_tampered_with_is_set_aside_and_a_new_epoch_begins(
    tmp_path: Path, statement: str
) -> None:
    position = written(tmp_path, sale("key-a"), sale("key-b"))
    tamper(tmp_path, statement)
    journal = opened(tmp_path)
    assert journal.position.epoch != position.epoch
    assert journal.position.last == 1
    assert journal.standing.sales == ()
    journal.close()
    assert (tmp_path / "journal-set-aside-1.db").exists()
    assert "journal-set-aside-1.db" in beginning(tmp_path).after


def beginning(folder: Path) -> EpochBegan:
    connection = sqlite3.connect(folder / FILE_NAME)
    (body,) = connection.execute("SELECT body FROM entries WHERE number = 1").fetchone()
    connection.close()
    entry = decode(body)
    assert isinstance(entry, EpochBegan)
    return entry


def test_a_file_that_is_no_database_is_set_aside_every_time(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / FILE_NAME).write_bytes(b"not a database, whatever its name says" * 100)
        journal = opened(tmp_path)
        assert journal.position.last == 1
        journal.close()
        assert (tmp_path / f"journal-set-aside-{number}.db").exists()


def test_a_broken_page_is_set_aside(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    for number in range(300):
        journal.append(sale(f"key-{number}"))
    journal.rest()
    journal.close()
    path = tmp_path / FILE_NAME
    content = bytearray(path.read_bytes())
    content[8192:12288] = os.urandom(4096)
    path.write_bytes(content)
    journal = opened(tmp_path)
    assert journal.position.last == 1
    journal.close()


class FailingConnection:
    """A connection whose disk fails at one statement."""

    def __init__(self, connection: sqlite3.Connection, statement: str) -> None:
        self._connection = connection
        self._statement = statement

    def execute(self, sql: str, *parameters: Any) -> object:
        if sql.startswith(self._statement):
            raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(sql, *parameters)

    def executemany(self, sql: str, parameters: Any) -> object:
        if sql.startswith(self._statement):
            raise sqlite3.OperationalError("database or disk is full")
        return self._connection.executemany(sql, parameters)

    def close(self) -> None:
        self._connection.close()


@pytest.mark.parametrize("statement", ["BEGIN", "INSERT", "COMMIT"])
def test_a_write_that_fails_is_a_fault_and_the_journal_stays_closed_until_opened_again(
    tmp_path: Path, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(tmp_path)
    journal.append(sale("key-a"))
    position = journal.position
    assert journal._connection is not None
    failing = FailingConnection(journal._connection, statement)
    monkeypatch.setattr(journal, "_connection", failing)
    with pytest.raises(JournalFault):
        journal.append(LightShown("key-a"))
    assert not journal.is_open
    with pytest.raises(JournalFault, match="not open"):
        journal.append(LightShown("key-a"))
    assert journal.position == position
    journal.open()
    journal.append(SaleAbandoned("key-a"))
    assert journal.position.last == position.last + 1
    journal.close()


def test_a_checkpoint_that_fails_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(tmp_path)
    journal.append(*(sale(f"key-{number}") for number in range(CHECKPOINT_ENTRIES)))
    assert journal._connection is not None
    failing = FailingConnection(journal._connection, "PRAGMA wal_checkpoint")
    monkeypatch.setattr(journal, "_connection", failing)
    with pytest.raises(JournalFault):
        journal.rest()
    assert not journal.is_open


def test_a_long_log_is_folded_into_the_file_between_sales(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    log = tmp_path / f"{FILE_NAME}-wal"
    journal.append(*(sale(f"key-{number}") for number in range(CHECKPOINT_ENTRIES - 2)))
    journal.rest()
    assert log.stat().st_size > 0
    journal.append(sale("key-x"))
    journal.rest()
    assert log.stat().st_size == 0
    journal.close()


def test_no_sale_waits_for_somebody_who_looks_at_the_journal(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append(*(sale(f"key-{number}") for number in range(CHECKPOINT_ENTRIES)))
    assert journal._connection is not None
    # Far longer than the look lasts: whoever waits for it, waits to its end.
    journal._connection.execute("PRAGMA busy_timeout = 60000")
    looking, rested = Event(), Event()
    waited_for: list[bool] = []

    def look() -> None:
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as reader:
            rows = reader.execute("SELECT number FROM entries")
            rows.fetchone()
            looking.set()
            waited_for.append(not rested.wait(30))

    thread = Thread(target=look)
    thread.start()
    assert looking.wait(60)
    journal.rest()
    rested.set()
    thread.join()
    assert waited_for == [False]
    journal.append(sale("key-x"))
    assert look_at(tmp_path) is not None
    journal.close()


def test_decided_sales_are_recalled_from_an_entry_on(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as journal:
        first, second, open_still = (sale(f"key-{number:012d}") for number in (1, 2, 3))
        journal.append(first, SaleAnswered(first.key, approved(), "reply-1"), LightShown(first.key))
        number = journal.position.last + 1
        journal.append(second, SaleCancelled(second.key, CancelReason.NO_REPLY))
        journal.append(open_still)
        cancelled = AskToCancel(second)
        assert journal.recall(0) == (AskToPostAgain(first, 2, "reply-1"), cancelled)
        assert journal.recall(number) == (cancelled,)
    with pytest.raises(JournalFault):
        journal.recall(0)


def test_a_folder_that_cannot_be_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(JournalFault):
        a_journal(tmp_path / "file" / "state").open()


def test_another_process_may_look_while_the_journal_is_open(tmp_path: Path) -> None:
    assert look_at(tmp_path) is None
    journal = opened(tmp_path)
    journal.append(sale("key-a"))
    chain = look_at(tmp_path)
    assert chain is not None
    assert chain.position == journal.position
    journal.close()


@pytest.mark.parametrize("content", [b"nonsense" * 1000, b""])
def test_looking_at_a_broken_journal_is_a_fault_and_changes_nothing(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(JournalFault):
        look_at(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == content
    written(tmp_path / "other", sale("key-a"))
    tamper(tmp_path / "other", "DELETE FROM entries WHERE number = 1")
    with pytest.raises(JournalFault):
        look_at(tmp_path / "other")


def test_the_commit_hook_names_every_moment_the_power_may_go(tmp_path: Path) -> None:
    moments: list[tuple[str, int]] = []
    journal = Journal(
        tmp_path,
        fresh_epoch=lambda: "epoch-0000000000",
        wall_ms=lambda: 0,
        on_commit=lambda moment, entries: moments.append((moment, len(entries))),
    )
    journal.open()
    journal.append(sale("key-a"), LightShown("key-a"))
    journal.close()
    assert moments == [("before", 1), ("after", 1), ("before", 2), ("after", 2)]


SELLER = """
import os, sys
from pathlib import Path
from device.journal.journal import Journal, JournalFault
from device.till.entries import LightShown, SaleAbandoned
journal = Journal(Path(sys.argv[1]), fresh_epoch=lambda: "epoch-0000000000", wall_ms=lambda: 0)
try:
    journal.open()
    for number in range(4):
        os.write(1, b"append\\n")
        journal.append(SaleAbandoned(f"key-{number}"))
        os.write(1, b"done %d\\n" % number)
except JournalFault as fault:
    os.write(1, b"fault %s\\n" % str(fault).encode())
os.write(1, b"end\\n")
"""


def sell_under_strace(folder: Path, *options: str) -> tuple[list[str], str]:
    """What the seller said, and what strace saw."""
    strace = shutil.which("strace")
    assert strace is not None, "strace is one of the packages `make install` brings"
    trace = folder.with_suffix(".trace")
    ended = subprocess.run(
        [strace, "-f", "-o", trace, *options, sys.executable, "-c", SELLER, folder],
        capture_output=True,
        timeout=60,
        check=False,
    )
    return ended.stdout.decode().splitlines(), trace.read_text()


def test_an_append_is_exactly_one_fsync(tmp_path: Path) -> None:
    said, trace = sell_under_strace(tmp_path / "state", "-e", "trace=fsync,fdatasync,write")
    assert said[-1] == "end"
    for number in range(1, 4):
        part = trace.split('"append\\n"')[number + 1].split(f'"done {number}')[0]
        assert len(re.findall(r"f(?:data)?sync\(", part)) == 1


def test_what_was_acknowledged_is_there_after_a_kill_at_every_single_fsync(tmp_path: Path) -> None:
    kills = 0
    for nth in itertools.count(1):
        folder = tmp_path / f"state-{nth}"
        inject = f"inject=fsync,fdatasync:signal=KILL:when={nth}"
        said, _ = sell_under_strace(folder, "-e", "trace=fsync,fdatasync", "-e", inject)
        acknowledged = sum(line.startswith("done") for line in said)
        journal = opened(folder)
        assert acknowledged <= journal.position.last - 1 <= acknowledged + 1
        journal.close()
        if "end" in said:
            break
        kills += 1
    assert kills >= 5, "the file's creation, its epoch and each append have an fsync of their own"


def test_a_full_disk_is_a_fault_at_whichever_write_it_happens(tmp_path: Path) -> None:
    faults = 0
    for nth in (1, 4, 8, 12, 16, 20):
        folder = tmp_path / f"state-{nth}"
        inject = f"inject=pwrite64:error=ENOSPC:when={nth}+"
        # With a relative path nothing would be injected (docs/facts.md).
        paths = [str(folder / f"{FILE_NAME}{suffix}") for suffix in ("", "-wal", "-journal")]
        only = [option for path in paths for option in ("-P", path)]
        said, trace = sell_under_strace(folder, "-e", "trace=pwrite64", "-e", inject, *only)
        faults += any(line.startswith("fault SQLITE_") for line in said)
        assert ("INJECTED" in trace) == any(line.startswith("fault") for line in said)
        acknowledged = sum(line.startswith("done") for line in said)
        journal = opened(folder)
        assert journal.position.last - 1 >= acknowledged
        journal.close()
    assert faults >= 4


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("openat", "EROFS"),
        ("openat", "EIO"),
        ("pread64", "EIO"),
        ("pwrite64", "EROFS"),
        ("ftruncate", "ENOSPC"),
    ],
)
def test_a_disk_that_fails_at_the_opening_is_a_fault_and_no_reason_to_begin_anew(
    tmp_path: Path, call: str, error: str
) -> None:
    folder = tmp_path / "state"
    position = written(folder, sale("key-a"))
    paths = [str(folder / f"{FILE_NAME}{suffix}") for suffix in ("", "-wal", "-shm")]
    only = [option for path in paths for option in ("-P", path)]
    inject = f"inject={call}:error={error}:when=1+"
    said, trace = sell_under_strace(folder, "-e", f"trace={call}", "-e", inject, *only)
    assert "INJECTED" in trace
    assert said[0].startswith("fault SQLITE_") or said[1].startswith("fault SQLITE_")
    assert not any(line.startswith("done") for line in said)
    assert [path.name for path in folder.glob("*aside*")] == []
    journal = opened(folder)
    assert journal.position == position
    journal.close()
