"""Which channel's releases an appliance is to have; its next policy follows."""

from datetime import datetime

from sqlalchemy import select, update

from cloud.operations.fleet.read_devices import Device, read_device
from cloud.operations.fleet.register_device import Within, refuse_outside
from cloud.operations.refusals import Refusal
from cloud.operations.updates.release_update import no_channel
from cloud.store.database import Database
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.locks import lock_devices
from cloud.store.tables import devices
from protocol.ids import DeviceId
from protocol.updates import CHANNELS


def set_channel(
    database: Database,
    device_id: DeviceId,
    channel: str,
    *,
    actor: str,
    now: datetime,
    within: Within = None,
) -> Device | Refusal:
    """Back to a channel that is behind it takes nothing away from it: it keeps what it runs until
    that channel has something newer."""
    if channel not in CHANNELS:
        return no_channel(channel)
    with database.transaction() as connection:
        lock_devices(connection, [device_id])
        refusal = refuse_outside(connection, device_id, within)
        if refusal is not None:
            return refusal
        this = devices.c.device_id == device_id
        before = connection.execute(select(devices.c.channel, devices.c.event_id).where(this)).one()
        if before.channel != channel:
            connection.execute(update(devices).where(this).values(channel=channel))
            deed = AuditRow(
                at=now,
                actor=actor,
                action="device_channel_set",
                outcome="done",
                subject=channel,
                device_id=device_id,
                event_id=before.event_id,
                detail={"before": before.channel},
            )
            write_audit_records(connection, [deed])
        return read_device(connection, device_id, now)
