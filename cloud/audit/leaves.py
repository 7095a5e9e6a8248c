"""The one spelling of a record or transaction, the same on both databases, and its leaf hash."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Executable, Table, Uuid, select
from sqlalchemy.sql.selectable import FromClause

from cloud.audit.merkle import leaf_hash
from cloud.store.rows import BatchStatement
from cloud.store.tables import audit_records, credit_transactions

VERSION: Final = 1
"""Of the spelling. A column that is added later may be empty in every row before it: what is empty
is left out, so old leaves stay what they are."""


class LeafKind(StrEnum):
    """What a leaf stands for, as `audit_leaves.kind` has it."""

    AUDIT = "audit"
    TRANSACTION = "transaction"


Named = tuple[LeafKind, UUID, UUID | None]
"""A kind, an id, and of a transaction its user."""

TABLES: Final[Mapping[LeafKind, Table]] = {
    LeafKind.AUDIT: audit_records,
    LeafKind.TRANSACTION: credit_transactions,
}

_ENCODER: Final = msgspec.json.Encoder(order="sorted")


def canonical_form(kind: LeafKind, row: Mapping[str, Any]) -> bytes:
    """JSON: every column of the row that is not empty, members sorted at every depth.

    Ids are lower-case UUIDs, times UTC to the microsecond, as `2026-06-20T18:00:00.000000Z`.
    """
    said: dict[str, Any] = {"kind": kind.value, "v": VERSION}
    for column in TABLES[kind].columns:
        value = row[column.name]
        if value is not None:
            # `kind` and `v` are no columns' names: a test says so.
            said[column.name] = _spelled(value)
    return _ENCODER.encode(said)


def leaf_of(kind: LeafKind, row: Mapping[str, Any]) -> bytes:
    """The leaf's hash (RFC 6962 section 2.1) of the row's canonical form."""
    return leaf_hash(canonical_form(kind, row))


def _spelled(value: Any) -> Any:
    match value:
        case datetime():
            utc = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
            return utc.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        case UUID():
            return str(value)
        case _:
            return value


def find_rows(connection: Connection, wanted: Sequence[Named]) -> dict[Named, Mapping[str, Any]]:
    """The rows that are there, in the order in which they are wanted."""
    records = [(str(one),) for kind, one, _ in wanted if kind is LeafKind.AUDIT]
    transactions = [
        (str(user_id), str(one))
        for kind, one, user_id in wanted
        if kind is LeafKind.TRANSACTION and user_id is not None
    ]
    found: dict[Named, Mapping[str, Any]] = {}
    for row in _RECORDS.run(connection, records):
        found[LeafKind.AUDIT, row.id, None] = row._asdict()
    for row in _TRANSACTIONS.run(connection, transactions):
        found[LeafKind.TRANSACTION, row.id, row.user_id] = row._asdict()
    return {each: found[each] for each in wanted if each in found}


def _select_records(wanted: FromClause) -> Executable:
    return select(audit_records).join(wanted, audit_records.c.id == wanted.c.id)


def _select_transactions(wanted: FromClause) -> Executable:
    return select(credit_transactions).join(
        wanted,
        (credit_transactions.c.user_id == wanted.c.user_id)
        & (credit_transactions.c.id == wanted.c.id),
    )


_RECORDS: Final = BatchStatement({"id": Uuid()}, _select_records)
_TRANSACTIONS: Final = BatchStatement({"user_id": Uuid(), "id": Uuid()}, _select_transactions)
