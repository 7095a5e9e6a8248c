"""Staff sign in with badge and PIN: a session for the appliance's event and stall."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, insert, select, update
from uuid_utils.compat import uuid7

from cloud.keys import KeyRing
from cloud.operations.till.badge_and_pin import (
    Holder,
    Shown,
    count_failure,
    find_answer,
    find_holder,
    forget_failures,
    is_fresh,
    keep_answer,
    knows_pin,
)
from cloud.operations.till.opening import Opened
from cloud.store.database import Database
from cloud.store.locks import lock_devices
from cloud.store.tables import device_certificates, devices, events, staff_sessions
from protocol.messages import Declined, Outcome, Reason, SignedIn, SignIn
from protocol.policy import Badge, open_badge

_Row = Row[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is known of the appliance and the badge before the PIN is looked at."""

    device: _Row
    certificate_revoked: bool
    holder: Holder | None


def sign_in(database: Database, keys: KeyRing, opened: Opened, request: SignIn) -> Outcome:
    """A staff session for this appliance's event and stall, or why not; sent again, the same.

    Two transactions with the slow comparison between them, so that no lock waits for argon2. The
    first counts the try as failed: tries at once, or a crash in between, gain nothing.
    """
    badge = open_badge(request.badge.encode(), keys.find_badge)
    now = opened.arrived.arrived_at

    with database.transaction() as connection:
        lock_devices(connection, [request.device])
        answered = find_answer(connection, request, None)
        if answered is not None:
            return answered
        facts = _gather(connection, opened, request, badge)
        refusal = _judge(facts, badge, request, now)
        if refusal is not None:
            return keep_answer(connection, opened, request, badge, Declined(refusal))
        holder = facts.holder
        assert holder is not None, "judged"
        count_failure(connection, request.device, badge, holder.failures + 1, now)

    is_right = knows_pin(keys, request, holder)

    with database.transaction() as connection:
        lock_devices(connection, [request.device])
        answered = find_answer(connection, request, None)
        if answered is not None:
            return answered
        if not is_right:
            return keep_answer(connection, opened, request, badge, Declined(Reason.PIN_WRONG))
        # Read again: the appliance may have been revoked or moved while the PIN was compared.
        facts = _gather(connection, opened, request, badge)
        refusal = _judge(facts, badge, request, now, counted=True)
        if refusal is not None:
            return keep_answer(connection, opened, request, badge, Declined(refusal))
        forget_failures(connection, request.device, badge)
        signed_in = _begin(connection, facts, request, now)
        return keep_answer(connection, opened, request, badge, signed_in)


def _gather(connection: Connection, opened: Opened, request: SignIn, badge: Shown) -> _Facts:
    device = connection.execute(
        select(
            devices.c.status,
            devices.c.quarantined_at,
            devices.c.event_id,
            devices.c.stall_id,
            device_certificates.c.revoked_at.label("certificate_revoked_at"),
            events.c.staff_session_s,
        )
        .join(device_certificates, device_certificates.c.device_id == devices.c.device_id)
        .outerjoin(events, events.c.event_id == devices.c.event_id)
        .where(
            devices.c.device_id == request.device_id,
            device_certificates.c.thumbprint == opened.thumbprint,
        )
    ).one()
    holder = find_holder(connection, request.device, badge, device.stall_id)
    return _Facts(device, device.certificate_revoked_at is not None, holder)


def _judge(
    facts: _Facts, badge: Shown, request: SignIn, now: datetime, *, counted: bool = False
) -> Reason | None:
    """Everything but the PIN. `counted`: this very try is among the failures already."""
    if facts.device.status != "active" or facts.certificate_revoked:
        return Reason.DEVICE_REVOKED
    if facts.device.quarantined_at is not None:
        return Reason.DEVICE_QUARANTINED
    if not is_fresh(request, now):
        return Reason.SIGN_IN_STALE
    holder = facts.holder
    if not isinstance(badge, Badge) or holder is None:
        return Reason.BADGE_INVALID
    if facts.device.event_id is None:
        return Reason.DEVICE_ELSEWHERE
    if badge.event_id != facts.device.event_id or not holder.is_assigned:
        return Reason.STAFF_NOT_ASSIGNED
    if not counted and holder.locked_until is not None and now < holder.locked_until:
        return Reason.LOCKED_OUT
    return None


def _begin(connection: Connection, facts: _Facts, request: SignIn, now: datetime) -> SignedIn:
    """One session an appliance: whoever was signed in there before is not any more."""
    assert facts.holder is not None, "judged"
    connection.execute(
        update(staff_sessions)
        .where(staff_sessions.c.device_id == request.device_id, staff_sessions.c.ended_at.is_(None))
        .values(ended_at=now)
    )
    session_id: UUID = uuid7()
    expires_at = now + timedelta(seconds=facts.device.staff_session_s)
    connection.execute(
        insert(staff_sessions).values(
            session_id=session_id,
            staff_id=facts.holder.staff_id,
            device_id=request.device_id,
            event_id=facts.device.event_id,
            stall_id=facts.device.stall_id,
            created_at=now,
            expires_at=expires_at,
        )
    )
    return SignedIn(
        session_id=str(session_id),
        staff_id=facts.holder.staff_id,
        initials=facts.holder.initials,
        event_id=facts.device.event_id,
        stall_id=facts.device.stall_id,
        expires_at_ms=round(expires_at.timestamp() * 1000),
    )
