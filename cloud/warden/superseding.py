"""A renewed appliance's older certificates: revoked once the new one was in use for a minute."""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, select, update

from cloud.store.database import Database
from cloud.store.locks import lock_devices
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.tables import device_certificates, devices
from cloud.warden.following import ACTOR
from protocol.ids import DeviceId
from provisioning.authority.register import Reason

IN_USE_FOR: Final = timedelta(minutes=1)
"""What was signed under the older one just before has been answered by then."""

_old = device_certificates.alias("old")
_new = device_certificates.alias("new")


def supersede(database: Database, now: datetime) -> int:
    """How many certificates no longer count. What they signed before stays as it was answered."""
    renewed = (
        select(_old.c.device_id)
        .join(
            _new, (_new.c.device_id == _old.c.device_id) & (_new.c.not_before > _old.c.not_before)
        )
        .join(devices, devices.c.device_id == _old.c.device_id)
        .where(
            devices.c.status == "active",
            _old.c.revoked_at.is_(None),
            _old.c.not_after > now,
            _new.c.revoked_at.is_(None),
            _new.c.first_used_at <= now - IN_USE_FOR,
        )
        .distinct()
    )
    with database.reading() as connection:
        device_ids = [DeviceId(each) for each in connection.execute(renewed).scalars()]
    return sum(_supersede(database, device_id, now) for device_id in device_ids)


def _supersede(database: Database, device_id: DeviceId, now: datetime) -> int:
    newest_in_use = (
        select(func.max(_new.c.not_before))
        .where(
            _new.c.device_id == device_id,
            _new.c.revoked_at.is_(None),
            _new.c.first_used_at <= now - IN_USE_FOR,
        )
        .scalar_subquery()
    )
    with database.transaction() as connection:
        lock_devices(connection, [device_id])
        device = connection.execute(
            select(devices.c.event_id).where(
                devices.c.device_id == device_id, devices.c.status == "active"
            )
        ).one_or_none()
        if device is None:
            # It was revoked meanwhile, and every certificate of it with that.
            return 0
        older = connection.execute(
            update(device_certificates)
            .where(
                device_certificates.c.device_id == device_id,
                device_certificates.c.revoked_at.is_(None),
                device_certificates.c.not_before < newest_in_use,
            )
            .values(revoked_at=now, revocation_reason=Reason.SUPERSEDED.value)
            .returning(device_certificates.c.thumbprint)
        ).scalars()
        deeds = [
            AuditRow(
                at=now,
                actor=ACTOR,
                action="certificate_superseded",
                outcome="done",
                subject=thumbprint,
                device_id=device_id,
                event_id=device.event_id,
            )
            for thumbprint in older
        ]
        write_audit_records(connection, deeds)
        return len(deeds)
