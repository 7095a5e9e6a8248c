"""What was done to an appliance, newest first: the audit log without what the appliance asked."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select

from cloud.operations.fleet.register_device import Within, refuse_outside
from cloud.operations.refusals import Refusal
from cloud.store.database import Database
from cloud.store.tables import audit_records
from cloud.store.tables.audit import IS_DEED
from protocol.ids import DeviceId

DEEDS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Deed:
    at: datetime
    actor: str
    action: str
    outcome: str
    subject: str | None
    detail: dict[str, Any] | None


def read_deeds(
    database: Database, device_id: DeviceId, limit: int, within: Within = None
) -> list[Deed] | Refusal:
    of = audit_records.c
    wanted = (
        select(of.at, of.actor, of.action, of.outcome, of.subject, of.detail)
        .where(of.device_id == device_id, IS_DEED)
        .order_by(of.id.desc())
        .limit(min(limit, DEEDS_MAX))
    )
    with database.reading() as connection:
        refusal = refuse_outside(connection, device_id, within)
        return refusal or [Deed(*row) for row in connection.execute(wanted)]
