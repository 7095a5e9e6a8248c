"""Begins a new life of the audit log's tree, after the database came back from a backup."""

from datetime import datetime
from pathlib import Path

from sqlalchemy import insert
from uuid_utils.compat import uuid7

from cloud.audit.kept import keep, read_kept
from cloud.audit.sequencer import begin_epoch, wait_for_lock
from cloud.keys import KeyRing
from cloud.store.database import Database
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.tables import restores


def begin_new_epoch(
    database: Database,
    keys: KeyRing,
    reason: str,
    *,
    actor: str,
    backup_at: datetime | None,
    checkpoint_file: Path,
    now: datetime,
) -> str:
    """Its first checkpoint (JWS). The first record says why, and what the last tree was.

    `backup_at`: how old what was restored is; appliances then send what they have said since.
    Raises OSError or ValueError where the checkpoint that was kept cannot be read.
    """
    standing = read_kept(checkpoint_file)
    with database.transaction() as connection:
        wait_for_lock(connection)
        if backup_at is not None:
            restore_id = uuid7()
            connection.execute(
                insert(restores).values(
                    restore_id=restore_id, backup_at=backup_at, restored_at=now, reason=reason
                )
            )
            write_audit_records(
                connection,
                [
                    AuditRow(
                        at=now,
                        actor=actor,
                        action="database_restored",
                        outcome="done",
                        subject=str(restore_id),
                        detail={"backup_at": backup_at.isoformat(), "reason": reason},
                    )
                ],
            )
        token = begin_epoch(
            connection,
            keys.checkpoint,
            reason,
            now,
            actor=actor,
            after=None if standing is None else standing[1],
        )
    keep(checkpoint_file, token)
    return token
