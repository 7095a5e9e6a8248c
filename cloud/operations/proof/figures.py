"""What stands in the database that somebody should act on before it grows: read, never changed."""

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    String,
    case,
    func,
    literal,
    literal_column,
    select,
)

from cloud.operations.fleet.read_devices import UPDATES_FAILED, is_to_come
from cloud.store.presence import WATCH_COUNTS_FOR, read_watch
from cloud.store.tables import (
    approvals,
    audit_pending,
    card_refunds,
    cash_outs,
    device_presence,
    device_updates,
    devices,
    letters,
    payments,
    review_entries,
)

SILENT_AFTER: Final = timedelta(minutes=3)
"""An appliance speaks at least once a minute while it has a network."""
COUNT_MAX: Final = 100_000
"""No count goes further: reading how far behind we are must not put us further behind."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    audit_pending: int
    audit_pending_oldest_s: float
    letters_waiting: int
    letters_oldest_s: float
    letters_given_up: int
    payments_pending: int
    payments_oldest_s: float
    card_refunds_waiting: int
    card_refunds_failed: int
    cash_outs_waiting: int
    review_entries_open: int
    approvals_waiting: int
    devices: dict[str, int]
    devices_silent: int
    devices_queue: int
    """What appliances still have to send, as they said last."""
    devices_online: int | None
    """None: no worker has listened to the broker lately, and nobody knows."""
    devices_clock_unset: int
    devices_hottest_celsius: int | None
    """None: none of them says."""
    devices_update_failed: int


_STATUS: Final = case(
    (
        (devices.c.status == "active") & devices.c.quarantined_at.is_not(None),
        literal_column("'quarantined'", String()),
    ),
    else_=devices.c.status,
).label("status")


def read_figures(connection: Connection, now: datetime) -> Figures:
    first_pending = connection.execute(
        select(audit_pending.c.pending_id).order_by(audit_pending.c.pending_id).limit(1)
    ).scalar()
    at_a_stall = (devices.c.status == "active") & devices.c.stall_id.is_not(None)
    letter_waits = letters.c.next_try_at.is_not(None)
    payment_waits = payments.c.poll_at.is_not(None)
    return Figures(
        audit_pending=_count(connection, audit_pending),
        audit_pending_oldest_s=0.0
        if first_pending is None
        else _age_s(_made_at(first_pending), now),
        letters_waiting=_count(connection, letters, letter_waits),
        letters_oldest_s=_oldest_s(connection, letters.c.created_at, letter_waits, now),
        letters_given_up=_count(connection, letters, letters.c.state == "given_up"),
        payments_pending=_count(connection, payments, payment_waits),
        payments_oldest_s=_oldest_s(connection, payments.c.created_at, payment_waits, now),
        card_refunds_waiting=_count(
            connection, card_refunds, card_refunds.c.next_try_at.is_not(None)
        ),
        card_refunds_failed=_count(connection, card_refunds, card_refunds.c.state == "failed"),
        cash_outs_waiting=_count(
            connection, cash_outs, cash_outs.c.state.in_(("waiting", "posted"))
        ),
        review_entries_open=_count(connection, review_entries, review_entries.c.state == "open"),
        approvals_waiting=_count(connection, approvals, approvals.c.state == "waiting"),
        devices={
            str(row.status): row.devices
            for row in connection.execute(
                select(_STATUS, func.count().label("devices")).group_by(_STATUS)
            )
        },
        devices_silent=_count(
            connection,
            devices,
            at_a_stall
            & (devices.c.last_seen_at.is_(None) | (devices.c.last_seen_at < now - SILENT_AFTER)),
        ),
        devices_queue=int(
            connection.execute(
                select(func.coalesce(func.sum(devices.c.queue), 0)).where(at_a_stall)
            ).scalar_one()
        ),
        devices_online=_online(connection, now),
        devices_clock_unset=_count(connection, devices, at_a_stall & (devices.c.clock == "unset")),
        devices_hottest_celsius=connection.execute(
            select(func.max(devices.c.temperature_c)).where(
                at_a_stall, devices.c.last_seen_at >= now - SILENT_AFTER
            )
        ).scalar(),
        devices_update_failed=_updates_failed(connection, at_a_stall),
    )


def _updates_failed(connection: Connection, at_a_stall: ColumnElement[bool]) -> int:
    of = devices.c
    place = (of.announced_version, of.image, of.announced_downgrade)
    rows = connection.execute(
        select(*place, func.count())
        .join(device_updates, device_updates.c.device_id == of.device_id)
        .where(
            at_a_stall,
            device_updates.c.version == of.announced_version,
            device_updates.c.state.in_(UPDATES_FAILED),
        )
        .group_by(*place)
    )
    # No database knows which of two versions is the newer; there are few of them.
    return sum(
        number
        for announced, image, allows_downgrade, number in rows
        if is_to_come(announced, image, allows_downgrade=allows_downgrade)
    )


def _online(connection: Connection, now: datetime) -> int | None:
    heard_at = read_watch(connection)
    if heard_at is None or now - heard_at > WATCH_COUNTS_FOR:
        return None
    return _count(connection, device_presence, device_presence.c.is_online)


def _count(
    connection: Connection, table: FromClause, where: ColumnElement[bool] | None = None
) -> int:
    found = select(literal(1)).select_from(table).limit(COUNT_MAX)
    if where is not None:
        found = found.where(where)
    return connection.execute(select(func.count()).select_from(found.subquery())).scalar_one()


def _oldest_s(
    connection: Connection,
    column: ColumnElement[datetime],
    where: ColumnElement[bool],
    now: datetime,
) -> float:
    oldest = connection.execute(select(func.min(column)).where(where)).scalar()
    return 0.0 if oldest is None else _age_s(oldest, now)


def _age_s(then: datetime, now: datetime) -> float:
    return max(0.0, (now - then).total_seconds())


def _made_at(row_id: UUID) -> datetime:
    """When a UUIDv7 was made: its first 48 bits are milliseconds since 1970 (RFC 9562)."""
    return datetime.fromtimestamp((row_id.int >> 80) / 1000, UTC)
