"""Another appliance in the place of one: a claim for it, and the old one leaves when it enrols."""

from datetime import datetime

from sqlalchemy import select

from cloud.operations.enrolment.claims import MadeClaim, Wanted, make_claim
from cloud.operations.fleet.read_unsynced import Force, read_unsynced, refuse_unsynced
from cloud.operations.fleet.register_device import Place, Within, refuse_outside, revoke_device
from cloud.operations.refusals import Code, Refusal
from cloud.store.database import Database
from cloud.store.locks import lock_devices
from cloud.store.tables import devices
from protocol.ids import DeviceId


def replace_device(
    database: Database,
    device_id: DeviceId,
    *,
    actor: str,
    now: datetime,
    within: Within = None,
    serial: str | None = None,
    force: Force | None = None,
    lost: Force | None = None,
) -> MadeClaim | Refusal:
    """A claim at the same stall. What is `lost` is revoked at once; else the old one sells on until
    the new one has enrolled, and is refused while it may hold sales, but for `force`."""
    place = _place(database, device_id, within, now, force=force or lost)
    if isinstance(place, Refusal):
        return place
    if lost is not None:
        # First, and by itself: whatever becomes of the claim, the lost one sells no more.
        revoked = revoke_device(
            database, device_id, lost.reason, actor=actor, now=now, within=within
        )
        if isinstance(revoked, Refusal):
            return revoked
    wanted = Wanted(place, serial=serial, replaces=device_id)
    return make_claim(database, wanted, actor=actor, now=now, within=within)


def _place(
    database: Database, device_id: DeviceId, within: Within, now: datetime, *, force: Force | None
) -> Place | Refusal:
    with database.transaction() as connection:
        lock_devices(connection, [device_id])
        refusal = refuse_outside(connection, device_id, within)
        if refusal is not None:
            return refusal
        found = connection.execute(
            select(devices.c.event_id, devices.c.stall_id, devices.c.status).where(
                devices.c.device_id == device_id
            )
        ).one()
        if found.event_id is None:
            return Refusal(
                Code.STALL_UNKNOWN,
                f"{device_id} stands at no stall.",
                "Make a claim for the stall where the new one is to stand.",
            )
        if found.status == "active" and force is None:
            unsynced = read_unsynced(connection, device_id, now)
            if unsynced:
                return refuse_unsynced(device_id, unsynced)
        return Place(found.event_id, found.stall_id)
