"""Appliances as the people who run the event see them: where, how, and what is wrong with each."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Select, func, select

from cloud.store.database import Database
from cloud.store.presence import WATCH_COUNTS_FOR, read_watch
from cloud.store.tables import (
    device_certificates,
    device_presence,
    device_updates,
    devices,
    events,
    policies,
)
from protocol.ids import DeviceId, EventId, StallId
from protocol.updates import UpdateState, is_newer

HEARD_LATELY: Final = timedelta(seconds=60)
"""Four heartbeats: whoever signed one of them is there, whatever the broker says."""
SILENT_AFTER: Final = timedelta(minutes=3)
EXPIRES_SOON: Final = timedelta(days=14)
POLICY_DUE_AFTER: Final = timedelta(minutes=2)
"""An appliance that is in the middle of a sale acknowledges when it is done."""
HOT_C: Final = 80
"""A Raspberry Pi slows itself down from here on."""
PRINTERS_WELL: Final = frozenset({"ok", "none"})
UPDATES_FAILED: Final = frozenset({UpdateState.REFUSED.value, UpdateState.ROLLED_BACK.value})


class Trouble(StrEnum):
    """What somebody should see to; the gravest first."""

    QUARANTINED = "quarantined"
    STILL_CONNECTED = "still_connected"
    """Revoked or decommissioned, and the broker has a connection of it."""
    OFFLINE = "offline"
    SILENT = "silent"
    """Connected, or nobody knows, and not heard for three minutes."""
    MONEY_WAITS = "money_waits"
    """It sold offline, and the cloud has no word of it yet."""
    CLOCK = "clock"
    """It has its time from nobody: no offline sales, and wrong times on receipts."""
    CERTIFICATE = "certificate"
    """It expires within two weeks: the renewal, due a month before, does not come through."""
    POLICY = "policy"
    """It was sent a newer policy two minutes ago, and has not acknowledged it."""
    PRINTER = "printer"
    HOT = "hot"
    UPDATE = "update"
    """It refused the version that it is to have, or went back from it."""


_GRAVITY: Final = {problem: place for place, problem in enumerate(Trouble)}


@dataclass(frozen=True, slots=True)
class DeviceUpdate:
    """How far it came with the newest version it took up."""

    version: str
    state: str
    percent: int
    why: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Device:
    """An appliance as the people who run the event see it."""

    device_id: DeviceId
    status: str
    event_id: EventId | None
    stall_id: StallId | None
    policy_version: int
    policy_acked: int
    queue: int | None
    """Messages that wait for a signed answer, by its newest heartbeat."""
    firmware: str | None
    printer: str | None
    last_seen_at: datetime | None
    revoked_at: datetime | None
    quarantined_at: datetime | None
    quarantine_cause: str | None
    """What it said of its journal that no honest appliance can say."""
    retired_reason: str | None
    replaced_by: DeviceId | None
    online: bool | None
    """By the broker's word or a heartbeat just now; None: nobody knows."""
    online_at: datetime | None
    """Since when it is connected, or is not, as the broker said."""
    last_sale_at: datetime | None
    queue_in_cents: int | None
    """What of the queue was sold offline."""
    currency: str | None
    """Of its event."""
    temperature_c: int | None
    clock: str | None
    uptime_s: int | None
    channel: str
    """Whose releases it is to have."""
    image: str | None
    """The version it runs; None: its system is none of ours."""
    slot: str | None
    announced_version: str | None
    """What its newest policy says it is to run."""
    update: DeviceUpdate | None
    certificate_expires_at: datetime | None
    """Of the certificate it uses."""
    problems: tuple[Trouble, ...]
    """The gravest first."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which appliances to list; what is None or empty leaves none out."""

    event_id: str | None = None
    stall_id: str | None = None
    status: str | None = None
    online: bool | None = None
    problems: Collection[Trouble] = ()
    """Those that have any of these."""
    in_trouble: bool = False
    """Those that have any at all."""
    expiring_within: timedelta | None = None
    behind: bool = False
    """Those that have not acknowledged their newest policy."""
    firmware: str | None = None
    """What it begins with."""
    after: str | None = None
    """Those whose name sorts after this one: where the page before ended."""
    limit: int | None = None


def list_devices(
    database: Database,
    now: datetime,
    within: frozenset[EventId] | None = None,
    wanted: Wanted | None = None,
) -> list[Device]:
    """Those at the events for which somebody acts (None: at every one), by name, of one moment."""
    wanted = wanted or Wanted()
    asked = _SEEN.where(*_conditions(wanted, within)).order_by(devices.c.device_id)
    with database.one_moment() as connection:
        is_watched = _is_watched(connection, now)
        found = (_device(row, is_watched, now) for row in connection.execute(asked))
        return list(islice((each for each in found if _is_wanted(each, wanted, now)), wanted.limit))


def read_device(connection: Connection, device_id: DeviceId, now: datetime) -> Device:
    row = connection.execute(_SEEN.where(devices.c.device_id == device_id)).one()
    return _device(row, _is_watched(connection, now), now)


def is_to_come(announced: str, image: str | None, *, allows_downgrade: bool) -> bool:
    """Whether an appliance that runs `image` has to come to the version it was told of: what is
    older it passes over, and nobody need see to that."""
    return allows_downgrade or image is None or not is_newer(image, announced)


def _select_seen() -> Select[Any]:
    used = device_certificates.c.first_used_at.is_not(None)
    expiry = (
        select(
            device_certificates.c.device_id,
            # A newer one that was issued and never came through is not the one it uses.
            func.coalesce(
                func.max(device_certificates.c.not_after).filter(used),
                func.max(device_certificates.c.not_after),
            ).label("certificate_expires_at"),
        )
        .where(device_certificates.c.revoked_at.is_(None))
        .group_by(device_certificates.c.device_id)
        .subquery()
    )
    newest = policies.c.version == devices.c.policy_version
    return (
        select(
            devices,
            device_presence.c.is_online,
            device_presence.c.since.label("online_at"),
            expiry.c.certificate_expires_at,
            policies.c.issued_at.label("policy_issued_at"),
            events.c.currency,
            device_updates.c.state.label("update_state"),
            device_updates.c.percent.label("update_percent"),
            device_updates.c.why.label("update_why"),
            device_updates.c.since.label("update_since"),
        )
        .outerjoin(device_presence, device_presence.c.device_id == devices.c.device_id)
        .outerjoin(expiry, expiry.c.device_id == devices.c.device_id)
        .outerjoin(events, events.c.event_id == devices.c.event_id)
        .outerjoin(policies, (policies.c.device_id == devices.c.device_id) & newest)
        .outerjoin(
            device_updates,
            (device_updates.c.device_id == devices.c.device_id)
            & (device_updates.c.version == devices.c.update_version),
        )
    )


_SEEN: Final = _select_seen()


def _conditions(wanted: Wanted, within: frozenset[EventId] | None) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if within is not None:
        conditions.append(devices.c.event_id.in_(within))
    if wanted.event_id is not None:
        conditions.append(devices.c.event_id == wanted.event_id)
    if wanted.stall_id is not None:
        conditions.append(devices.c.stall_id == wanted.stall_id)
    if wanted.behind:
        conditions.append(devices.c.policy_acked < devices.c.policy_version)
    if wanted.firmware is not None:
        conditions.append(devices.c.firmware.startswith(wanted.firmware, autoescape=True))
    if wanted.after is not None:
        conditions.append(devices.c.device_id > wanted.after)
    return conditions


def _is_wanted(device: Device, wanted: Wanted, now: datetime) -> bool:
    if wanted.status is not None and device.status != wanted.status:
        return False
    # Nobody asks for those of whom nobody knows by either name.
    if wanted.online is not None and device.online is not wanted.online:
        return False
    if wanted.in_trouble and not device.problems:
        return False
    if wanted.problems and not set(wanted.problems) & set(device.problems):
        return False
    if wanted.expiring_within is not None:
        expires_at = device.certificate_expires_at
        return expires_at is not None and expires_at <= now + wanted.expiring_within
    return True


def _is_watched(connection: Connection, now: datetime) -> bool:
    heard_at = read_watch(connection)
    return heard_at is not None and now - heard_at <= WATCH_COUNTS_FOR


def _device(row: Row[Any], is_watched: bool, now: datetime) -> Device:
    is_quarantined = row.status == "active" and row.quarantined_at is not None
    online = _online(row, is_watched, now)
    return Device(
        device_id=row.device_id,
        status="quarantined" if is_quarantined else row.status,
        event_id=row.event_id,
        stall_id=row.stall_id,
        policy_version=row.policy_version,
        policy_acked=row.policy_acked,
        queue=row.queue,
        firmware=row.firmware,
        printer=row.printer,
        last_seen_at=row.last_seen_at,
        revoked_at=row.revoked_at,
        quarantined_at=row.quarantined_at,
        quarantine_cause=row.quarantine_cause,
        retired_reason=row.retired_reason,
        replaced_by=row.replaced_by,
        online=online,
        online_at=row.online_at,
        last_sale_at=row.last_sale_at,
        queue_in_cents=row.queue_in_cents,
        currency=row.currency,
        temperature_c=row.temperature_c,
        clock=row.clock,
        uptime_s=row.uptime_s,
        channel=row.channel,
        image=row.image,
        slot=row.slot,
        announced_version=row.announced_version,
        update=_update(row),
        certificate_expires_at=row.certificate_expires_at,
        problems=_problems(row, online, now),
    )


def _update(row: Row[Any]) -> DeviceUpdate | None:
    if row.update_state is None:
        return None
    return DeviceUpdate(
        row.update_version, row.update_state, row.update_percent, row.update_why, row.update_since
    )


def _online(row: Row[Any], is_watched: bool, now: datetime) -> bool | None:
    """What it signed just now outdoes what the broker said before, and needs no broker."""
    seen_at = row.last_seen_at
    if seen_at is not None and now - seen_at <= HEARD_LATELY:
        left_since = is_watched and row.is_online is False and row.online_at >= seen_at
        return not left_since
    return row.is_online if is_watched else None


def _problems(row: Row[Any], online: bool | None, now: datetime) -> tuple[Trouble, ...]:
    if row.status != "active":
        return (Trouble.STILL_CONNECTED,) if online else ()
    found: list[Trouble] = []
    if row.quarantined_at is not None:
        found.append(Trouble.QUARANTINED)
    if row.stall_id is not None:
        found += _absences(row, online, now)
    found += _ailments(row, now)
    return tuple(sorted(found, key=_GRAVITY.__getitem__))


def _absences(row: Row[Any], online: bool | None, now: datetime) -> list[Trouble]:
    if online is False:
        return [Trouble.OFFLINE]
    seen_at = row.last_seen_at
    is_silent = seen_at is None or now - seen_at > SILENT_AFTER
    return [Trouble.SILENT] if is_silent else []


def _ailments(row: Row[Any], now: datetime) -> list[Trouble]:
    found: list[Trouble] = []
    if row.queue_in_cents:
        found.append(Trouble.MONEY_WAITS)
    if row.clock == "unset":
        found.append(Trouble.CLOCK)
    expires_at = row.certificate_expires_at
    if expires_at is not None and expires_at <= now + EXPIRES_SOON:
        found.append(Trouble.CERTIFICATE)
    issued_at = row.policy_issued_at
    is_behind = row.policy_acked < row.policy_version
    if is_behind and issued_at is not None and issued_at <= now - POLICY_DUE_AFTER:
        found.append(Trouble.POLICY)
    if row.printer is not None and row.printer not in PRINTERS_WELL:
        found.append(Trouble.PRINTER)
    if row.temperature_c is not None and row.temperature_c >= HOT_C:
        found.append(Trouble.HOT)
    if _has_failed_update(row):
        found.append(Trouble.UPDATE)
    return found


def _has_failed_update(row: Row[Any]) -> bool:
    if row.update_version is None or row.update_version != row.announced_version:
        return False
    return row.update_state in UPDATES_FAILED and is_to_come(
        row.announced_version, row.image, allows_downgrade=row.announced_downgrade
    )
