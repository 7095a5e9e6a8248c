"""Certificates that expire soon: each is told of once at 14, 7 and 1 days, and counted always."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import Connection, func, select

from cloud.operations.rows import insert_if_new
from cloud.store.database import Database
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.tables import certificate_alarms, device_certificates, devices
from cloud.warden.following import ACTOR
from provisioning.authority.certificates import Kind
from provisioning.authority.register import Entry, Register

THRESHOLDS_DAYS: Final = (1, 7, 14)

_log = structlog.stdlib.get_logger("cloud.warden")


@dataclass(frozen=True, slots=True)
class Expiring:
    thumbprint: str
    name: str
    """Its common name."""
    kind: Kind
    event_id: str | None
    not_after: datetime


def find_expiring(
    database: Database, register: Register | None, now: datetime
) -> Sequence[Expiring]:
    """The newest certificate of each active appliance, worker and server, where it ends soon or
    has ended. Without a register: of appliances alone."""
    until = now + timedelta(days=max(THRESHOLDS_DAYS))
    newest = (
        select(
            device_certificates.c.device_id,
            func.max(device_certificates.c.not_after).label("not_after"),
        )
        .where(device_certificates.c.revoked_at.is_(None))
        .group_by(device_certificates.c.device_id)
        .subquery()
    )
    wanted = (
        select(
            device_certificates.c.thumbprint,
            device_certificates.c.device_id,
            device_certificates.c.not_after,
            devices.c.event_id,
        )
        .join(
            newest,
            (newest.c.device_id == device_certificates.c.device_id)
            & (newest.c.not_after == device_certificates.c.not_after),
        )
        .join(devices, devices.c.device_id == device_certificates.c.device_id)
        .where(
            devices.c.status == "active",
            device_certificates.c.revoked_at.is_(None),
            device_certificates.c.not_after <= until,
        )
        .order_by(device_certificates.c.device_id)
    )
    with database.reading() as connection:
        found = [
            Expiring(row.thumbprint, row.device_id, Kind.DEVICE, row.event_id, row.not_after)
            for row in connection.execute(wanted)
        ]
    if register is not None:
        found += [
            Expiring(entry.thumbprint, entry.common_name, entry.kind, None, entry.not_after)
            for entry in _newest(register)
            if entry.not_after <= until
        ]
    return found


def count(expiring: Sequence[Expiring], now: datetime) -> Mapping[int, int]:
    """How many end within so many days, those that have ended among them."""
    return {
        days: sum(each.not_after <= now + timedelta(days=days) for each in expiring)
        for days in THRESHOLDS_DAYS
    }


def raise_alarms(database: Database, expiring: Sequence[Expiring], now: datetime) -> int:
    """Record what has come under a threshold since it was last looked; how many."""
    return sum(_raise(database, each, now) for each in expiring)


def _raise(database: Database, each: Expiring, now: datetime) -> bool:
    passed = [days for days in THRESHOLDS_DAYS if each.not_after <= now + timedelta(days=days)]
    if not passed or _is_raised(database, each, passed[0]):
        return False
    with database.transaction() as connection:
        # The nearest is said; whoever starts the warden late does not hear of the others.
        is_new = [_note(connection, each, days, now) for days in passed]
        if not is_new[0]:
            return False
        alarm = AuditRow(
            at=now,
            actor=ACTOR,
            action="certificate_expiring",
            outcome=f"within_{passed[0]}_days",
            subject=each.thumbprint,
            device_id=each.name if each.kind is Kind.DEVICE else None,
            event_id=each.event_id,
            detail={
                "name": each.name,
                "kind": each.kind.value,
                "not_after": each.not_after.isoformat(),
            },
        )
        write_audit_records(connection, [alarm])
    _log.warning(
        "certificate_expiring",
        name=each.name,
        kind=each.kind.value,
        within_days=passed[0],
        not_after=each.not_after.isoformat(),
    )
    return True


def _is_raised(database: Database, each: Expiring, days: int) -> bool:
    """Most rounds find that it is, and SQLite's one writer is not asked for that."""
    with database.reading() as connection:
        found = select(certificate_alarms.c.thumbprint).where(
            certificate_alarms.c.thumbprint == each.thumbprint,
            certificate_alarms.c.within_days == days,
        )
        return connection.execute(found).first() is not None


def _note(connection: Connection, each: Expiring, days: int, now: datetime) -> bool:
    row = {"thumbprint": each.thumbprint, "within_days": days, "raised_at": now}
    return insert_if_new(connection, certificate_alarms, row)


def _newest(register: Register) -> Sequence[Entry]:
    """Of each worker and each server the certificate that counts for longest."""
    newest: dict[tuple[Kind, str], Entry] = {}
    for entry in register.entries:
        if entry.revoked_at is not None or entry.kind not in {Kind.WORKER, Kind.SERVER}:
            continue
        known = newest.get((entry.kind, entry.common_name))
        if known is None or known.not_after < entry.not_after:
            newest[entry.kind, entry.common_name] = entry
    return list(newest.values())
