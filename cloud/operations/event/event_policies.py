"""Which policy each appliance of an event has, which it has acknowledged, and who lags behind."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select

from cloud.operations.event.read_event import no_event
from cloud.operations.fleet.register_device import Within, refuse_outside
from cloud.operations.refusals import Refusal
from cloud.store.database import Database
from cloud.store.tables import devices, events, policies
from protocol.ids import DeviceId, EventId, StallId


@dataclass(frozen=True, slots=True)
class Standing:
    """One appliance's newest policy, and how far it has come."""

    device_id: DeviceId
    stall_id: StallId
    version: int
    event_version: int | None
    """Of the event, when the policy was made from it."""
    issued_at: datetime
    expires_at: datetime
    is_published: bool
    acked_version: int
    """The newest that the appliance has acknowledged; 0: none yet."""
    acked_event_version: int | None
    acked_at: datetime | None
    is_behind: bool
    last_seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class IssuedPolicy:
    """One of the policies an appliance was ever given."""

    version: int
    event_version: int | None
    issued_at: datetime
    expires_at: datetime
    published_at: datetime | None
    is_acked: bool
    """By it or by a newer one."""


def read_standings(database: Database, event_id: EventId) -> list[Standing] | Refusal:
    """Every appliance that stands at the event, in the order of its name."""
    acked = policies.alias("acked")
    wanted = (
        select(
            devices.c.device_id,
            devices.c.stall_id,
            devices.c.policy_acked,
            devices.c.policy_acked_at,
            devices.c.last_seen_at,
            policies.c.version,
            policies.c.event_version,
            policies.c.issued_at,
            policies.c.expires_at,
            policies.c.published_at,
            acked.c.event_version.label("acked_event_version"),
        )
        .join(
            policies,
            (policies.c.device_id == devices.c.device_id)
            & (policies.c.version == devices.c.policy_version),
        )
        .outerjoin(
            acked,
            (acked.c.device_id == devices.c.device_id)
            & (acked.c.version == devices.c.policy_acked),
        )
        .where(
            devices.c.event_id == event_id,
            devices.c.stall_id.is_not(None),
            devices.c.status == "active",
        )
        .order_by(devices.c.device_id)
    )
    with database.reading() as connection:
        known = select(events.c.event_id).where(events.c.event_id == event_id)
        if connection.execute(known).one_or_none() is None:
            return no_event(event_id)
        return [_standing(row) for row in connection.execute(wanted)]


def list_policies(
    database: Database, device_id: DeviceId, within: Within = None, *, limit: int
) -> list[IssuedPolicy] | Refusal:
    """What this appliance was given, the newest first."""
    with database.reading() as connection:
        refusal = refuse_outside(connection, device_id, within)
        if refusal is not None:
            return refusal
        acked = select(devices.c.policy_acked).where(devices.c.device_id == device_id)
        acked_version = connection.execute(acked).scalar_one()
        rows = connection.execute(
            select(policies)
            .where(policies.c.device_id == device_id)
            .order_by(policies.c.version.desc())
            .limit(limit)
        )
        return [
            IssuedPolicy(
                row.version,
                row.event_version,
                row.issued_at,
                row.expires_at,
                row.published_at,
                is_acked=row.version <= acked_version,
            )
            for row in rows
        ]


def _standing(row: Row[*tuple[Any, ...]]) -> Standing:
    return Standing(
        device_id=row.device_id,
        stall_id=row.stall_id,
        version=row.version,
        event_version=row.event_version,
        issued_at=row.issued_at,
        expires_at=row.expires_at,
        is_published=row.published_at is not None,
        acked_version=row.policy_acked,
        acked_event_version=row.acked_event_version,
        acked_at=row.policy_acked_at,
        is_behind=row.policy_acked < row.version,
        last_seen_at=row.last_seen_at,
    )
