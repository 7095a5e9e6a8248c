"""Takes what is pending into the tree: all that a batch changes is one transaction.

One sequencer at a time (PostgreSQL: an advisory lock; SQLite has one writer). A checkpoint is
signed with each batch, so the newest one always says how the tree stands.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Executable, Row, Uuid, delete, func, insert, select
from sqlalchemy.sql.selectable import FromClause
from uuid_utils.compat import uuid7

from cloud.audit.leaves import LeafKind, Named, find_rows, leaf_of
from cloud.audit.merkle import Frontier
from cloud.keys import SigningKey
from cloud.store.records import (
    AuditRow,
    await_tree,
    insert_records,
    unpack_records,
    unpack_transactions,
)
from cloud.store.rows import BatchStatement, insert_rows
from cloud.store.tables import (
    audit_checkpoints,
    audit_epochs,
    audit_leaves,
    audit_pending,
    audit_records,
    credit_transactions,
)
from protocol.checkpoint import Checkpoint, sign_checkpoint
from protocol.encoding import to_base64url

ROWS_MAX: Final = 500
"""Of `audit_pending` in one batch; a row may stand for a whole batch of requests."""
LEAVES_ENOUGH: Final = 500
"""A batch that has so many takes no further row: on SQLite sales wait while it lasts."""

EPOCH_BEGAN: Final = "audit_epoch_began"
RECORD_MISSING: Final = "audit_record_missing"
FIRST_REASON: Final = "the first"
_SYSTEM: Final = "system:sequencer"
_QUEUED_AT_ONCE: Final = 1000
_LOCK: Final = int.from_bytes(
    hashlib.sha256(b"railtix audit sequencer").digest()[:8], "big", signed=True
)


@dataclass(frozen=True, slots=True)
class Tree:
    """The newest epoch's tree as its newest checkpoint has it."""

    epoch: int
    origin: str
    frontier: Frontier


@dataclass(frozen=True, slots=True)
class Drained:
    """What a batch took in, in the transaction that is still open."""

    leaves: int
    checkpoint: str | None
    """JWS; none: nothing was pending."""
    transactions: Sequence[Mapping[str, Any]] = ()
    """The rows of the transactions taken in: for whoever acts on each exactly once."""
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class Busy:
    """Another sequencer is at it."""


@dataclass(frozen=True, slots=True)
class RolledBack:
    """A checkpoint that left the database says more than the database: it was put back."""

    kept: Checkpoint
    found: str


def drain(
    connection: Connection, signer: SigningKey, now: datetime, kept: Checkpoint | None = None
) -> Drained | Busy | RolledBack:
    """Take in one batch; the first time, begin epoch 1 with everything that was written before.

    `kept` is the newest checkpoint that left the database: nothing is built on a tree that it
    contradicts.
    """
    if not _take_lock(connection):
        return Busy()
    tree = newest_tree(connection)
    contradiction = None if kept is None else _contradiction(connection, tree, kept)
    if contradiction is not None:
        return contradiction
    if tree is None:
        return Drained(1, begin_epoch(connection, signer, FIRST_REASON, now), has_more=True)
    rows = connection.execute(
        select(audit_pending).order_by(audit_pending.c.pending_id).limit(ROWS_MAX + 1)
    ).all()
    taken = _enough(rows[:ROWS_MAX])
    if not taken:
        return Drained(0, None)

    wanted = list(dict.fromkeys(each for row in taken for each in _wanted_of(row)))
    known = {row.record_id for row in _KNOWN.run(connection, [(str(one),) for _, one, _ in wanted])}
    new = [each for each in wanted if each[1] not in known]
    found = find_rows(connection, new)
    missing = [each for each in new if each not in found]
    # Evidence that somebody removed what was pending; it goes into the tree in its stead.
    found |= _record_missing(connection, missing, now)
    leaves = [(kind, row, leaf_of(kind, row)) for (kind, _, _), row in found.items()]

    jws = _append(connection, signer, tree, leaves, now)
    _FORGET.write(connection, [(str(row.pending_id),) for row in taken])
    return Drained(
        len(leaves),
        jws,
        [row for kind, row, _ in leaves if kind is LeafKind.TRANSACTION],
        has_more=len(taken) < len(rows),
    )


def begin_epoch(
    connection: Connection,
    signer: SigningKey,
    reason: str,
    now: datetime,
    *,
    actor: str = _SYSTEM,
    after: Checkpoint | None = None,
) -> str:
    """A new tree whose first record says why, and what the last one was; its checkpoint (JWS).

    The very first takes in everything that was written before there was a tree.

    `after`: a checkpoint kept elsewhere, whose epoch is over too even where no row here knows it.
    The caller holds the sequencer's lock (`wait_for_lock`).
    """
    before = _newest_row(connection)
    epoch = 1 + max(_newest_epoch(connection), 0 if after is None else after.epoch)
    detail: dict[str, Any] = {"epoch": epoch, "reason": reason}
    if before is not None:
        # As it stands, damaged or not: this is how one goes on after damage.
        detail["previous"] = {
            "epoch": before.epoch,
            "size": before.size,
            "root": to_base64url(bytes(before.root)),
        }
    record_id = uuid7()
    record = AuditRow(
        at=now,
        actor=actor,
        action=EPOCH_BEGAN,
        outcome="done",
        subject=str(epoch),
        detail=detail,
    )
    connection.execute(insert(audit_epochs).values(epoch=epoch, reason=reason, began_at=now))
    insert_records(connection, [(str(record_id), record)])
    [(key, row)] = find_rows(connection, [(LeafKind.AUDIT, record_id, None)]).items()
    tree = Tree(epoch, str(record_id), Frontier())
    jws = _append(connection, signer, tree, [(key[0], row, leaf_of(key[0], row))], now)
    assert jws is not None, "one leaf"
    if before is None:
        _queue_all(connection)
    return jws


def wait_for_lock(connection: Connection) -> None:
    """Hold off every sequencer until the commit."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))


def newest_tree(connection: Connection) -> Tree | None:
    """As the newest checkpoint has it; None before the first epoch.

    Raises DamagedTreeError where nothing may be built on it.
    """
    row = _newest_row(connection)
    if row is None:
        return None
    frontier = Frontier.from_bytes(row.size, bytes(row.frontier))
    if row.record_id is None or frontier is None or frontier.root != bytes(row.root):
        raise DamagedTreeError(
            f"checkpoint {row.size} of epoch {row.epoch} is damaged: run `railtix-cloud audit "
            "verify`"
        )
    return Tree(row.epoch, str(row.record_id), frontier)


def _newest_row(connection: Connection) -> Row[Any] | None:
    """The newest checkpoint, with the id of its epoch's first record."""
    return connection.execute(
        select(audit_checkpoints, audit_leaves.c.record_id)
        .outerjoin(
            audit_leaves,
            (audit_leaves.c.epoch == audit_checkpoints.c.epoch) & (audit_leaves.c.position == 0),
        )
        .order_by(audit_checkpoints.c.epoch.desc(), audit_checkpoints.c.size.desc())
        .limit(1)
    ).one_or_none()


def _newest_epoch(connection: Connection) -> int:
    return connection.execute(select(func.max(audit_epochs.c.epoch))).scalar_one() or 0


class DamagedTreeError(Exception):
    """The stored tree contradicts itself; nothing may be built on it."""


def _take_lock(connection: Connection) -> bool:
    if connection.dialect.name == "sqlite":
        return True
    return bool(connection.execute(select(func.pg_try_advisory_xact_lock(_LOCK))).scalar_one())


def _contradiction(
    connection: Connection, tree: Tree | None, kept: Checkpoint
) -> RolledBack | None:
    if tree is None or kept.order > (tree.epoch, tree.frontier.size):
        found = "nothing" if tree is None else f"epoch {tree.epoch}, size {tree.frontier.size}"
        return RolledBack(kept, found)
    if kept.epoch < tree.epoch:
        # Somebody said, on the record, why that one ended where it did.
        return None
    same = connection.execute(
        select(audit_checkpoints.c.root).where(
            audit_checkpoints.c.epoch == kept.epoch, audit_checkpoints.c.size == kept.size
        )
    ).scalar_one_or_none()
    if same is None or bytes(same) != kept.root_hash:
        return RolledBack(kept, "another tree at that size")
    return None


def _queue_all(connection: Connection) -> None:
    """Everything that was written before there was a tree; what is pending already may be named
    twice, and is taken in once."""
    with_tree = select(audit_leaves.c.record_id)
    records = connection.execute(
        select(audit_records.c.id)
        .where(audit_records.c.id.not_in(with_tree))
        .order_by(audit_records.c.id)
        .execution_options(yield_per=_QUEUED_AT_ONCE)
    )
    for chunk in records.partitions():
        await_tree(connection, records=[str(row.id) for row in chunk])
    transactions = connection.execute(
        select(credit_transactions.c.user_id, credit_transactions.c.id)
        .where(credit_transactions.c.id.not_in(with_tree))
        .order_by(credit_transactions.c.id)
        .execution_options(yield_per=_QUEUED_AT_ONCE)
    )
    for chunk in transactions.partitions():
        pairs = [(str(row.user_id), str(row.id)) for row in chunk]
        await_tree(connection, transactions=pairs)


def _enough(rows: Sequence[Row[Any]]) -> list[Row[Any]]:
    taken: list[Row[Any]] = []
    leaves = 0
    for row in rows:
        if leaves >= LEAVES_ENOUGH:
            break
        taken.append(row)
        leaves += len(row.records) // 16 + len(row.transactions) // 32
    return taken


def _wanted_of(row: Row[Any]) -> Iterable[Named]:
    for user_id, transaction_id in unpack_transactions(bytes(row.transactions)):
        yield LeafKind.TRANSACTION, transaction_id, user_id
    for record_id in unpack_records(bytes(row.records)):
        yield LeafKind.AUDIT, record_id, None


def _record_missing(
    connection: Connection, missing: Sequence[Named], now: datetime
) -> dict[Named, Mapping[str, Any]]:
    if not missing:
        return {}
    rows = [
        (
            str(uuid7()),
            AuditRow(
                at=now,
                actor=_SYSTEM,
                action=RECORD_MISSING,
                outcome="removed",
                user_id=None if user_id is None else str(user_id),
                subject=str(one),
                detail={"kind": kind.value},
            ),
        )
        for kind, one, user_id in missing
    ]
    insert_records(connection, rows)
    wanted: list[Named] = [(LeafKind.AUDIT, UUID(record_id), None) for record_id, _ in rows]
    return find_rows(connection, wanted)


def _append(
    connection: Connection,
    signer: SigningKey,
    tree: Tree,
    leaves: Sequence[tuple[LeafKind, Mapping[str, Any], bytes]],
    now: datetime,
) -> str | None:
    """The leaves and the checkpoint over them; None where there are no new ones."""
    if not leaves:
        return None
    first = tree.frontier.size
    insert_rows(
        connection,
        audit_leaves,
        ("epoch", "position", "kind", "record_id", "user_id", "leaf_hash"),
        [
            (
                tree.epoch,
                first + offset,
                kind.value,
                str(row["id"]),
                str(row["user_id"]) if kind is LeafKind.TRANSACTION else None,
                leaf,
            )
            for offset, (kind, row, leaf) in enumerate(leaves)
        ],
    )
    frontier = tree.frontier.extend(leaf for _, _, leaf in leaves)
    at_ms = int(now.timestamp() * 1000)
    checkpoint = Checkpoint(
        origin=tree.origin,
        epoch=tree.epoch,
        size=frontier.size,
        root=to_base64url(frontier.root),
        at_ms=at_ms,
    )
    jws = sign_checkpoint(checkpoint, signer.private, signer.kid)
    connection.execute(
        insert(audit_checkpoints).values(
            epoch=tree.epoch,
            size=frontier.size,
            root=frontier.root,
            frontier=frontier.to_bytes(),
            jws=jws,
            signed_at=now.replace(microsecond=now.microsecond // 1000 * 1000),
        )
    )
    return jws


def newest_checkpoint(connection: Connection) -> str | None:
    """JWS; None before the first epoch."""
    return connection.execute(
        select(audit_checkpoints.c.jws)
        .order_by(audit_checkpoints.c.epoch.desc(), audit_checkpoints.c.size.desc())
        .limit(1)
    ).scalar_one_or_none()


def _select_known(wanted: FromClause) -> Executable:
    return select(audit_leaves.c.record_id).join(wanted, audit_leaves.c.record_id == wanted.c.id)


def _delete_pending(wanted: FromClause) -> Executable:
    return delete(audit_pending).where(audit_pending.c.pending_id.in_(select(wanted.c.id)))


_KNOWN: Final = BatchStatement({"id": Uuid()}, _select_known)
_FORGET: Final = BatchStatement({"id": Uuid()}, _delete_pending)
