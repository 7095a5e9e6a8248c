"""Who took which part of the ledger away, for the audit log: a file has no walls."""

from datetime import datetime

from cloud.reports.export import Format
from cloud.reports.transactions import Selection
from cloud.store.database import Database
from cloud.store.records import AuditRow, write_audit_records


def note_export(
    database: Database, actor: str, selection: Selection, form: Format, now: datetime
) -> None:
    """Written before the first row leaves; `actor` is `kind:id`."""
    asked = {
        "format": form.value,
        "from": None if selection.since is None else selection.since.isoformat(),
        "until": None if selection.until is None else selection.until.isoformat(),
        "type": None if selection.type is None else selection.type.value,
        "stall": selection.stall_id,
    }
    row = AuditRow(
        at=now,
        actor=actor,
        action="transactions_exported",
        outcome="done",
        event_id=selection.event_id,
        detail={name: value for name, value in asked.items() if value is not None},
    )
    with database.transaction() as connection:
        write_audit_records(connection, [row])
