"""The one spelling of a record or transaction, the same on both databases, and its leaf hash."""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import Table

from cloud.audit.merkle import leaf_hash
from cloud.store.tables import audit_records, credit_transactions

VERSION: Final = 1
"""Of the spelling. A column that is added later may be empty in every row before it: what is empty
is left out, so old leaves stay what they are."""


class LeafKind(StrEnum):
    """What a leaf stands for, as `audit_leaves.kind` has it."""

    AUDIT = "audit"
    TRANSACTION = "transaction"


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
