"""Begins a new life of the audit log's tree, after the database came back from a backup."""

from datetime import datetime
from pathlib import Path

from cloud.audit.kept import keep, read_kept
from cloud.audit.sequencer import begin_epoch, wait_for_lock
from cloud.keys import KeyRing
from cloud.operations.proof.restore import note_restore
from cloud.store.database import Database


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
        if backup_at is not None:
            note_restore(connection, keys, backup_at=backup_at, reason=reason, actor=actor, now=now)
        wait_for_lock(connection)
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
