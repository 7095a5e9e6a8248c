"""What may still be in an appliance that the cloud does not know: each named, none guessed away."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from cloud.operations.refusals import Code, Refusal
from cloud.store.tables import devices, staff_sessions
from cloud.store.unsettled import count_unsettled_of
from protocol.ids import DeviceId


@dataclass(frozen=True, slots=True)
class Force:
    """Somebody takes it upon themselves, and says why."""

    reason: str

    def told(self, unsynced: Sequence[str]) -> Mapping[str, Any]:
        """For the audit record."""
        return {"reason": self.reason, "unsynced": list(unsynced)}


def read_unsynced(connection: Connection, device_id: DeviceId, now: datetime) -> tuple[str, ...]:
    """A sentence for each; none: all that it ever sold is known here. Its lock is held.

    Whoever is signed in can sell without us until the appliance has said otherwise: only a
    heartbeat that came after they signed out proves that its queue is all there is.
    """
    device = connection.execute(
        select(devices.c.queue, devices.c.last_seen_at, devices.c.quarantined_at).where(
            devices.c.device_id == device_id
        )
    ).one()
    found: list[str] = []
    if device.quarantined_at is not None:
        found.append("It is quarantined: what it says of its queue is not believed.")
    if device.queue:
        found.append(f"{device.queue} messages wait in it, by its newest heartbeat.")
    unsettled = count_unsettled_of(connection, device_id)
    if unsettled:
        found.append(f"{unsettled} approved sales it has not said yet that it knows of.")
    signed_in = connection.execute(
        select(func.count())
        .select_from(staff_sessions)
        .where(
            staff_sessions.c.device_id == device_id,
            staff_sessions.c.ended_at.is_(None),
            staff_sessions.c.expires_at > now,
        )
    ).scalar_one()
    if signed_in:
        found.append("Somebody is signed in there, who can sell offline: they sign out first.")
    elif _ended_since(connection, device_id, device.last_seen_at):
        found.append("It was not heard since somebody could sell there: wait for a heartbeat.")
    return tuple(found)


def refuse_unsynced(device_id: DeviceId, unsynced: Sequence[str]) -> Refusal:
    return Refusal(
        Code.DEVICE_UNSYNCED,
        f"{device_id} may hold sales that are not known here. {' '.join(unsynced)}",
        "Let it connect and sign everybody out, then try again; or force it, with a reason.",
    )


def _ended_since(connection: Connection, device_id: DeviceId, heard_at: datetime | None) -> bool:
    """Whether a session there ended later than the newest heartbeat."""
    found = select(staff_sessions.c.session_id).where(staff_sessions.c.device_id == device_id)
    if heard_at is not None:
        ended_at = func.coalesce(staff_sessions.c.ended_at, staff_sessions.c.expires_at)
        found = found.where(ended_at >= heard_at)
    return connection.execute(found.limit(1)).first() is not None
