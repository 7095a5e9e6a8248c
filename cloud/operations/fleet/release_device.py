"""Ops have looked at a quarantined appliance: it is believed again, from where it stands now."""

from datetime import datetime

from sqlalchemy import select, update

from cloud.operations.fleet.read_devices import Device, read_device
from cloud.operations.fleet.register_device import Within, refuse_outside
from cloud.operations.refusals import Code, Refusal
from cloud.store.database import Database
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.locks import lock_devices
from cloud.store.tables import devices
from cloud.store.unsettled import review_unsettled_of
from protocol.ids import DeviceId
from protocol.messages import Reason


def release_device(
    database: Database,
    device_id: DeviceId,
    reason: str,
    *,
    actor: str,
    now: datetime,
    within: Within = None,
) -> Device | Refusal:
    """Its next heartbeat says where its journal stands, whatever was known; then it is watched as
    before. What it sent meanwhile stays on the review list, and what was approved and it never
    said it knows of goes there."""
    with database.transaction() as connection:
        lock_devices(connection, [device_id])
        refusal = refuse_outside(connection, device_id, within)
        if refusal is not None:
            return refusal
        found = connection.execute(
            select(devices.c.status, devices.c.quarantined_at, devices.c.quarantine_cause).where(
                devices.c.device_id == device_id
            )
        ).one()
        if found.status != "active" or found.quarantined_at is None:
            return Refusal(
                Code.DEVICE_NOT_QUARANTINED,
                f"{device_id} is not quarantined.",
                "Look at `railtix-ops device show`: it may be released already, or revoked.",
            )
        # Its next journal may count past what this one lost, as if it knew of it.
        reviewed = review_unsettled_of(connection, device_id, Reason.DEVICE_QUARANTINED, now)
        connection.execute(
            update(devices)
            .where(devices.c.device_id == device_id)
            .values(
                quarantined_at=None,
                quarantine_cause=None,
                released_at=now,
                releases=devices.c.releases + 1,
                journal_anew=True,
                journal_left=None,
            )
        )
        deed = AuditRow(
            at=now,
            actor=actor,
            action="device_released",
            outcome="done",
            device_id=device_id,
            detail={
                "reason": reason,
                "cause": found.quarantine_cause,
                "quarantined_at": found.quarantined_at.isoformat(),
                "put_on_the_review_list": reviewed,
            },
        )
        write_audit_records(connection, [deed])
        return read_device(connection, device_id, now)
