import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import delete, event, insert, select, update
from uuid_utils.compat import uuid7

from cloud.audit import sequencer
from cloud.audit.kept import HISTORY, keep, read_kept
from cloud.audit.sequencer import Busy, DamagedTreeError, Drained, RolledBack, drain
from cloud.audit.verify import Fault
from cloud.operations.proof.begin_epoch import begin_new_epoch
from cloud.operations.proof.sequence_records import (
    NewestCheckpoint,
    SequencerThread,
    sequence_records,
)
from cloud.store.letters import PosReceipt, read_letter
from cloud.store.records import AuditRow, await_tree, insert_records, write_audit_records
from cloud.store.tables import (
    audit_checkpoints,
    audit_leaves,
    audit_pending,
    letters,
    products,
    restores,
    users,
)
from protocol.checkpoint import (
    Checkpoint,
    open_checkpoint,
    read_checkpoint,
    sign_checkpoint,
)
from protocol.messages import HeartbeatAnswered
from tests.cloud.audit.log import Log
from tests.cloud.floor import EVENT, eur


def test_everything_that_was_written_is_in_the_tree_and_sound(log: Log) -> None:
    till, guest = log.floor.add_till(), log.floor.add_guest()
    log.sell(till, guest, 3)
    before = log.verify()
    assert (before.is_sound, before.unproven, before.leaves) == (True, 7, 0)

    first, second, *_ = log.sequence()
    assert (first.leaves, second.leaves) == (1, 7)
    after = log.verify(log.kept())
    assert after.findings == []
    assert (after.leaves, after.unproven, after.epochs) == (8, 0, 1)
    assert log.count_pending() == 0

    log.sell(till, guest)
    unproven = log.verify(log.kept())
    assert (unproven.unproven, unproven.unproven_since) == (2, log.floor.now())
    log.sequence()
    assert log.verify(log.kept()).leaves == 10


def test_nothing_new_signs_nothing(log: Log) -> None:
    log.sequence()
    kept = log.kept()
    log.floor.pass_time(seconds=60)
    assert [each.checkpoint for each in log.sequence()] == [None]
    assert log.kept() == kept


def test_the_first_epoch_takes_in_what_was_never_pending(log: Log) -> None:
    """As everything that was written before there was a tree."""
    till, guest = log.floor.add_till(), log.floor.add_guest()
    log.sell(till, guest, 2)
    with log.floor.database.transaction() as connection:
        connection.execute(delete(audit_pending))
    log.sequence()
    verdict = log.verify(log.kept())
    assert (verdict.is_sound, verdict.leaves, verdict.unproven) == (True, 6, 0)


def test_a_small_batch_leaves_the_rest_to_the_next(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequencer, "ROWS_MAX", 3)
    monkeypatch.setattr(sequencer, "LEAVES_ENOUGH", 2)
    till, guest = log.floor.add_till(), log.floor.add_guest()
    log.sell(till, guest, 4)
    rounds = log.sequence()
    assert max(each.leaves for each in rounds) <= 3
    assert sum(each.leaves for each in rounds) == log.count_leaves() == 10
    assert log.verify(log.kept()).checkpoints == len([each for each in rounds if each.leaves])


def test_what_commits_late_with_a_lower_id_is_taken_in(log: Log) -> None:
    early = str(uuid7())
    pending_early = uuid7()
    record_refused(log)
    log.sequence()
    with log.floor.database.transaction() as connection:
        insert_records(connection, [(early, refused_row(log))])
        connection.execute(
            insert(audit_pending).values(
                pending_id=pending_early, records=UUID(early).bytes, transactions=b""
            )
        )
    log.sequence()
    verdict = log.verify(log.kept())
    assert (verdict.is_sound, verdict.leaves, verdict.unproven) == (True, 3, 0)


def test_what_is_named_twice_is_taken_in_once(log: Log) -> None:
    log.sequence()
    record = str(uuid7())
    with log.floor.database.transaction() as connection:
        insert_records(connection, [(record, refused_row(log))])
        await_tree(connection, records=[record, record])
    log.sequence()
    with log.floor.database.transaction() as connection:
        await_tree(connection, records=[record])
    log.sequence()
    assert (log.count_leaves(), log.count_pending()) == (2, 0)
    assert log.verify(log.kept()).is_sound


def test_a_sequencer_cut_off_at_any_statement_leaves_nothing_half_done(log: Log) -> None:
    till, guest = log.floor.add_till(), log.floor.add_guest()
    cuts = 0
    for at in range(1, 40):
        log.sell(till, guest)
        with cut_off(log, at) as was_cut:
            try:
                sequence(log)
            except CutError:
                cuts += 1
        verdict = log.verify(*([log.kept()] if log.checkpoint_file.exists() else []))
        assert verdict.findings == [], at
        if not was_cut:
            break
        guest = log.floor.add_guest()
    else:
        raise AssertionError("the sequencer never came to its end")
    assert cuts > 5
    log.sequence()
    verdict = log.verify(log.kept())
    assert (verdict.is_sound, verdict.unproven) == (True, 0)


class CutError(Exception):
    """The power is gone."""


@contextmanager
def cut_off(log: Log, at: int) -> Generator[list[str]]:
    """The power goes before the `at`-th statement: what it was."""
    seen: list[str] = []
    was_cut: list[str] = []

    def look(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)
        if len(seen) == at:
            was_cut.append(statement)
            raise CutError(statement)

    event.listen(log.floor.database.engine, "before_cursor_execute", look)
    try:
        yield was_cut
    finally:
        event.remove(log.floor.database.engine, "before_cursor_execute", look)


def test_two_sequencers_at_once_take_in_everything_once(log: Log) -> None:
    till, guest = log.floor.add_till(), log.floor.add_guest(2000)
    log.sell(till, guest, 3)
    faults: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(6):
                sequence(log)
        except BaseException as error:  # noqa: BLE001  # told to the test
            faults.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert faults == []
    log.sequence()
    assert (log.count_leaves(), log.count_pending()) == (8, 0)
    assert log.verify(log.kept()).is_sound


@pytest.mark.postgres
def test_a_second_sequencer_stands_by_while_one_works(log: Log) -> None:
    if log.floor.database.dialect == "sqlite":
        # Its one writer is the lock: the second waits, and finds nothing left.
        log.sequence()
        return
    now, signer = log.floor.now(), log.floor.keys.checkpoint
    with log.floor.database.transaction() as first:
        assert isinstance(drain(first, signer, now), Drained)
        with log.floor.database.transaction() as second:
            assert isinstance(drain(second, signer, now), Busy)


def test_a_database_that_was_put_back_is_not_built_upon(log: Log, tmp_path: Path) -> None:
    till, guest = log.floor.add_till(), log.floor.add_guest()
    log.sequence()
    known = log.count_leaves()
    log.sell(till, guest)
    log.sequence()
    kept = log.kept()
    put_back(log, known)
    log.sell(till, guest)
    done = sequence(log)
    assert isinstance(done, RolledBack)
    assert (done.kept.size, log.count_leaves(), log.kept()) == (known + 2, known, kept)
    assert log.faults(kept) == [Fault.ROLLED_BACK]

    token = begin_new_epoch(
        log.floor.database,
        log.floor.keys,
        "restored from the night's backup",
        actor="system:ana",
        backup_at=log.floor.now() - timedelta(hours=6),
        checkpoint_file=log.checkpoint_file,
        now=log.floor.now(),
    )
    log.sequence()
    began = read_checkpoint(token)
    assert began is not None
    assert (began.epoch, began.size) == (2, 1)
    verdict = log.verify(log.kept())
    assert (verdict.is_sound, verdict.epochs, verdict.unproven) == (True, 2, 0)
    # Whoever kept the old one still sees it, and reads why.
    [finding] = log.verify(kept).findings
    assert finding.fault is Fault.ROLLED_BACK
    assert "restored from the night's backup" in finding.detail
    [first, second] = log.floor.audit(action="audit_epoch_began")
    assert (first.detail["epoch"], second.detail["previous"]["size"]) == (1, known)
    with log.floor.database.reading() as connection:
        assert connection.execute(select(restores.c.reason)).scalars().all() == [
            "restored from the night's backup"
        ]


def put_back(log: Log, size: int) -> None:
    """As from a backup that was made when the tree had this size; what was sold since is gone."""
    with log.superuser() as connection:
        gone = connection.execute(select(audit_leaves).where(audit_leaves.c.position >= size)).all()
        for leaf in gone:
            for table in ("audit_records", "credit_transactions"):
                record = leaf.record_id
                named = record.hex if connection.dialect.name == "sqlite" else str(record)
                connection.exec_driver_sql(f"DELETE FROM {table} WHERE id = '{named}'")
        connection.execute(delete(audit_leaves).where(audit_leaves.c.position >= size))
        connection.execute(delete(audit_checkpoints).where(audit_checkpoints.c.size > size))
        connection.execute(delete(audit_pending))


def test_a_damaged_checkpoint_is_not_built_upon(log: Log) -> None:
    log.sequence()
    with log.superuser() as connection:
        connection.execute(update(audit_checkpoints).values(root=b"x" * 32))
    with pytest.raises(DamagedTreeError, match="audit verify"):
        sequence(log)


def test_another_tree_than_the_one_kept_is_not_built_upon(log: Log) -> None:
    log.sequence()
    standing = read_kept(log.checkpoint_file)
    assert standing is not None
    signer = log.floor.keys.checkpoint
    other = msgspec.structs.replace(standing[1], root="A" * 43)
    log.checkpoint_file.write_text(sign_checkpoint(other, signer.private, signer.kid))
    record_refused(log)
    done = sequence(log)
    assert isinstance(done, RolledBack)
    assert done.found == "another tree at that size"
    assert log.count_leaves() == 1


def test_the_thread_says_a_fault_once_and_goes_on_when_it_is_mended(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    thread = SequencerThread(
        log.floor.database,
        log.floor.keys,
        log.floor.now,
        every_s=0.05,
        checkpoint_file=log.checkpoint_file,
    )
    log.checkpoint_file.parent.mkdir()
    log.checkpoint_file.write_text("not a checkpoint")
    for _ in range(3):
        thread._sequence()
    assert capsys.readouterr().out.count("not_sequenced") == 1
    log.checkpoint_file.unlink()
    thread.start()
    assert thread.is_alive
    thread.stop()
    assert log.verify(log.kept()).is_sound
    assert log.count_leaves() == 1


def test_a_heartbeat_brings_the_newest_checkpoint(log: Log) -> None:
    log.sequence()
    newest = NewestCheckpoint(log.floor.database, 60)
    assert newest() is None
    newest.refresh()
    log.floor.desk = type(log.floor.desk)(
        log.floor.database, log.floor.keys, log.floor.now, newest_checkpoint=newest
    )
    till = log.floor.add_till()
    answer = log.floor.ask_one(till, till.heartbeat())
    assert isinstance(answer, HeartbeatAnswered)
    assert answer.checkpoint == log.kept()
    opened = open_checkpoint(log.kept(), log.find_key)
    assert isinstance(opened, Checkpoint)
    assert (opened.epoch, opened.size) == (1, 1)


def test_the_thread_that_asks_for_checkpoints_ends(log: Log) -> None:
    log.sequence()
    newest = NewestCheckpoint(log.floor.database, 60)
    newest.start()
    newest.stop()
    assert newest() == log.kept()


def test_who_asked_for_receipts_gets_one_a_sale_and_one_a_refund(log: Log) -> None:
    till, guest, other = log.floor.add_till(), log.floor.add_guest(), log.floor.add_guest()
    with log.floor.database.transaction() as connection:
        connection.execute(
            update(users)
            .where(users.c.user_id == UUID(guest.user_id))
            .values(email="ana@example.org", pos_receipts=True)
        )
        connection.execute(
            update(users)
            .where(users.c.user_id == UUID(other.user_id))
            .values(email="bob@example.org")
        )
        connection.execute(
            insert(products).values(
                event_id=EVENT, stall_id="bar", number=1, name="Lemonade", price_in_cents=350
            )
        )
    log.sell(till, other)
    sale = till.deduct(log.floor.qr(guest))
    log.floor.ask(till, sale)
    log.sequence()
    log.floor.ask(till, till.cancel(sale))
    log.sequence()
    log.sequence()
    with log.floor.database.reading() as connection:
        posted = connection.execute(select(letters).order_by(letters.c.letter_id)).all()
    assert [each.to_address for each in posted] == ["ana@example.org"] * 2
    sold, refunded = (read_letter(each.content) for each in posted)
    assert isinstance(sold, PosReceipt)
    assert isinstance(refunded, PosReceipt)
    assert (sold.is_refund, refunded.is_refund) == (False, True)
    assert (sold.amount, sold.stall_name, sold.event_name) == (eur(350), "Bar", "Summer fair")
    assert [(each.name, each.quantity) for each in sold.lines] == [("Lemonade", 1)]


def test_no_receipt_comes_days_after(log: Log) -> None:
    till, guest = log.floor.add_till(), log.floor.add_guest()
    with log.floor.database.transaction() as connection:
        connection.execute(update(users).values(email="ana@example.org", pos_receipts=True))
    log.sell(till, guest)
    log.floor.pass_time(days=2)
    log.sequence()
    with log.floor.database.reading() as connection:
        assert connection.execute(select(letters)).all() == []


def test_an_older_checkpoint_never_replaces_a_newer_one(log: Log, tmp_path: Path) -> None:
    log.sequence()
    old = log.kept()
    record_refused(log)
    log.sequence()
    new = log.kept()
    path = tmp_path / "elsewhere" / "checkpoint.jws"
    assert [keep(path, each) for each in (new, old, new)] == [True, False, False]
    standing = read_kept(path)
    assert standing is not None
    assert standing[0] == new
    assert len(path.with_name(HISTORY).read_text().splitlines()) == 1


def sequence(log: Log) -> Any:
    return sequence_records(
        log.floor.database, log.floor.keys, log.floor.now(), log.checkpoint_file
    )


def refused_row(log: Log) -> AuditRow:
    return AuditRow(at=log.floor.now(), actor="system:test", action="noted", outcome="done")


def record_refused(log: Log) -> None:
    with log.floor.database.transaction() as connection:
        write_audit_records(connection, [refused_row(log)])
