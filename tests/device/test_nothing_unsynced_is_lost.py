"""What an operator may do at the appliance: none of it loses what waits for the cloud."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import pytest
from msgspec import structs

from device.journal.chain import FILE_NAME, FIRST_SCHEMA
from device.journal.journal import Journal, JournalFault
from device.journal.retention import DAY_MS
from device.till.entries import (
    CancelReason,
    Entry,
    LightShown,
    PolicyTaken,
    SaleAcceptedOffline,
    SaleCancelled,
    SaleOpened,
    SessionBegan,
    SessionEnded,
)
from protocol.money import Money
from tests.device.stage import EPOCH_MS, a_session, asking


def sale(key: str) -> SaleOpened:
    return structs.replace(asking().standing.sales[0].sale, key=key)


WAITING: tuple[Entry, ...] = (
    SessionBegan(a_session(), "t"),
    sale("key-offline"),
    SaleAcceptedOffline(
        key="key-offline",
        wallet_qr="qr",
        payer_id="payer-0002",
        token_id="token-1",
        token_expires_s=EPOCH_MS // 1000 + 90,
        amount=Money(500, "EUR"),
        scanned_at_ms=EPOCH_MS,
        accepted_at_ms=EPOCH_MS,
    ),
    LightShown("key-offline"),
    sale("key-cancel"),
    SaleCancelled("key-cancel", CancelReason.NO_REPLY),
)


def a_journal(folder: Path) -> Journal:
    return Journal(folder, fresh_epoch=lambda: "epoch-000000000000", wall_ms=lambda: EPOCH_MS)


def sign_out(folder: Path) -> None:
    with closing(a_journal(folder)) as journal:
        journal.open()
        journal.append(SessionEnded(a_session().session_id, "key-out"))


def sign_in_again_under_a_new_policy(folder: Path) -> None:
    with closing(a_journal(folder)) as journal:
        journal.open()
        journal.append(SessionEnded(a_session().session_id, "key-out"))
        journal.append(PolicyTaken(9, "signed.policy"))
        other = structs.replace(a_session(), session_id="session-9876543210")
        journal.append(SessionBegan(other, "t"))


def switch_off_and_on(folder: Path) -> None:
    for _ in range(3):
        with closing(a_journal(folder)) as journal:
            journal.open()


def pull_the_plug(folder: Path) -> None:
    """The file and its log as they are, to another process."""
    journal = a_journal(folder)
    journal.open()
    copies = {path: path.read_bytes() for path in folder.glob("journal.db*")}
    journal.close()
    for path, content in copies.items():
        path.write_bytes(content)


def update_from_the_first_release(folder: Path) -> None:
    path = folder / FILE_NAME
    with closing(sqlite3.connect(path)) as connection:
        kept = connection.execute("SELECT * FROM entries").fetchall()
    path.unlink()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(f"{FIRST_SCHEMA}PRAGMA user_version=1;")
        connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", kept)


def update_and_go_back(folder: Path) -> None:
    """The older program leaves a newer one's journal alone, whatever it would like to do."""
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        connection.execute("PRAGMA user_version=3")
    with closing(a_journal(folder)) as journal, pytest.raises(JournalFault):
        journal.open()
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        connection.execute("PRAGMA user_version=2")


def leave_it_in_a_drawer(folder: Path) -> None:
    with closing(a_journal(folder)) as journal:
        journal.open()
        journal.rest(EPOCH_MS)
        for _ in range(20):
            journal.rest(EPOCH_MS + 3000 * DAY_MS)


def delete_the_journal_beside_one_set_aside(folder: Path) -> None:
    (folder / FILE_NAME).rename(folder / "journal-set-aside-1.db")


@pytest.mark.parametrize(
    "does",
    [
        sign_out,
        sign_in_again_under_a_new_policy,
        switch_off_and_on,
        pull_the_plug,
        update_from_the_first_release,
        update_and_go_back,
        leave_it_in_a_drawer,
        delete_the_journal_beside_one_set_aside,
    ],
)
def test_what_waits_for_the_cloud_waits_after_whatever_an_operator_does(
    tmp_path: Path, does: Callable[[Path], None]
) -> None:
    with closing(a_journal(tmp_path)) as journal:
        journal.open()
        journal.append(*WAITING)
        before = journal.standing
    does(tmp_path)
    with closing(a_journal(tmp_path)) as journal:
        after = journal.open()
    assert [each.sale.key for each in after.sales] == ["key-offline", "key-cancel"]
    (unsynced,) = after.unsynced
    (was,) = before.unsynced
    for field in fields(unsynced):
        if field.name != "number":
            assert getattr(unsynced, field.name) == getattr(was, field.name)
    assert after.sales[1].is_cancelled
    assert after.spell.count == 1
    assert after.record.has_taken("token-1")
