"""Writes the audit log, and says of every record and transaction that the tree has yet to take it.

A row a call in `audit_pending`, in the transaction that it tells of: never a high-water mark, since
a lower id may commit later.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import Connection
from uuid_utils import uuid7

from cloud.store.rows import insert_rows
from cloud.store.tables import audit_pending, audit_records

_ID_BYTES: Final = 16


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """One record of the audit log; see `tables.audit_records`."""

    at: datetime
    actor: str
    action: str
    outcome: str
    device_id: str | None = None
    event_id: str | None = None
    user_id: str | None = None
    subject: str | None = None
    request_hash: str | None = None
    detail: Mapping[str, Any] | None = None


def write_audit_records(connection: Connection, rows: Sequence[AuditRow]) -> None:
    if not rows:
        return
    ids = [str(uuid7()) for _ in rows]
    insert_records(connection, list(zip(ids, rows, strict=True)))
    await_tree(connection, records=ids)


def insert_records(connection: Connection, rows: Sequence[tuple[str, AuditRow]]) -> None:
    """Without a word to the tree: for whoever takes them in at once."""
    insert_rows(
        connection,
        audit_records,
        ("id", *AuditRow.__struct_fields__),
        [(record_id, *msgspec.structs.astuple(row)) for record_id, row in rows],
    )


def await_tree(
    connection: Connection,
    *,
    records: Sequence[str] = (),
    transactions: Sequence[tuple[str, str]] = (),
) -> None:
    """These records, and transactions (user and id), are in the database and not in the tree."""
    packed_records = b"".join(map(_packed, records))
    packed_transactions = b"".join(_packed(each) for pair in transactions for each in pair)
    if packed_records or packed_transactions:
        insert_rows(
            connection,
            audit_pending,
            ("pending_id", "records", "transactions"),
            [(str(uuid7()), packed_records, packed_transactions)],
        )


def unpack_records(packed: bytes) -> Iterator[UUID]:
    for at in range(0, len(packed), _ID_BYTES):
        yield UUID(bytes=packed[at : at + _ID_BYTES])


def unpack_transactions(packed: bytes) -> Iterator[tuple[UUID, UUID]]:
    """Each one's user, and its own id."""
    ids = list(unpack_records(packed))
    return zip(ids[::2], ids[1::2], strict=True)


def _packed(identity: str) -> bytes:
    return bytes.fromhex(identity.replace("-", ""))
