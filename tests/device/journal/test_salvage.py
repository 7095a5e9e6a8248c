import itertools
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs

from device.journal.chain import FILE_NAME
from device.journal.journal import Journal, JournalFault
from device.journal.salvage import KEPT_MAX, files_set_aside
from device.till.entries import (
    CancelReason,
    Entry,
    EpochBegan,
    LightShown,
    MessageClosed,
    RefundAnswered,
    RefundOpened,
    SaleAcceptedOffline,
    SaleAnswered,
    SaleCancelled,
    SaleOpened,
    SessionEnded,
    decode,
    key_of,
)
from protocol.messages import Reason, SaleName
from protocol.money import Money
from tests.device.stage import EPOCH_MS, approved, asking, declined

EPOCHS = itertools.count(1)


def sale(key: str) -> SaleOpened:
    return structs.replace(asking().standing.sales[0].sale, key=key)


def accepted(key: str) -> tuple[Entry, ...]:
    return sale(key), SaleAcceptedOffline(
        key=key,
        wallet_qr="qr",
        payer_id="payer-0002",
        token_id=f"token-{key}",
        token_expires_s=EPOCH_MS // 1000 + 90,
        amount=Money(500, "EUR"),
        scanned_at_ms=EPOCH_MS,
        accepted_at_ms=EPOCH_MS,
    )


def cancelled(key: str) -> tuple[Entry, ...]:
    return sale(key), SaleCancelled(key, CancelReason.NO_REPLY)


def refund(key: str) -> RefundOpened:
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
        at_ms=EPOCH_MS,
    )


OWED = (
    *accepted("key-offline"),
    LightShown("key-offline"),
    *cancelled("key-cancel"),
    refund("key-refund"),
    SessionEnded("session-0123456789", "key-out"),
)
NOT_OWED = (
    *(sale("key-undecided"), sale("key-approved"), SaleAnswered("key-approved", approved(), "t")),
    *(*accepted("key-posted"), MessageClosed("key-posted", "offline_acceptance", "t")),
    *(*cancelled("key-gone"), MessageClosed("key-gone", "cancel", "t")),
    refund("key-refused"),
    RefundAnswered("key-refused", declined(Reason.SALE_UNKNOWN), "t"),
)
KEYS = {"key-offline", "key-cancel", "key-refund", "key-out"}


def a_journal(folder: Path) -> Journal:
    return Journal(
        folder, fresh_epoch=lambda: f"epoch-{next(EPOCHS):012d}", wall_ms=lambda: EPOCH_MS
    )


def written(folder: Path, *entries: Entry) -> None:
    with closing(a_journal(folder)) as journal:
        journal.open()
        for entry in entries:
            journal.append(entry)


def entries_of(folder: Path) -> list[Entry]:
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        rows = connection.execute("SELECT body FROM entries ORDER BY number").fetchall()
    return [decode(body) for (body,) in rows]


def break_chain(folder: Path) -> None:
    tamper(folder, "UPDATE entries SET head = zeroblob(32) WHERE number = 2")


def tamper(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / FILE_NAME, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER entries_stay")
        connection.execute("DROP TRIGGER entries_never_change")
        connection.execute(statement)


def opened(folder: Path) -> tuple[EpochBegan, list[Entry]]:
    """The first entry of the new epoch, and the rest."""
    with closing(a_journal(folder)) as journal:
        journal.open()
    first, *rest = entries_of(folder)
    assert isinstance(first, EpochBegan)
    return first, rest


def test_what_the_cloud_is_owed_begins_the_new_epoch_word_for_word(tmp_path: Path) -> None:
    written(tmp_path, *OWED, *NOT_OWED)
    break_chain(tmp_path)
    began, carried = opened(tmp_path)
    assert [each for each in carried if key_of(each) in KEYS] == list(OWED)
    assert "entry 2 does not follow; 4 carried over, 0 entries unreadable" in began.after
    with closing(a_journal(tmp_path)) as journal:
        standing = journal.open()
        assert [each.sale.key for each in standing.sales] == ["key-offline", "key-cancel"]
        assert standing.spell.count == 2
        assert standing.record.has_taken("token-key-offline")
        assert journal.position.settled_below == 2


def test_a_code_that_paid_and_the_spells_limits_outlive_a_damage(tmp_path: Path) -> None:
    """Nothing of it is owed; but the next epoch would take the code, and the money, once more."""
    paid = structs.replace(approved(), token_id="token-approved")
    closed = MessageClosed("key-posted", "offline_acceptance", "t", is_posting=True)
    before = (*accepted("key-before"), MessageClosed("key-before", "offline_acceptance", "t"))
    spell = (*accepted("key-offline"), *accepted("key-posted"), closed)
    sold = (sale("key-approved"), SaleAnswered("key-approved", paid, "t"), LightShown("key-a"))
    for _ in range(3):
        written(tmp_path, *before, *sold, *spell)
        before = sold = spell = ()
        break_chain(tmp_path)
    opened(tmp_path)
    with closing(a_journal(tmp_path)) as journal:
        standing = journal.open()
    assert (standing.spell.count, standing.spell.sum_in_cents) == (2, 1000)
    assert standing.spell.unanswered == ("key-offline",)
    assert standing.spell.payer("payer-0002").count == 2
    taken = {each.token_id for each in standing.record.tokens}
    assert taken >= {"token-approved", "token-key-offline", "token-key-posted"}
    assert [each.sale.key for each in standing.sales] == ["key-offline"]


def test_a_sale_that_may_have_been_green_is_not_cancelled(tmp_path: Path) -> None:
    """Whether its answer stood in an unreadable entry nobody can tell: the cloud's people look."""
    written(tmp_path, sale("key-a"), SaleAnswered("key-a", approved(), "t"), LightShown("key-a"))
    tamper(tmp_path, "UPDATE entries SET body = x'00' WHERE number = 3")
    began, carried = opened(tmp_path)
    assert carried == []
    assert "1 entries unreadable" in began.after


@pytest.mark.parametrize("lost", range(2, 9))
def test_any_one_unreadable_entry_loses_no_other(tmp_path: Path, lost: int) -> None:
    written(tmp_path, *OWED)
    hidden = key_of(OWED[lost - 2])
    tamper(tmp_path, f"UPDATE entries SET body = x'00' WHERE number = {lost}")
    _, carried = opened(tmp_path)
    assert {key_of(each) for each in carried} >= KEYS - {hidden}


def test_a_broken_page_hides_its_own_entries_and_no_more(tmp_path: Path) -> None:
    count = 300
    with closing(a_journal(tmp_path)) as journal:
        journal.open()
        for number in range(count):
            journal.append(*accepted(f"key-{number:03d}"))
        journal._since_checkpoint = 10_000
        journal.rest()
    path = tmp_path / FILE_NAME
    content = bytearray(path.read_bytes())
    middle = len(content) // 8192 * 4096
    content[middle : middle + 4096] = b"\xff" * 4096
    path.write_bytes(content)
    began, carried = opened(tmp_path)
    keys = {key_of(each) for each in carried}
    assert count - 20 <= len(keys) < count, began.after
    assert {"key-000", f"key-{count - 1:03d}"} <= keys


def test_the_power_may_go_between_setting_aside_and_the_new_epoch(tmp_path: Path) -> None:
    written(tmp_path, *OWED)
    (tmp_path / FILE_NAME).rename(tmp_path / "journal-set-aside-1.db")
    began, carried = opened(tmp_path)
    assert carried == list(OWED)
    assert began.after.startswith("no file")


def test_a_second_damage_loses_nothing_of_the_first(tmp_path: Path) -> None:
    written(tmp_path, *OWED)
    break_chain(tmp_path)
    opened(tmp_path)
    written(tmp_path, MessageClosed("key-cancel", "cancel", "t"), *accepted("key-second"))
    (tmp_path / FILE_NAME).with_name("journal.db-wal").unlink(missing_ok=True)
    tamper(tmp_path, "UPDATE entries SET body = x'00' WHERE number = 3")
    _, carried = opened(tmp_path)
    keys = {key_of(each) for each in carried}
    assert keys == (KEYS - {"key-cancel"}) | {"key-second"}
    assert len(carried) == len(set(carried)), "each once, although two files hold it"


def overwritten(content: bytes) -> bytes:
    return b"no database" * len(content)


def cut_short(content: bytes) -> bytes:
    return content[:4096]


@pytest.mark.parametrize("spoil", [overwritten, cut_short])
def test_a_file_that_cannot_be_read_at_all_keeps_no_stall_closed(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    written(tmp_path, *OWED)
    path = tmp_path / FILE_NAME
    path.write_bytes(spoil(path.read_bytes()))
    began, carried = opened(tmp_path)
    assert carried == []
    assert "journal-set-aside-1.db" in began.after


def test_few_files_are_kept_and_each_that_holds_what_is_owed(tmp_path: Path) -> None:
    for number in range(KEPT_MAX + 3):
        entries = OWED if number == 0 else (*accepted(f"key-{number}"),)
        closed = () if number == 0 else (MessageClosed(f"key-{number}", "offline_acceptance", ""),)
        written(tmp_path / "one", *entries, *closed)
        (tmp_path / "one" / FILE_NAME).rename(tmp_path / f"journal-set-aside-{number + 1}.db")
    opened(tmp_path)
    kept = [path.name for path in files_set_aside(tmp_path)]
    assert kept == [f"journal-set-aside-{number}.db" for number in (1, 4, 5, 6, 7, 8)]


def test_a_new_epoch_that_cannot_be_written_is_tried_again_with_all_that_is_owed(
    tmp_path: Path,
) -> None:
    written(tmp_path, *OWED)
    break_chain(tmp_path)

    def fail(moment: str, _entries: tuple[Entry, ...]) -> None:
        if moment == "before":
            raise sqlite3.OperationalError("injected")

    failing = a_journal(tmp_path)
    failing._on_commit = fail
    with pytest.raises(JournalFault):
        failing.open()
    _, carried = opened(tmp_path)
    assert carried == list(OWED)
