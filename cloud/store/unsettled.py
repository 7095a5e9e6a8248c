"""Approvals that an appliance never said it knows of: found, and put before a person."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, insert, or_, select
from uuid_utils.compat import uuid7

from cloud.ledger.decisions import ReviewCause
from cloud.ledger.facts import KeyState
from cloud.store.tables import credit_transactions, devices, outcomes, review_entries
from protocol.ids import DeviceId
from protocol.messages import JournalPosition, Reason


def review_unsettled_of(
    connection: Connection,
    device_id: DeviceId,
    reason: Reason | ReviewCause,
    now: datetime,
    *,
    journal: JournalPosition | None = None,
    approved_before: datetime | None = None,
) -> int:
    """Put each on the review list, once; the appliance's lock is held. How many there were.

    `journal`: the one that the appliance has just left, instead of the one in its row.
    """
    found = (
        _find(
            journal,
            outcomes.c.key,
            outcomes.c.user_id,
            outcomes.c.transaction_id,
            credit_transactions.c.amount_in_cents,
            credit_transactions.c.currency,
            credit_transactions.c.event_id,
        )
        .where(outcomes.c.device_id == device_id)
        .order_by(outcomes.c.entry)
    )
    if approved_before is not None:
        found = found.where(outcomes.c.created_at < approved_before)
    rows = [
        {
            "review_id": uuid7(),
            "device_id": device_id,
            "key": row.key,
            "kind": "deduct",
            "reason": reason.value,
            "request": None,
            "user_id": row.user_id,
            "amount_in_cents": row.amount_in_cents,
            "currency": row.currency,
            "event_id": row.event_id,
            "state": "open",
            "transaction_id": row.transaction_id,
            "created_at": now,
        }
        for row in connection.execute(found)
    ]
    if rows:
        connection.execute(insert(review_entries), rows)
    return len(rows)


def count_unsettled_of(connection: Connection, device_id: DeviceId) -> int:
    """How many there are that are not on the list yet."""
    found = _find(None, outcomes.c.key).where(outcomes.c.device_id == device_id).subquery()
    return connection.execute(select(func.count()).select_from(found)).scalar_one()


def find_unsettled_devices(connection: Connection, approved_before: datetime) -> list[DeviceId]:
    """Appliances with an approval older than that of which they still have not said anything."""
    found = (
        _find(None, outcomes.c.device_id)
        .where(outcomes.c.created_at < approved_before)
        .distinct()
        .order_by(outcomes.c.device_id)
    )
    return [DeviceId(device_id) for device_id in connection.execute(found).scalars()]


def _find(
    journal: JournalPosition | None, *columns: ColumnElement[Any]
) -> Select[*tuple[Any, ...]]:
    if journal is None:
        # What came after the newest heartbeat may stand in a journal it did not know yet.
        is_unsettled = or_(
            devices.c.journal_epoch.is_(None),
            and_(
                outcomes.c.epoch == devices.c.journal_epoch,
                outcomes.c.entry >= devices.c.journal_settled_below,
            ),
            and_(
                outcomes.c.epoch != devices.c.journal_epoch,
                outcomes.c.created_at > devices.c.last_seen_at,
            ),
        )
    else:
        is_unsettled = and_(
            outcomes.c.epoch == journal.epoch, outcomes.c.entry >= journal.settled_below
        )
    is_listed = (
        select(review_entries.c.review_id)
        .where(
            review_entries.c.device_id == outcomes.c.device_id,
            review_entries.c.key == outcomes.c.key,
        )
        .exists()
    )
    return (
        select(*columns)
        .select_from(outcomes)
        .join(devices, devices.c.device_id == outcomes.c.device_id)
        .join(
            credit_transactions,
            and_(
                credit_transactions.c.user_id == outcomes.c.user_id,
                credit_transactions.c.id == outcomes.c.transaction_id,
            ),
        )
        .where(outcomes.c.state == KeyState.APPROVED.value, is_unsettled, ~is_listed)
    )
