"""After the database came back from a backup: appliances say again what it does not hold."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, func, insert, select, update
from uuid_utils.compat import uuid7

from cloud.keys import KeyRing
from cloud.operations.event.issue_policy import issue_to
from cloud.store.deny_list import begin_lists_anew
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.locks import lock_devices
from cloud.store.tables import devices, restores
from protocol.ids import DeviceId

VERSIONS_SKIPPED: Final = 1000
"""Appliances refuse a policy below the newest they hold, and the backup does not know which."""


@dataclass(frozen=True, slots=True)
class Restored:
    restore_id: UUID
    appliances: int
    """Those that are asked for what they hold."""


def note_restore(
    connection: Connection,
    keys: KeyRing,
    *,
    backup_at: datetime,
    reason: str,
    actor: str,
    now: datetime,
) -> Restored:
    """Ask every active appliance for its journal from where the backup knew it, and give each a
    policy above any that it may hold."""
    restore_id = uuid7()
    found = connection.execute(
        select(devices.c.device_id, devices.c.stall_id)
        .where(devices.c.status == "active")
        .order_by(devices.c.device_id)
    ).all()
    lock_devices(connection, [DeviceId(row.device_id) for row in found])
    connection.execute(
        insert(restores).values(
            restore_id=restore_id, backup_at=backup_at, restored_at=now, reason=reason
        )
    )
    connection.execute(
        update(devices)
        .where(devices.c.status == "active")
        .values(
            resend_for=restore_id,
            resend_epoch=devices.c.journal_epoch,
            resend_from=func.coalesce(devices.c.journal_settled_below, 0),
            policy_version=devices.c.policy_version + VERSIONS_SKIPPED,
        )
    )
    placed = [DeviceId(row.device_id) for row in found if row.stall_id is not None]
    issue_to(connection, keys, placed, now)
    begin_lists_anew(connection)
    deed = AuditRow(
        at=now,
        actor=actor,
        action="database_restored",
        outcome="done",
        subject=str(restore_id),
        detail={"backup_at": backup_at.isoformat(), "reason": reason},
    )
    write_audit_records(connection, [deed])
    return Restored(restore_id, len(found))
