"""What a cash-out is decided from: the wallet, its purchases, the appliances."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, func, select

from cloud.ledger.cash_out import Appliance, Holdings, Purchase, most_sold_offline, proof_begins
from cloud.ledger.postings import Direction
from cloud.operations.cards.card_payments import PaymentState, Purpose
from cloud.operations.cards.card_refunds import refundable_in_cents
from cloud.operations.issue_token import OFFLINE_ALLOWANCE_MAX_IN_CENTS
from cloud.store.tables import (
    credit_transactions,
    credit_wallets,
    devices,
    events,
    payments,
    staff_sessions,
)
from protocol.policy import OfflineRules


def read_holdings(connection: Connection, user_id: UUID, currency: str) -> Holdings:
    """As of now, nothing locked: good for an answer, not for a posting."""
    wallet = connection.execute(
        select(credit_wallets).where(
            credit_wallets.c.user_id == user_id, credit_wallets.c.currency == currency
        )
    ).one_or_none()
    purchases = find_purchases(connection, user_id, currency)
    return Holdings(
        0 if wallet is None else wallet.balance_in_cents,
        wallet is not None and wallet.offline_frozen,
        purchases_of(connection, purchases),
    )


def find_purchases(
    connection: Connection, user_id: UUID, currency: str, *, lock: bool = False
) -> Sequence[Row[Any]]:
    """The payments that bought Credits, oldest first. `lock`: held until the commit."""
    statement = (
        select(payments)
        .where(
            payments.c.user_id == user_id,
            payments.c.currency == currency,
            payments.c.purpose == Purpose.TOP_UP,
            payments.c.state == PaymentState.SUCCEEDED,
        )
        # Ids are UUIDv7: this is also their age.
        .order_by(payments.c.id)
    )
    return connection.execute(statement.with_for_update() if lock else statement).all()


def purchases_of(connection: Connection, rows: Sequence[Row[Any]]) -> tuple[Purchase, ...]:
    return tuple(Purchase(str(row.id), refundable_in_cents(connection, row)) for row in rows)


def find_unsettled(
    connection: Connection, user_id: UUID, currency: str, asked_at: datetime
) -> list[Appliance]:
    """Each active appliance that may have sold to this wallet without the cloud.

    Somebody was signed in there for an event in this currency, and one of these: such an event
    allows offline sales; it has not acknowledged its newest policy, and may go by an older one; it
    says that something waits in its queue.
    """
    signed_in = (
        select(
            staff_sessions.c.device_id,
            events.c.offline_rules,
            events.c.ends_at,
        )
        .join(events, events.c.event_id == staff_sessions.c.event_id)
        .where(events.c.currency == currency)
        .group_by(staff_sessions.c.device_id, events.c.event_id)
        .subquery()
    )
    rows = connection.execute(
        select(
            devices.c.device_id,
            devices.c.last_seen_at,
            devices.c.queue,
            devices.c.quarantined_at,
            devices.c.journal_last,
            devices.c.journal_settled_below,
            (devices.c.policy_acked < devices.c.policy_version).label("is_behind"),
            signed_in.c.offline_rules,
            signed_in.c.ends_at,
        )
        .join(signed_in, signed_in.c.device_id == devices.c.device_id)
        .where(devices.c.status == "active")
    ).all()
    if not rows:
        return []
    came_in_cents = _came_in_cents(connection, user_id, currency)
    places: dict[str, list[Any]] = {}
    for row in rows:
        places.setdefault(row.device_id, []).append(row)
    found = [_appliance(each, came_in_cents, asked_at) for each in places.values()]
    return [each for each in found if each is not None]


def _came_in_cents(connection: Connection, user_id: UUID, currency: str) -> int:
    """All that ever came into the wallet: it was never worth more, and no QR said more."""
    total = connection.execute(
        select(func.coalesce(func.sum(credit_transactions.c.amount_in_cents), 0)).where(
            credit_transactions.c.user_id == user_id,
            credit_transactions.c.currency == currency,
            credit_transactions.c.direction == Direction.IN,
        )
    ).scalar_one()
    return int(total)


def _appliance(rows: Sequence[Any], came_in_cents: int, asked_at: datetime) -> Appliance | None:
    """One appliance, from a row for each event in the currency that it was used at."""
    device = rows[0]
    rules = [msgspec.convert(row.offline_rules, OfflineRules) for row in rows if row.offline_rules]
    limits = [each.wallet_max_in_cents for each in rules if each.allowed]
    has_queue = bool(device.queue)
    if device.is_behind or has_queue:
        # What an older policy allowed is not looked up: the QR's own limit alone counts.
        limits.append(OFFLINE_ALLOWANCE_MAX_IN_CENTS)
    if not limits:
        return None
    ends = [row.ends_at for row in rows]
    last_end = None if None in ends else max(ends)
    # What a quarantined one says of its queue and its journal proves nothing.
    is_settled = device.quarantined_at is None and (
        device.journal_last is None or device.journal_settled_below > device.journal_last
    )
    limit = min(OFFLINE_ALLOWANCE_MAX_IN_CENTS, max(limits))
    return Appliance(
        allowance_in_cents=most_sold_offline(came_in_cents, limit),
        proves_from=proof_begins(asked_at, last_end),
        seen_at=device.last_seen_at,
        is_queue_empty=not has_queue and is_settled,
    )
