"""A staff session at an appliance: what is known of who wants one, who may, and its beginning."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, insert, select, update
from uuid_utils.compat import uuid7

from cloud.operations.till.badge_and_pin import Holder, Shown, find_holder, is_fresh
from cloud.operations.till.opening import Opened
from cloud.store.tables import device_certificates, devices, events, staff_sessions
from protocol.messages import ChoosePin, Reason, SignedIn, SignIn
from protocol.policy import Badge


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the appliance and the badge before the PIN is looked at."""

    device: Row[*tuple[Any, ...]]
    certificate_revoked: bool
    holder: Holder | None

    @property
    def pin_hash(self) -> str | None:
        return None if self.holder is None else self.holder.pin_hash


def gather(
    connection: Connection,
    opened: Opened,
    request: SignIn | ChoosePin,
    badge: Shown,
    *,
    to_change: bool = False,
) -> Facts:
    """`to_change`: the badge's row is held until the commit for this writer alone."""
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
    holder = find_holder(connection, request.device, badge, device.stall_id, to_change=to_change)
    return Facts(device, device.certificate_revoked_at is not None, holder)


def judge(
    facts: Facts,
    badge: Shown,
    request: SignIn | ChoosePin,
    now: datetime,
    *,
    counted: bool = False,
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


def begin(
    connection: Connection, facts: Facts, request: SignIn | ChoosePin, now: datetime
) -> SignedIn:
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
