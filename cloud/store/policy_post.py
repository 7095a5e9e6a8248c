"""The policies that appliances still have to be sent."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import Connection, Executable, Integer, String, func, select, update
from sqlalchemy.sql.selectable import FromClause, Select

from cloud.store.rows import BatchStatement
from cloud.store.tables import UtcTime, devices, policies
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


def read_newest(connection: Connection, device_ids: Sequence[DeviceId]) -> list[Letter]:
    """The newest policy of each of these that is active."""
    active = select(devices.c.device_id).where(
        devices.c.status == "active", devices.c.device_id.in_(device_ids)
    )
    return _letters(connection, _NEWEST.where(policies.c.device_id.in_(active)))


def mark_published(connection: Connection, letters: Sequence[Letter], now: datetime) -> None:
    """These and their elders: an older policy need not be sent once a newer one was."""
    rows = sorted((letter.device_id, letter.version, now) for letter in letters)
    _MARK.write(connection, rows)


def _mark(wanted: FromClause) -> Executable:
    return (
        update(policies)
        .where(
            policies.c.device_id == wanted.c.device_id,
            policies.c.version <= wanted.c.version,
            policies.c.published_at.is_(None),
        )
        .values(published_at=wanted.c.published_at)
    )


_MARK: Final = BatchStatement(
    {"device_id": String(), "version": Integer(), "published_at": UtcTime()}, _mark
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
