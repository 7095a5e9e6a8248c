"""An appliance at the end of its service leaves, once nothing of it is missing here."""

from datetime import datetime

from sqlalchemy import select

from cloud.operations.fleet.read_devices import Device, read_device
from cloud.operations.fleet.read_unsynced import Force, read_unsynced, refuse_unsynced
from cloud.operations.fleet.register_device import Within, refuse_outside
from cloud.operations.fleet.retire_device import Leaving, retire
from cloud.operations.refusals import Code, Refusal
from cloud.store.database import Database
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.locks import lock_devices
from cloud.store.tables import devices
from protocol.ids import DeviceId


def decommission_device(
    database: Database,
    device_id: DeviceId,
    force: Force | None,
    *,
    actor: str,
    now: datetime,
    within: Within = None,
) -> Device | Refusal:
    """As a revocation, without suspicion. By `force` also while it may hold sales: those that are
    known go to the review list now, and what it still sends goes there too."""
    with database.transaction() as connection:
        lock_devices(connection, [device_id])
        refusal = refuse_outside(connection, device_id, within)
        if refusal is not None:
            return refusal
        status = connection.execute(
            select(devices.c.status).where(devices.c.device_id == device_id)
        ).scalar_one()
        if status == "revoked":
            return Refusal(
                Code.DEVICE_REVOKED,
                f"{device_id} is revoked, and stays so.",
                "There is nothing left to take out of service.",
            )
        unsynced = read_unsynced(connection, device_id, now) if status == "active" else ()
        if unsynced and force is None:
            return refuse_unsynced(device_id, unsynced)
        reason = "end of service" if force is None else force.reason
        reviewed = retire(connection, device_id, Leaving.DECOMMISSIONED, reason, now)
        deed = AuditRow(
            at=now,
            actor=actor,
            action="device_decommissioned",
            outcome="done" if force is None else "forced",
            device_id=device_id,
            detail={
                "put_on_the_review_list": reviewed,
                **({} if force is None else force.told(unsynced)),
            },
        )
        write_audit_records(connection, [deed])
        return read_device(connection, device_id, now)
