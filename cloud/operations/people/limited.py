"""Requests that came too often: a record at the first, the tenth, the hundredth, not one each."""

from datetime import datetime

from cloud.store.database import Database
from cloud.store.records import AuditRow, write_audit_records


def is_worth_a_record(refused: int) -> bool:
    """Powers of ten: a flood of millions leaves seven records that say how many it was."""
    while refused % 10 == 0 and refused > 1:
        refused //= 10
    return refused == 1


def record_limited(database: Database, what: str, client: str, refused: int, now: datetime) -> None:
    """`refused`: how many in a row this client was refused, this one included."""
    record = AuditRow(
        at=now,
        actor="unknown:client",
        action="requests_limited",
        outcome="refused",
        subject=f"client:{client}",
        detail={"limit": what, "refused": refused},
    )
    with database.transaction() as connection:
        write_audit_records(connection, [record])
