"""How far an appliance's leaving has come: on the review list, in the CRL, out of the broker."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select

from cloud.operations.fleet.register_device import Within, refuse_outside
from cloud.operations.refusals import Refusal
from cloud.store.database import Database
from cloud.store.tables import device_certificates, devices, review_entries
from protocol.ids import DeviceId

REVIEWS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A sale of the appliance's that a person has to judge."""

    review_id: str
    reason: str
    amount_in_cents: int | None
    currency: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class LeavingSoFar:
    device_id: DeviceId
    status: str
    left_at: datetime | None
    """Since when nothing new of it is posted; None: it is in service."""
    reason: str | None
    replaced_by: DeviceId | None
    reviews: tuple[Reviewed, ...]
    """Still open, the oldest first; at most 100."""
    crl_has_it: bool
    """The broker was handed a list with every certificate of its own."""
    session_ended_at: datetime | None
    """When the warden ended its session at the broker."""
    session_ended_again_at: datetime | None
    """When it made sure, once the broker refused it."""


def read_leaving(
    database: Database, device_id: DeviceId, within: Within = None
) -> LeavingSoFar | Refusal:
    with database.reading() as connection:
        refusal = refuse_outside(connection, device_id, within)
        if refusal is not None:
            return refusal
        device = connection.execute(
            select(
                devices.c.status,
                devices.c.revoked_at,
                devices.c.retired_reason,
                devices.c.replaced_by,
                devices.c.session_ended_at,
                devices.c.session_ended_again_at,
            ).where(devices.c.device_id == device_id)
        ).one()
        unlisted = connection.execute(
            select(device_certificates.c.thumbprint)
            .where(
                device_certificates.c.device_id == device_id,
                device_certificates.c.revocation_listed_at.is_(None),
            )
            .limit(1)
        ).first()
        of = review_entries.c
        reviews = connection.execute(
            select(of.review_id, of.reason, of.amount_in_cents, of.currency, of.created_at)
            .where(of.device_id == device_id, of.state == "open")
            .order_by(of.created_at, of.review_id)
            .limit(REVIEWS_MAX)
        ).all()
    has_left = device.status != "active"
    return LeavingSoFar(
        device_id,
        device.status,
        device.revoked_at,
        device.retired_reason,
        device.replaced_by,
        tuple(
            Reviewed(
                str(row.review_id), row.reason, row.amount_in_cents, row.currency, row.created_at
            )
            for row in reviews
        ),
        has_left and unlisted is None,
        device.session_ended_at,
        device.session_ended_again_at,
    )
