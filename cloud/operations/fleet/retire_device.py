"""An appliance leaves: from the very next transaction on nothing new of it is posted."""

from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, func, select, update

from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.tables import device_certificates, devices, staff_sessions
from cloud.store.unsettled import review_unsettled_of
from protocol.ids import DeviceId
from protocol.messages import Reason
from provisioning.authority.register import Reason as CertificateReason

REASON_CHARS_MAX: Final = 200


class Leaving(StrEnum):
    """How an appliance leaves; what `devices.status` says from then on."""

    REVOKED = "revoked"
    """Not to be trusted: lost, stolen, broken into."""
    DECOMMISSIONED = "decommissioned"
    """In order, and at the end of its service."""


_CERTIFICATE_REASONS: Final = {
    Leaving.REVOKED: CertificateReason.KEY_COMPROMISE,
    Leaving.DECOMMISSIONED: CertificateReason.DECOMMISSIONED,
}
_LEAVES: Final = {
    Leaving.REVOKED: ("active", "decommissioned"),
    Leaving.DECOMMISSIONED: ("active",),
}


def retire(
    connection: Connection, device_id: DeviceId, leaving: Leaving, reason: str, now: datetime
) -> int:
    """End it, its certificates and whoever is signed in there; how much went to the review list.

    The appliance's lock is held. The warden brings certificate register, revocation list and
    broker after it. One that has left already stays as it is; only what was decommissioned may
    turn out to be stolen.
    """
    connection.execute(
        update(devices)
        .where(devices.c.device_id == device_id, devices.c.status.in_(_LEAVES[leaving]))
        .values(
            status=leaving.value,
            revoked_at=func.coalesce(devices.c.revoked_at, now),
            retired_reason=reason[:REASON_CHARS_MAX],
        )
    )
    connection.execute(
        update(device_certificates)
        .where(
            device_certificates.c.device_id == device_id,
            device_certificates.c.revoked_at.is_(None),
        )
        .values(revoked_at=now, revocation_reason=_CERTIFICATE_REASONS[leaving].value)
    )
    end_sessions(connection, device_id, now)
    # Approvals that it never said it knows of: whether it sold, a person has to find out.
    return review_unsettled_of(connection, device_id, Reason.DEVICE_REVOKED, now)


def retire_replaced(
    connection: Connection, old_device_id: DeviceId, *, by: DeviceId, now: datetime
) -> None:
    """The appliance that stood here until now leaves, since `by` has just enrolled in its place.

    Called in the transaction that enrols `by`; the caller holds the locks of both, taken at once
    (`lock_devices(connection, [old, new])`). An appliance that left before, as a lost one does,
    only learns who replaced it; an unknown one is passed over.
    """
    found = connection.execute(
        select(devices.c.status, devices.c.event_id).where(devices.c.device_id == old_device_id)
    ).one_or_none()
    if found is None:
        return
    reviewed = 0
    if found.status == "active":
        reviewed = retire(
            connection, old_device_id, Leaving.DECOMMISSIONED, f"replaced by {by}", now
        )
    connection.execute(
        update(devices).where(devices.c.device_id == old_device_id).values(replaced_by=by)
    )
    deed = AuditRow(
        at=now,
        actor=f"device:{by}",
        action="device_replaced",
        outcome="done",
        subject=by,
        device_id=old_device_id,
        event_id=found.event_id,
        detail={"put_on_the_review_list": reviewed},
    )
    write_audit_records(connection, [deed])


def end_sessions(connection: Connection, device_id: DeviceId, now: datetime) -> None:
    """Whoever is signed in at the appliance signs in again."""
    connection.execute(
        update(staff_sessions)
        .where(staff_sessions.c.device_id == device_id, staff_sessions.c.ended_at.is_(None))
        .values(ended_at=now)
    )
