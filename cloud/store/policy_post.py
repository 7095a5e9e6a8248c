"""The policies that appliances still have to be sent."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import Connection, func, select, update
from sqlalchemy.sql.selectable import Select

from cloud.store.tables import devices, policies
from protocol.ids import DeviceId


class Letter(msgspec.Struct, frozen=True):
    """A signed policy and the appliance it names."""

    device_id: DeviceId
    version: int
    jws: str


def read_unpublished(connection: Connection) -> list[Letter]:
    """The newest policy of each appliance that has one unpublished."""
    waiting = select(policies.c.device_id).where(policies.c.published_at.is_(None))
    return _letters(connection, _NEWEST.where(policies.c.device_id.in_(waiting)))


def read_all_active(connection: Connection) -> list[Letter]:
    """The newest policy of each active appliance: what a broker without memory has to be told."""
    active = select(devices.c.device_id).where(devices.c.status == "active")
    return _letters(connection, _NEWEST.where(policies.c.device_id.in_(active)))


def mark_published(connection: Connection, letters: Sequence[Letter], now: datetime) -> None:
    """These and their elders: an older policy need not be sent once a newer one was."""
    for letter in letters:
        connection.execute(
            update(policies)
            .where(
                policies.c.device_id == letter.device_id,
                policies.c.version <= letter.version,
                policies.c.published_at.is_(None),
            )
            .values(published_at=now)
        )


def _letters(connection: Connection, statement: Select[*tuple[object, ...]]) -> list[Letter]:
    return [
        Letter(DeviceId(row.device_id), row.version, row.jws)
        for row in connection.execute(statement)
    ]


_newest_versions = (
    select(policies.c.device_id, func.max(policies.c.version).label("version"))
    .group_by(policies.c.device_id)
    .subquery()
)
_NEWEST: Final = select(policies.c.device_id, policies.c.version, policies.c.jws).join(
    _newest_versions,
    (policies.c.device_id == _newest_versions.c.device_id)
    & (policies.c.version == _newest_versions.c.version),
)
