"""What console users may see of the audit log: records, newest first, and proofs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, select

from cloud.audit.proofs import NotProven, encode_proof, prove
from cloud.audit.sequencer import newest_checkpoint
from cloud.keys import KeyRing
from cloud.operations.refusals import Code, Refusal
from cloud.store.database import Database
from cloud.store.tables import audit_leaves, audit_records, credit_transactions
from protocol.encoding import from_base64url, to_base64url
from protocol.ids import EventId

_ID_LAG_S: Final = 300
"""A record's id (a UUIDv7) is made shortly after the time that the record speaks of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFilter:
    """Which records; None: all."""

    actor: str | None = None
    action: str | None = None
    outcome: str | None = None
    device_id: str | None = None
    event_id: str | None = None
    user_id: UUID | None = None
    subject: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class RecordPage:
    rows: Sequence[Row[Any]]
    """Of `audit_records`, with `epoch` and `position` of the leaf, None where there is none yet."""
    next_cursor: str | None


def read_records(
    database: Database,
    wanted: RecordFilter,
    events: Collection[EventId] | None,
    limit: int,
    cursor: str | None,
) -> RecordPage | Refusal:
    """`events`: those that whoever asks may see; None: all, and what belongs to none."""
    before = None if cursor is None else _read_cursor(cursor)
    if cursor is not None and before is None:
        return Refusal(
            Code.CURSOR_UNKNOWN, "There is no such page.", "Begin with the first: leave it out."
        )
    of = audit_records.c
    statement = (
        select(audit_records, audit_leaves.c.epoch, audit_leaves.c.position)
        .outerjoin(audit_leaves, audit_leaves.c.record_id == of.id)
        .order_by(of.id.desc())
        .limit(limit + 1)
    )
    for name in ("actor", "action", "outcome", "device_id", "event_id", "user_id", "subject"):
        value = getattr(wanted, name)
        if value is not None:
            statement = statement.where(of[name] == value)
    if wanted.since is not None:
        statement = statement.where(of.at >= wanted.since, of.id >= _first_id(wanted.since))
    if wanted.until is not None:
        statement = statement.where(of.at < wanted.until)
    if events is not None:
        statement = statement.where(of.event_id.in_(sorted(events)))
    if before is not None:
        statement = statement.where(of.id < before)
    with database.reading() as connection:
        rows = connection.execute(statement).all()
    has_more = len(rows) > limit
    page = rows[:limit]
    return RecordPage(page, to_base64url(page[-1].id.bytes) if has_more else None)


def prove_transaction(
    database: Database,
    keys: KeyRing,
    transaction_id: UUID,
    events: Collection[EventId] | None,
) -> bytes | Refusal:
    """The proof file, as `railtix-cloud audit check` takes it."""
    with database.one_moment() as connection:
        if not _may_see(connection, transaction_id, events):
            return Refusal(
                Code.TRANSACTION_UNKNOWN,
                "There is no such transaction here.",
                "Compare the id with the export.",
            )
        proof = prove(connection, transaction_id, lambda kid: keys.find("checkpoint", kid))
    if isinstance(proof, NotProven):
        return Refusal(
            Code.NOT_PROVEN,
            f"There is no proof of it: {proof.reason}.",
            "A transaction is in the tree some seconds after it was made: ask again then.",
        )
    return encode_proof(proof)


def read_newest_checkpoint(database: Database) -> str | Refusal:
    with database.reading() as connection:
        token = newest_checkpoint(connection)
    if token is None:
        return Refusal(
            Code.NO_CHECKPOINT,
            "No checkpoint was signed yet.",
            "The sequencer signs one some seconds after the first record.",
        )
    return token


def _may_see(
    connection: Connection, transaction_id: UUID, events: Collection[EventId] | None
) -> bool:
    """By the tree, which has an index of ids; what is in no tree has no proof either."""
    user_id = connection.execute(
        select(audit_leaves.c.user_id).where(audit_leaves.c.record_id == transaction_id)
    ).scalar_one_or_none()
    if user_id is None:
        statement = select(credit_transactions.c.event_id).where(
            credit_transactions.c.id == transaction_id
        )
    else:
        statement = select(credit_transactions.c.event_id).where(
            credit_transactions.c.user_id == user_id, credit_transactions.c.id == transaction_id
        )
    found = connection.execute(statement).one_or_none()
    return found is not None and (events is None or found.event_id in events)


def _read_cursor(cursor: str) -> UUID | None:
    raw = from_base64url(cursor.encode())
    return UUID(bytes=raw) if raw is not None and len(raw) == 16 else None


def _first_id(since: datetime) -> UUID:
    """No UUIDv7 of that time, or of some minutes before, is smaller (RFC 9562 section 5.7)."""
    milliseconds = max(0, int((since.timestamp() - _ID_LAG_S) * 1000))
    return UUID(int=milliseconds << 80)
