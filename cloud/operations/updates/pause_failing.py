"""A release that too many appliances came back from is paused, before the rest take it up."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, select

from cloud.operations.updates.announce_updates import ACTOR
from cloud.operations.updates.release_update import pause_releases
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.locks import lock_releases
from cloud.store.tables import bundles, device_updates, devices, releases
from protocol.updates import UpdateState

ROLLED_BACK_MAX: Final = 2
ROLLED_BACK_MAX_PERCENT: Final = 5
"""Of those it was tried on; whichever of the two is more may roll back."""
TRIED: Final = frozenset({UpdateState.TRYING, UpdateState.CONFIRMED, UpdateState.ROLLED_BACK})
NAMED_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Paused:
    """What was paused just now, and why."""

    version: str
    compatible: str
    channels: tuple[str, ...]
    rolled_back: int
    tried: int


def pause_failing(connection: Connection, now: datetime) -> list[Paused]:
    """In a transaction of its own; as often as one likes, by as many as like.

    Counted by bundle, whichever channel an appliance got it by; revoked appliances count too: what
    they said before was so. After somebody resumed it, only those who roll back later count.
    """
    lock_releases(connection)
    paused: list[Paused] = []
    for failing in who_fails(connection):
        why = (
            f"{len(failing.rolled_back)} of the {failing.tried} appliances that tried it "
            "went back to the version before"
        )
        channels = pause_releases(connection, releases.c.sha256 == failing.sha256, why, now)
        each = Paused(
            failing.version,
            failing.compatible,
            tuple(channels),
            len(failing.rolled_back),
            failing.tried,
        )
        paused.append(each)
        deed = AuditRow(
            at=now,
            actor=ACTOR,
            action="update_paused",
            outcome="done",
            subject=failing.version,
            detail={
                "compatible": failing.compatible,
                "channels": channels,
                "paused_why": why,
                "rolled_back": list(failing.rolled_back[:NAMED_MAX]),
            },
        )
        write_audit_records(connection, [deed])
    return paused


def is_failing(rolled_back: int, tried: int) -> bool:
    """More than two, and more than one of twenty."""
    return rolled_back > ROLLED_BACK_MAX and rolled_back * 100 > tried * ROLLED_BACK_MAX_PERCENT


@dataclass(frozen=True, slots=True)
class Failing:
    sha256: str
    version: str
    compatible: str
    rolled_back: tuple[str, ...]
    tried: int


def who_fails(connection: Connection) -> list[Failing]:
    """Bundles that are announced somewhere and should not be."""
    announced = connection.execute(
        select(bundles.c.sha256, bundles.c.version, bundles.c.compatible, releases.c.resumed_at)
        .join(releases, releases.c.sha256 == bundles.c.sha256)
        .where(releases.c.paused_at.is_(None))
        .order_by(bundles.c.sha256, releases.c.resumed_at)
    ).all()
    # The same bundle in two channels: from when somebody looked last.
    by_bundle = {row.sha256: row for row in announced}
    failing: list[Failing] = []
    for row in by_bundle.values():
        tries = connection.execute(
            select(device_updates.c.device_id, device_updates.c.state, device_updates.c.since)
            .join(devices, devices.c.device_id == device_updates.c.device_id)
            .where(
                device_updates.c.version == row.version,
                device_updates.c.state.in_([each.value for each in TRIED]),
                # One that says nothing now, since an older system runs, said it before.
                devices.c.compatible.is_(None) | (devices.c.compatible == row.compatible),
            )
            .order_by(device_updates.c.device_id)
        ).all()
        rolled_back = tuple(
            each.device_id
            for each in tries
            if each.state == UpdateState.ROLLED_BACK.value
            and (row.resumed_at is None or each.since > row.resumed_at)
        )
        if is_failing(len(rolled_back), len(tries)):
            failing.append(
                Failing(row.sha256, row.version, row.compatible, rolled_back, len(tries))
            )
    return failing
