"""How far each release is: counted over the appliances of its channel, and by name for one."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select

from cloud.operations.refusals import Refusal
from cloud.operations.updates.release_update import Chosen, unknown
from cloud.store.database import Database
from cloud.store.tables import bundles, device_updates, devices, releases
from protocol.updates import UpdateState


@dataclass(frozen=True, slots=True)
class Counts:
    """Appliances, of those that are not revoked: each is in at most one of the states, and may be
    announced to and run it besides."""

    announced: int
    running: int
    """By their word for what they run: also those that were flashed with it."""
    fetching: int
    fetched: int
    installing: int
    trying: int
    confirmed: int
    refused: int
    rolled_back: int


@dataclass(frozen=True, slots=True)
class Release:
    version: str
    compatible: str
    channel: str
    sha256: str
    size: int
    rollout_percent: int
    allow_downgrade: bool
    notes: str
    released_at: datetime
    released_by: str
    paused_at: datetime | None
    paused_why: str | None
    counts: Counts


@dataclass(frozen=True, slots=True)
class Try:
    """One appliance, and one version of which it was told, or which it took up, or which it
    runs."""

    device_id: str
    event_id: str | None
    stall_id: str | None
    channel: str
    compatible: str | None
    image: str | None
    slot: str | None
    is_announced: bool
    state: str | None
    percent: int | None
    why: str | None
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Status:
    releases: list[Release]
    """The latest first."""
    tries: list[Try]
    """By name; only where one version was asked for."""


def read_updates(database: Database, version: str | None = None) -> Status | Refusal:
    """Every release; or those of one version, with the appliances."""
    with database.one_moment() as connection:
        wanted = (
            select(releases, bundles.c.version, bundles.c.compatible, bundles.c.size)
            .join(bundles, bundles.c.sha256 == releases.c.sha256)
            .order_by(releases.c.released_at.desc(), releases.c.sha256, releases.c.channel)
        )
        if version is not None:
            wanted = wanted.where(bundles.c.version == version)
        counted = _count(connection)
        found = [_release(row, counted) for row in connection.execute(wanted)]
        if version is not None and not found:
            return unknown(Chosen(version))
        return Status(found, [] if version is None else _tries(connection, version))


_ANNOUNCED, _RUNNING = "announced", "running"
_Place = tuple[str, str | None, str]
"""A version, what it is for, and the channel."""


def _count(connection: Connection) -> Mapping[_Place, Counter[str]]:
    of = devices.c
    place = (of.compatible, of.channel)
    counted: dict[_Place, Counter[str]] = {}
    for name, told in ((_ANNOUNCED, of.announced_version), (_RUNNING, of.image)):
        rows = connection.execute(
            select(told, *place, func.count())
            .where(of.status == "active", told.is_not(None))
            .group_by(told, *place)
        )
        for version, compatible, channel, number in rows:
            counted.setdefault((version, compatible, channel), Counter())[name] += number
    rows = connection.execute(
        select(device_updates.c.version, *place, device_updates.c.state, func.count())
        .join(devices, of.device_id == device_updates.c.device_id)
        .where(of.status == "active")
        .group_by(device_updates.c.version, *place, device_updates.c.state)
    )
    for version, compatible, channel, state, number in rows:
        counted.setdefault((version, compatible, channel), Counter())[state] += number
    return counted


def _release(row: Row[*tuple[Any, ...]], counted: Mapping[_Place, Counter[str]]) -> Release:
    here = counted.get((row.version, row.compatible, row.channel), Counter())
    names = (_ANNOUNCED, _RUNNING, *(each.value for each in UpdateState))
    return Release(
        version=row.version,
        compatible=row.compatible,
        channel=row.channel,
        sha256=row.sha256,
        size=row.size,
        rollout_percent=row.rollout_percent,
        allow_downgrade=row.allow_downgrade,
        notes=row.notes,
        released_at=row.released_at,
        released_by=row.released_by,
        paused_at=row.paused_at,
        paused_why=row.paused_why,
        counts=Counts(**{name: here[name] for name in names}),
    )


def _tries(connection: Connection, version: str) -> list[Try]:
    of, tried = devices.c, device_updates.c
    rows = connection.execute(
        select(
            of.device_id,
            of.event_id,
            of.stall_id,
            of.channel,
            of.compatible,
            of.image,
            of.slot,
            of.announced_version,
            tried.state,
            tried.percent,
            tried.why,
            tried.since,
        )
        .outerjoin(device_updates, (tried.device_id == of.device_id) & (tried.version == version))
        .where(
            of.status == "active",
            (of.announced_version == version) | (of.image == version) | tried.state.is_not(None),
        )
        .order_by(of.device_id)
    )
    return [
        Try(
            device_id=row.device_id,
            event_id=row.event_id,
            stall_id=row.stall_id,
            channel=row.channel,
            compatible=row.compatible,
            image=row.image,
            slot=row.slot,
            is_announced=row.announced_version == version,
            state=row.state,
            percent=row.percent,
            why=row.why,
            since=row.since,
        )
        for row in rows
    ]
