"""A superuser drops the triggers and writes past every rule: it is found, and named."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Column, Connection, Table, delete, insert, select, update
from uuid_utils.compat import uuid7

from cloud.audit.leaves import LeafKind, find_rows, leaf_of
from cloud.audit.merkle import Frontier
from cloud.audit.verify import Fault
from cloud.operations.proof.reconcile import reconcile
from cloud.store.tables import (
    audit_checkpoints,
    audit_epochs,
    audit_leaves,
    audit_pending,
    audit_records,
    credit_transactions,
    credit_wallets,
    users,
)
from protocol.checkpoint import Checkpoint, read_checkpoint, sign_checkpoint
from protocol.encoding import to_base64url
from tests.cloud.audit.log import Log
from tests.cloud.floor import Guest

SOMEBODY = UUID(int=7)


@pytest.fixture
def guest(log: Log) -> Guest:
    """Whose sales, and one that was taken back, are all in the tree."""
    till, guest = log.floor.add_till(), log.floor.add_guest(paid=True)
    log.sell(till, guest)
    sale = till.deduct(log.floor.qr(guest))
    log.floor.ask(till, sale)
    log.floor.ask(till, till.cancel(sale))
    log.sequence()
    assert log.verify(log.kept()).is_sound
    assert reconcile(log.floor.database).is_sound
    return guest


def other(column: Column[Any], value: Any) -> Any:
    """Some other value that this column takes."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case datetime():
            return value + timedelta(microseconds=1)
        case UUID():
            return SOMEBODY
        case bytes():
            return bytes([value[0] ^ 1]) + value[1:]
        case str():
            return {"in": "out", "out": "in"}.get(
                value, ("x" if value[0] != "x" else "y") + value[1:]
            )
        case list() | dict():
            return None
        case None:
            return EMPTY[column.name]
        case _:
            raise AssertionError(f"no other value for {value!r}")


NOW = datetime(2026, 6, 20, 18, 0, tzinfo=UTC)
EMPTY = {
    "reversal_of_transaction_id": SOMEBODY,
    "order_id": SOMEBODY,
    "user_id": SOMEBODY,
    "event_id": "elsewhere",
    "stall_id": "elsewhere",
    "device_id": "till-9",
    "staff_id": "bob",
    "subject": "nothing",
    "request_hash": "A" * 43,
    "detail": {"flags": ["forged"]},
    "lines": [],
    "accepted_offline_at": datetime(2026, 6, 20, tzinfo=UTC),
}


@pytest.fixture
def somebody(log: Log) -> None:
    with log.superuser() as connection:
        connection.execute(insert(users).values(user_id=SOMEBODY, payer_id="x", created_at=NOW))


@contextmanager
def changed(log: Log, table: Table, row: Any, column: Column[Any], value: Any) -> Generator[None]:
    """The row with this column's value changed, until the block ends."""
    before = row._asdict()
    after = before | {column.name: value}
    with log.superuser() as connection:
        connection.execute(_found(update(table), table, before).values({column.name: value}))
    yield
    with log.superuser() as connection:
        connection.execute(
            _found(update(table), table, after).values({column.name: before[column.name]})
        )


def _found(statement: Any, table: Table, row: dict[str, Any]) -> Any:
    return statement.where(*(each == row[each.name] for each in table.primary_key))


@pytest.mark.parametrize("table", [credit_transactions, audit_records], ids=lambda each: each.name)
def test_changing_any_column_is_found_and_its_row_named(
    log: Log, guest: Guest, somebody: None, table: Table
) -> None:
    kind = LeafKind.TRANSACTION if table is credit_transactions else LeafKind.AUDIT
    with log.floor.database.reading() as connection:
        statement = select(table).where(_is_deduct(table)).order_by(table.c.id).limit(1)
        row = connection.execute(statement).one()
    for column in table.columns:
        with changed(log, table, row, column, other(column, getattr(row, column.name))):
            first = log.verify().first
        assert first is not None, column.name
        assert (first.kind, first.record_id) == (kind, str(row.id)), column.name
        is_identity = column.name == "id" or (column.primary_key and column.name == "user_id")
        assert first.fault is (Fault.REMOVED if is_identity else Fault.CHANGED), column.name
    assert log.verify(log.kept()).is_sound


def test_changing_any_column_of_a_leaf_is_found_and_its_record_named(
    log: Log, guest: Guest
) -> None:
    changes: dict[str, Any] = {"position": 1_000_000, "kind": "audit", "epoch": 2}
    with log.floor.database.reading() as connection:
        row = connection.execute(
            select(audit_leaves)
            .where(audit_leaves.c.kind == "transaction")
            .order_by(audit_leaves.c.position)
            .limit(1)
        ).one()
    for column in audit_leaves.columns:
        value = changes.get(column.name, other(column, getattr(row, column.name)))
        with changed(log, audit_leaves, row, column, value):
            verdict = log.verify()
        named = {each.record_id for each in verdict.findings}
        assert str(row.record_id) in named, column.name
    assert log.verify(log.kept()).is_sound


@pytest.mark.parametrize("table", [audit_checkpoints, audit_epochs], ids=lambda each: each.name)
def test_changing_any_column_of_a_checkpoint_or_an_epoch_is_found(
    log: Log, guest: Guest, table: Table
) -> None:
    changes: dict[str, Any] = {"epoch": 2, "size": 3}
    with log.floor.database.reading() as connection:
        row = connection.execute(select(table).order_by(*table.primary_key).limit(1)).one()
    for column in table.columns:
        value = changes.get(column.name, other(column, getattr(row, column.name)))
        with changed(log, table, row, column, value):
            assert log.faults(log.kept()) != [], column.name
    assert log.verify(log.kept()).is_sound


def test_changing_any_column_of_a_wallet_is_found_and_the_wallet_named(
    log: Log, guest: Guest, somebody: None
) -> None:
    changes = {"currency": "CHF"}
    with log.floor.database.reading() as connection:
        row = connection.execute(select(credit_wallets)).one()
    for column in credit_wallets.columns:
        value = changes.get(column.name, other(column, getattr(row, column.name)))
        with changed(log, credit_wallets, row, column, value):
            found = reconcile(log.floor.database)
        named = [str(each.user_id) for each in found.differences]
        told = " ".join([*named, *map(str, found.discrepancies)])
        assert guest.user_id in told, column.name
    assert reconcile(log.floor.database).is_sound


@pytest.mark.parametrize("table", [credit_transactions, audit_records], ids=lambda each: each.name)
def test_a_row_that_was_added_is_named(log: Log, guest: Guest, table: Table) -> None:
    forged = uuid7()
    with log.superuser() as connection:
        row = connection.execute(
            select(table).where(_is_deduct(table)).order_by(table.c.id).limit(1)
        ).one()
        connection.execute(insert(table).values(**(row._asdict() | {"id": forged})))
    first = log.verify().first
    assert first is not None
    assert (first.fault, first.record_id) == (Fault.ADDED, str(forged))


def test_the_same_id_under_another_user_is_another_transaction(log: Log, guest: Guest) -> None:
    with log.superuser() as connection:
        row = connection.execute(select(credit_transactions).limit(1)).one()
        connection.execute(
            insert(credit_transactions).values(**(row._asdict() | {"user_id": SOMEBODY}))
        )
    assert log.faults() == [Fault.ADDED]


@pytest.mark.parametrize("table", [credit_transactions, audit_records], ids=lambda each: each.name)
def test_a_row_that_was_removed_is_named(log: Log, guest: Guest, table: Table) -> None:
    with log.superuser() as connection:
        gone = connection.execute(
            select(table.c.id).where(_is_deduct(table)).order_by(table.c.id).limit(1)
        ).scalar_one()
        connection.execute(delete(table).where(table.c.id == gone))
    first = log.verify().first
    assert first is not None
    assert (first.fault, first.record_id) == (Fault.REMOVED, str(gone))


def test_a_row_removed_before_the_tree_took_it_in_is_named_then_and_ever_after(
    log: Log, guest: Guest
) -> None:
    till = log.floor.add_till("till-2")
    log.sell(till, guest)
    with log.superuser() as connection:
        newest = select(audit_records.c.id).order_by(audit_records.c.id.desc()).limit(1)
        gone = connection.execute(newest).scalar_one()
        connection.execute(delete(audit_records).where(audit_records.c.id == gone))
    for _ in range(2):
        first = log.verify().first
        assert first is not None
        assert (first.fault, first.record_id) == (Fault.REMOVED, str(gone))
        log.sequence()
    [record] = log.floor.audit(action="audit_record_missing")
    assert record.subject == str(gone)


@pytest.mark.parametrize("with_leaves", [False, True])
def test_deleting_the_newest_records_is_found(log: Log, guest: Guest, with_leaves: bool) -> None:
    with log.superuser() as connection:
        last = connection.execute(
            select(audit_leaves).order_by(audit_leaves.c.position.desc()).limit(2)
        ).all()
        for leaf in last:
            connection.execute(delete(audit_records).where(audit_records.c.id == leaf.record_id))
            connection.execute(
                delete(credit_transactions).where(credit_transactions.c.id == leaf.record_id)
            )
            if with_leaves:
                connection.execute(
                    delete(audit_leaves).where(audit_leaves.c.record_id == leaf.record_id)
                )
    first = log.verify().first
    assert first is not None
    assert first.fault is Fault.REMOVED
    assert first.position in {leaf.position for leaf in last}


def test_deleting_the_newest_with_their_checkpoint_shows_against_the_one_kept(
    log: Log, guest: Guest
) -> None:
    kept = log.kept()
    till = log.floor.add_till("till-2")
    known = log.count_leaves()
    log.sell(till, guest)
    log.sequence()
    assert log.verify(kept, log.kept()).is_sound
    with log.superuser() as connection:
        for leaf in connection.execute(
            select(audit_leaves).where(audit_leaves.c.position >= known)
        ).all():
            connection.execute(delete(audit_records).where(audit_records.c.id == leaf.record_id))
            connection.execute(
                delete(credit_transactions).where(credit_transactions.c.id == leaf.record_id)
            )
        connection.execute(delete(audit_leaves).where(audit_leaves.c.position >= known))
        connection.execute(delete(audit_checkpoints).where(audit_checkpoints.c.size > known))
        connection.execute(
            update(credit_wallets).values(balance_in_cents=credit_wallets.c.balance_in_cents + 350)
        )
    assert log.faults() == []
    verdict = log.verify(log.kept())
    assert [each.fault for each in verdict.findings] == [Fault.ROLLED_BACK]
    assert f"{known} leaves here" in verdict.findings[0].detail
    assert log.faults(kept) == []


def test_a_tree_rebuilt_over_an_edited_row_shows_against_the_one_kept(
    log: Log, guest: Guest
) -> None:
    """They have every key, too: the row, the balance, the leaves and the signatures all agree."""
    with log.superuser() as connection:
        row = connection.execute(
            select(credit_transactions).where(credit_transactions.c.type == "Purchase")
        ).one()
        connection.execute(
            update(credit_transactions)
            .where(credit_transactions.c.id == row.id)
            .values(reference="forged")
        )
        rebuild(connection, log)
    assert reconcile(log.floor.database).is_sound
    assert log.faults() == []
    assert log.faults(log.kept()) == [Fault.REWRITTEN]


def test_an_edited_sale_with_its_balance_mended_is_named(log: Log, guest: Guest) -> None:
    with log.superuser() as connection:
        row = connection.execute(
            select(credit_transactions)
            .where(credit_transactions.c.type == "Deduct")
            .order_by(credit_transactions.c.id)
            .limit(1)
        ).one()
        connection.execute(
            update(credit_transactions)
            .where(credit_transactions.c.id == row.id)
            .values(amount_in_cents=50)
        )
        connection.execute(
            update(credit_wallets).values(balance_in_cents=credit_wallets.c.balance_in_cents + 300)
        )
    assert reconcile(log.floor.database).is_balanced
    first = log.verify().first
    assert first is not None
    assert (first.fault, first.record_id) == (Fault.CHANGED, str(row.id))


def test_checkpoints_signed_with_another_key_do_not_count(log: Log, guest: Guest) -> None:
    with log.superuser() as connection:
        rebuild(connection, log, log.floor.keys.reply)
    assert set(log.faults()) == {Fault.TREE}
    assert Fault.UNSIGNED in log.faults("not.a.token")


def test_a_whole_tree_that_is_gone_shows_against_the_one_kept(log: Log, guest: Guest) -> None:
    with log.superuser() as connection:
        for table in (audit_checkpoints, audit_leaves, audit_epochs, audit_pending):
            connection.execute(delete(table))
    assert log.faults(log.kept()) == [Fault.ROLLED_BACK]


def test_a_leaf_of_an_epoch_that_never_began_hides_nothing(log: Log, guest: Guest) -> None:
    forged = uuid7()
    with log.superuser() as connection:
        row = connection.execute(select(audit_records).limit(1)).one()
        connection.execute(insert(audit_records).values(**(row._asdict() | {"id": forged})))
        named = (LeafKind.AUDIT, forged, None)
        leaf = leaf_of(LeafKind.AUDIT, find_rows(connection, [named])[named])
        connection.execute(
            insert(audit_leaves).values(
                epoch=9, position=0, kind="audit", record_id=forged, leaf_hash=leaf
            )
        )
    assert not log.verify(log.kept()).is_sound


def rebuild(connection: Connection, log: Log, signer: Any = None) -> None:
    """What somebody with the database and the keys can do."""
    signer = signer or log.floor.keys.checkpoint
    leaves = connection.execute(select(audit_leaves).order_by(audit_leaves.c.position)).all()
    frontiers = [Frontier()]
    for leaf in leaves:
        named = (LeafKind(leaf.kind), leaf.record_id, leaf.user_id)
        hashed = leaf_of(named[0], find_rows(connection, [named])[named])
        connection.execute(
            update(audit_leaves)
            .where(audit_leaves.c.record_id == leaf.record_id)
            .values(leaf_hash=hashed)
        )
        frontiers.append(frontiers[-1].append(hashed))
    for row in connection.execute(select(audit_checkpoints)).all():
        said = read_checkpoint(row.jws)
        assert said is not None
        frontier = frontiers[row.size]
        forged = Checkpoint(
            origin=said.origin,
            epoch=said.epoch,
            size=said.size,
            root=to_base64url(frontier.root),
            at_ms=said.at_ms,
        )
        connection.execute(
            update(audit_checkpoints)
            .where(audit_checkpoints.c.size == row.size)
            .values(
                root=frontier.root,
                frontier=frontier.to_bytes(),
                jws=sign_checkpoint(forged, signer.private, signer.kid),
            )
        )


def _is_deduct(table: Table) -> Any:
    return table.c.type == "Deduct" if "type" in table.c else table.c.action == "deduct"
