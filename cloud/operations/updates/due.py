"""Which release an appliance is due: its channel's latest for its hardware that it is among."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from cloud.store.tables import bundles, releases
from protocol.ids import DeviceId
from protocol.updates import Update, in_rollout


@dataclass(frozen=True, slots=True)
class Due:
    """A release as it stands."""

    version: str
    sha256: str
    size: int
    compatible: str
    channel: str
    rollout_percent: int
    is_paused: bool
    allow_downgrade: bool

    def update(self) -> Update:
        return Update(
            version=self.version,
            sha256=self.sha256,
            size=self.size,
            compatible=self.compatible,
            channel=self.channel,
            rollout_percent=self.rollout_percent,
            allow_downgrade=self.allow_downgrade,
        )


def read_releases(connection: Connection) -> list[Due]:
    """All of them, the latest first."""
    found = connection.execute(
        select(
            bundles.c.version,
            bundles.c.sha256,
            bundles.c.size,
            bundles.c.compatible,
            releases.c.channel,
            releases.c.rollout_percent,
            releases.c.paused_at,
            releases.c.allow_downgrade,
        )
        .join(bundles, bundles.c.sha256 == releases.c.sha256)
        .order_by(releases.c.released_at.desc(), bundles.c.sha256)
    )
    # Only a channel's latest release takes anybody back: whoever pauses a newer one means stop.
    latest: set[tuple[str, str]] = set()
    listed: list[Due] = []
    for row in found:
        place = (row.channel, row.compatible)
        listed.append(_due(row, is_latest=place not in latest))
        latest.add(place)
    return listed


def due_update(
    latest_first: Sequence[Due],
    device_id: DeviceId,
    *,
    channel: str,
    compatible: str | None,
    slot: str | None,
) -> Due | None:
    """None: nothing is to be said to it. An appliance that names no slot would refuse a policy
    that speaks of updates, or could do nothing about one."""
    if slot is None:
        return None
    return next(
        (
            each
            for each in latest_first
            if (each.channel, each.compatible) == (channel, compatible)
            and not each.is_paused
            and in_rollout(device_id, each.version, each.rollout_percent)
        ),
        None,
    )


def _due(row: Row[*tuple[Any, ...]], *, is_latest: bool) -> Due:
    return Due(
        version=row.version,
        sha256=row.sha256,
        size=row.size,
        compatible=row.compatible,
        channel=row.channel,
        rollout_percent=row.rollout_percent,
        is_paused=row.paused_at is not None,
        allow_downgrade=row.allow_downgrade and is_latest,
    )
