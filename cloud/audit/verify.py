"""Recomputes the whole tree from the rows it stands for, and names what is not as it was signed.

Reads only, in one snapshot, a page at a time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import Connection, Row, func, select

from cloud.audit.leaves import LeafKind, Named, find_rows, leaf_of
from cloud.audit.merkle import Frontier
from cloud.audit.sequencer import EPOCH_BEGAN, RECORD_MISSING
from cloud.store.database import Database
from cloud.store.records import unpack_records, unpack_transactions
from cloud.store.rows import as_uuid_text
from cloud.store.tables import (
    audit_checkpoints,
    audit_epochs,
    audit_leaves,
    audit_pending,
    audit_records,
    credit_transactions,
)
from protocol.checkpoint import Checkpoint, open_checkpoint
from protocol.signing import KeyFinder, SignatureRefusal

PAGE: Final = 2000
FINDINGS_MAX: Final = 1000
"""So many are named; all are counted."""

_ZERO: Final = UUID(int=0)
_BEFORE_ALL: Final = -(2**62)
_NAMES: Final = {LeafKind.AUDIT: "record", LeafKind.TRANSACTION: "transaction"}


class Fault(StrEnum):
    """What happened to a record, as far as the tree can tell."""

    CHANGED = "changed"
    REMOVED = "removed"
    ADDED = "added"
    TREE = "tree"
    """The tree's own rows contradict each other or their signature."""
    ROLLED_BACK = "rolled_back"
    """A checkpoint kept elsewhere knows more than the database."""
    REWRITTEN = "rewritten"
    """A checkpoint kept elsewhere knows another tree."""
    UNSIGNED = "unsigned"
    """A checkpoint kept elsewhere that our keys did not sign."""


@dataclass(frozen=True, slots=True)
class Finding:
    fault: Fault
    kind: LeafKind | None
    """None: it is about the tree, not about one record."""
    record_id: str | None
    epoch: int | None
    position: int | None
    detail: str

    def __str__(self) -> str:
        named = "" if self.kind is None else f" {_NAMES[self.kind]} {self.record_id}"
        where = "" if self.position is None else f" (epoch {self.epoch}, leaf {self.position})"
        return f"{self.fault.value}:{named}{where} {self.detail}"


@dataclass(slots=True)
class Verdict:
    epochs: int = 0
    leaves: int = 0
    checkpoints: int = 0
    findings: list[Finding] = field(default_factory=list[Finding])
    """In the order of the tree, at most `FINDINGS_MAX`."""
    faults: int = 0
    unproven: int = 0
    """Pending: in no tree yet."""
    unproven_since: datetime | None = None

    @property
    def is_sound(self) -> bool:
        return not self.faults

    @property
    def first(self) -> Finding | None:
        return self.findings[0] if self.findings else None

    def add(
        self,
        fault: Fault,
        detail: str,
        *,
        kind: LeafKind | None = None,
        record_id: UUID | None = None,
        epoch: int | None = None,
        position: int | None = None,
    ) -> None:
        self.faults += 1
        if len(self.findings) < FINDINGS_MAX:
            named = None if record_id is None else str(record_id)
            self.findings.append(Finding(fault, kind, named, epoch, position, detail))


Progress = Callable[[int, int], None]
"""Leaves done, and how many there are."""


@dataclass(slots=True)
class _Witness:
    checkpoint: Checkpoint
    is_heard: bool = False


def verify(
    database: Database,
    find_key: KeyFinder,
    kept: Sequence[str] = (),
    progress: Progress = lambda _done, _all: None,
) -> Verdict:
    """Everything, against itself and against the checkpoints (JWS) `kept` elsewhere."""
    verdict = Verdict()
    with database.one_moment() as connection:
        witnesses = _open_kept(verdict, kept, find_key)
        total = connection.execute(select(func.count()).select_from(audit_leaves)).scalar_one()
        for number, row in _epochs(connection):
            verdict.epochs += 1
            epoch = _Epoch(verdict, number, row)
            _verify_epoch(
                connection, epoch, find_key, witnesses, lambda done: progress(done, total)
            )
        _confront_rest(connection, verdict, witnesses)
        _verify_outside(connection, verdict)
    return verdict


def _open_kept(verdict: Verdict, kept: Sequence[str], find_key: KeyFinder) -> list[_Witness]:
    witnesses: list[_Witness] = []
    for token in kept:
        opened = open_checkpoint(token.strip(), find_key)
        if isinstance(opened, SignatureRefusal):
            verdict.add(Fault.UNSIGNED, f"the checkpoint to compare with: {opened.value}")
        else:
            witnesses.append(_Witness(opened))
    return witnesses


class _Epoch:
    """One epoch's tree, recomputed leaf by leaf."""

    def __init__(self, verdict: Verdict, number: int, row: Row[Any] | None) -> None:
        self.verdict = verdict
        self.number = number
        self.row = row
        self.frontier = Frontier()
        self.origin: str | None = None
        self.trusted = 0
        """The size of the last checkpoint that fits."""
        self.is_whole = True
        """No leaf was missing so far; past a gap no root can be recomputed."""
        self._next = 0

    def take(self, leaf: Row[Any], row: Mapping[str, Any] | None) -> None:
        if leaf.position != self._next:
            self.is_whole = False
            self.verdict.add(
                Fault.REMOVED,
                f"stands in the tree where leaf {self._next} is missing",
                kind=_kind(leaf),
                record_id=leaf.record_id,
                epoch=self.number,
                position=leaf.position,
            )
        self._next = leaf.position + 1
        _verify_leaf(self.verdict, leaf, row)
        if leaf.position == 0:
            self.origin = str(leaf.record_id)
            _verify_beginning(self.verdict, self.number, self.row, leaf, row)
        if self.is_whole:
            self.frontier = self.frontier.append(bytes(leaf.leaf_hash))
        self.verdict.leaves += 1

    def end(self, next_checkpoint: Row[Any] | None) -> None:
        size = self.frontier.size
        if self.is_whole and next_checkpoint is not None:
            self.verdict.add(
                Fault.REMOVED,
                f"the tree has {size} leaves, and checkpoint {next_checkpoint.size} was signed",
                epoch=self.number,
                position=size,
            )
        elif self.is_whole and (size == 0 or self.trusted < size):
            self.verdict.add(
                Fault.TREE,
                f"no sound checkpoint covers what comes after leaf {self.trusted - 1}",
                epoch=self.number,
                position=self.trusted,
            )


def _verify_epoch(
    connection: Connection,
    epoch: _Epoch,
    find_key: KeyFinder,
    witnesses: Sequence[_Witness],
    progress: Callable[[int], None],
) -> None:
    checkpoints = _checkpoints(connection, epoch.number)
    checkpoint = next(checkpoints, None)
    for page in _leaf_pages(connection, epoch.number):
        rows = find_rows(connection, [_named(leaf) for leaf in page])
        for leaf in page:
            epoch.take(leaf, rows.get(_named(leaf)))
            if not epoch.is_whole:
                continue
            while checkpoint is not None and checkpoint.size <= epoch.frontier.size:
                epoch.verdict.checkpoints += 1
                if _verify_checkpoint(epoch, checkpoint, find_key):
                    epoch.trusted = epoch.frontier.size
                checkpoint = next(checkpoints, None)
            _confront(epoch, witnesses)
        progress(epoch.verdict.leaves)
    epoch.end(checkpoint)
    if not epoch.is_whole:
        _give_up(epoch, witnesses)


def _named(leaf: Row[Any]) -> Named:
    return _kind(leaf), leaf.record_id, leaf.user_id


def _kind(leaf: Row[Any]) -> LeafKind:
    """Where no rule of the database's holds any more, it may say anything."""
    is_transaction = leaf.kind == LeafKind.TRANSACTION.value
    return LeafKind.TRANSACTION if is_transaction else LeafKind.AUDIT


def _detail(row: Mapping[str, Any]) -> dict[str, Any]:
    said = row.get("detail")
    return cast("dict[str, Any]", said) if isinstance(said, dict) else {}


def _verify_leaf(verdict: Verdict, leaf: Row[Any], row: Mapping[str, Any] | None) -> None:
    kind = _kind(leaf)
    where: dict[str, Any] = {
        "kind": kind,
        "record_id": leaf.record_id,
        "epoch": leaf.epoch,
        "position": leaf.position,
    }
    if leaf.kind != kind.value:
        verdict.add(Fault.CHANGED, "its leaf is of no kind that there is", **where)
    if row is None:
        verdict.add(Fault.REMOVED, "is in the tree, and the database does not have it", **where)
    elif leaf_of(kind, row) != bytes(leaf.leaf_hash):
        verdict.add(Fault.CHANGED, "does not say what its leaf was made of", **where)
    elif kind is LeafKind.AUDIT and row["action"] == RECORD_MISSING:
        named = as_uuid_text(row["subject"] or "")
        detail = f"was removed before the tree took it in, as leaf {leaf.position} says"
        where["kind"] = LeafKind(_detail(row).get("kind", kind))
        where["record_id"] = leaf.record_id if named is None else UUID(named)
        verdict.add(Fault.REMOVED, detail, **where)


def _verify_beginning(
    verdict: Verdict,
    number: int,
    epoch: Row[Any] | None,
    leaf: Row[Any],
    row: Mapping[str, Any] | None,
) -> None:
    """The epoch's own row says what its first record says."""
    if row is None:
        return
    detail = _detail(row)
    said = (row.get("action"), row.get("at"), detail.get("epoch"), detail.get("reason"))
    if epoch is None or said != (EPOCH_BEGAN, epoch.began_at, number, epoch.reason):
        verdict.add(
            Fault.CHANGED,
            "the epoch's row and its first record differ",
            kind=_kind(leaf),
            record_id=leaf.record_id,
            epoch=number,
            position=0,
        )


def _verify_checkpoint(epoch: _Epoch, row: Row[Any], find_key: KeyFinder) -> bool:
    """Whether the stored checkpoint is signed, and over the tree as it is."""
    tree, faults = epoch.frontier, list[str]()
    signed = open_checkpoint(row.jws, find_key)
    if isinstance(signed, SignatureRefusal):
        faults.append(f"its signature does not count ({signed.value})")
    else:
        if (signed.epoch, signed.size, signed.origin) != (epoch.number, row.size, epoch.origin):
            faults.append("it was signed for another tree")
        if signed.root_hash != tree.root:
            faults.append(
                f"leaves {epoch.trusted} to {tree.size - 1} are not what it was signed over"
            )
        if datetime.fromtimestamp(signed.at_ms / 1000, UTC) != row.signed_at:
            faults.append("its time was changed")
    if bytes(row.root) != tree.root or bytes(row.frontier) != tree.to_bytes():
        faults.append("its hashes are not those of the tree")
    for fault in faults:
        epoch.verdict.add(
            Fault.TREE,
            f"checkpoint {row.size}: {fault}",
            epoch=epoch.number,
            position=epoch.trusted,
        )
    return not faults


def _confront(epoch: _Epoch, witnesses: Sequence[_Witness]) -> None:
    """Compare the tree with what was kept of it elsewhere, when it has that size."""
    for witness in witnesses:
        kept = witness.checkpoint
        if (kept.epoch, kept.size) != (epoch.number, epoch.frontier.size):
            continue
        witness.is_heard = True
        if kept.root_hash == epoch.frontier.root and kept.origin == epoch.origin:
            continue
        what = "is of another log" if kept.origin != epoch.origin else "has another root"
        epoch.verdict.add(
            Fault.REWRITTEN,
            f"the checkpoint of size {kept.size} that was kept elsewhere {what}",
            epoch=epoch.number,
            position=kept.size - 1,
        )


def _give_up(epoch: _Epoch, witnesses: Sequence[_Witness]) -> None:
    """Past a gap nothing can be recomputed, so nothing kept elsewhere can be confirmed."""
    for witness in witnesses:
        kept = witness.checkpoint
        if kept.epoch == epoch.number and not witness.is_heard:
            witness.is_heard = True
            epoch.verdict.add(
                Fault.REWRITTEN,
                f"the checkpoint of size {kept.size} that was kept elsewhere cannot be reached",
                epoch=epoch.number,
                position=kept.size - 1,
            )


def _confront_rest(connection: Connection, verdict: Verdict, witnesses: Sequence[_Witness]) -> None:
    for witness in witnesses:
        if witness.is_heard:
            continue
        kept = witness.checkpoint
        size = connection.execute(
            select(func.count()).select_from(audit_leaves).where(audit_leaves.c.epoch == kept.epoch)
        ).scalar_one()
        later = connection.execute(
            select(audit_epochs)
            .where(audit_epochs.c.epoch > kept.epoch)
            .order_by(audit_epochs.c.epoch)
            .limit(1)
        ).one_or_none()
        why = (
            ""
            if later is None
            else f"; epoch {later.epoch} began {later.began_at:%Y-%m-%d %H:%M} UTC: {later.reason}"
        )
        verdict.add(
            Fault.ROLLED_BACK,
            f"a checkpoint of size {kept.size} was kept elsewhere, and epoch {kept.epoch} has "
            f"{size} leaves here{why}",
            epoch=kept.epoch,
            position=size,
        )


def _verify_outside(connection: Connection, verdict: Verdict) -> None:
    """What is in no tree is pending, or was added behind everybody's back."""
    pending: set[Named] = set()
    for row in connection.execute(select(audit_pending)):
        pending.update(
            (LeafKind.TRANSACTION, one, user_id)
            for user_id, one in unpack_transactions(bytes(row.transactions))
        )
        pending.update((LeafKind.AUDIT, one, None) for one in unpack_records(bytes(row.records)))
    for named, at in (*_records_outside(connection), *_transactions_outside(connection)):
        # Before the first epoch nothing was promised to anybody.
        if named in pending or not verdict.epochs:
            verdict.unproven += 1
            verdict.unproven_since = min(at, verdict.unproven_since or at)
        else:
            detail = "is neither in the tree nor pending"
            verdict.add(Fault.ADDED, detail, kind=named[0], record_id=named[1])
    listed = sorted(pending, key=str)
    for start in range(0, len(listed), PAGE):
        chunk = listed[start : start + PAGE]
        there = find_rows(connection, chunk)
        for kind, one, user_id in chunk:
            if (kind, one, user_id) not in there:
                detail = "is pending, and the database does not have it"
                verdict.add(Fault.REMOVED, detail, kind=kind, record_id=one)


def _records_outside(connection: Connection) -> Iterator[tuple[Named, datetime]]:
    in_tree = (
        select(audit_leaves.c.record_id)
        .where(
            audit_leaves.c.record_id == audit_records.c.id,
            audit_leaves.c.kind == LeafKind.AUDIT.value,
        )
        .exists()
    )
    last = _ZERO
    while True:
        page = connection.execute(
            select(audit_records.c.id, audit_records.c.at)
            .where(~in_tree, audit_records.c.id > last)
            .order_by(audit_records.c.id)
            .limit(PAGE)
        ).all()
        for row in page:
            yield (LeafKind.AUDIT, row.id, None), row.at
        if len(page) < PAGE:
            return
        last = page[-1].id


def _transactions_outside(connection: Connection) -> Iterator[tuple[Named, datetime]]:
    of = credit_transactions.c
    in_tree = (
        select(audit_leaves.c.record_id)
        .where(
            audit_leaves.c.record_id == of.id,
            audit_leaves.c.kind == LeafKind.TRANSACTION.value,
            # The same id under another user is another transaction.
            audit_leaves.c.user_id == of.user_id,
        )
        .exists()
    )
    last = (_ZERO, _ZERO)
    while True:
        user_id, one = last
        page = connection.execute(
            select(of.user_id, of.id, of.created_at)
            .where(~in_tree, (of.user_id > user_id) | ((of.user_id == user_id) & (of.id > one)))
            .order_by(of.user_id, of.id)
            .limit(PAGE)
        ).all()
        for row in page:
            yield (LeafKind.TRANSACTION, row.id, row.user_id), row.created_at
        if len(page) < PAGE:
            return
        last = (page[-1].user_id, page[-1].id)


def _epochs(connection: Connection) -> list[tuple[int, Row[Any] | None]]:
    """Every epoch that any row speaks of, and its own row."""
    rows = {row.epoch: row for row in connection.execute(select(audit_epochs))}
    spoken = {
        *rows,
        *connection.execute(select(audit_leaves.c.epoch).distinct()).scalars(),
        *connection.execute(select(audit_checkpoints.c.epoch).distinct()).scalars(),
    }
    return [(number, rows.get(number)) for number in sorted(spoken)]


def _leaf_pages(connection: Connection, epoch: int) -> Iterator[Sequence[Row[Any]]]:
    last = _BEFORE_ALL
    while True:
        page = connection.execute(
            select(audit_leaves)
            .where(audit_leaves.c.epoch == epoch, audit_leaves.c.position > last)
            .order_by(audit_leaves.c.position)
            .limit(PAGE)
        ).all()
        if not page:
            return
        yield page
        last = page[-1].position


def _checkpoints(connection: Connection, epoch: int) -> Iterator[Row[Any]]:
    last = _BEFORE_ALL
    while True:
        page = connection.execute(
            select(audit_checkpoints)
            .where(audit_checkpoints.c.epoch == epoch, audit_checkpoints.c.size > last)
            .order_by(audit_checkpoints.c.size)
            .limit(PAGE)
        ).all()
        yield from page
        if len(page) < PAGE:
            return
        last = page[-1].size
