"""Staff sign in with badge and PIN; each try counts before the PIN is looked at."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, delete, exists, insert, or_, select, update
from uuid_utils.compat import uuid7

from cloud.access.pins import is_pin
from cloud.keys import KeyRing
from cloud.ledger.facts import KeyState
from cloud.ledger.lockout import locked_until
from cloud.operations.opening import Opened
from cloud.store.database import Database
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.locks import lock_devices
from cloud.store.tables import (
    badges,
    device_certificates,
    devices,
    events,
    outcomes,
    sign_in_failures,
    staff,
    staff_assignments,
    staff_sessions,
)
from protocol.ids import DeviceId
from protocol.messages import (
    Declined,
    Outcome,
    Reason,
    SignedIn,
    SignIn,
    decode_outcome,
    encode_outcome,
    kind_of,
)
from protocol.policy import Badge, open_badge
from protocol.sealing import open_pin
from protocol.signing import SignatureRefusal

_Row = Row[*tuple[Any, ...]]

FRESH: Final = timedelta(seconds=30)
"""A sign-in is for now: no older, and no further ahead by the appliance's clock."""


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is known of the appliance and the badge before the PIN is looked at."""

    device: _Row
    certificate_revoked: bool
    badge: _Row | None
    """None: no such badge, or revoked."""
    staff_assigned: bool
    failures: int
    locked_until: datetime | None


def sign_in(database: Database, keys: KeyRing, opened: Opened, request: SignIn) -> Outcome:
    """A staff session for this appliance's event and stall, or why not; sent again, the same.

    Two transactions with the slow comparison between them, so that no lock waits for argon2. The
    first counts the try as failed: tries at once, or a crash in between, gain nothing.
    """
    badge = open_badge(request.badge.encode(), keys.find_badge)
    now = opened.arrived.arrived_at

    with database.transaction() as connection:
        lock_devices(connection, [request.device])
        answered = _find_answer(connection, request)
        if answered is not None:
            return answered
        facts = _gather(connection, opened, request, badge)
        refusal = _judge(facts, badge, request, now)
        if refusal is not None:
            return _keep(connection, opened, request, badge, Declined(refusal))
        assert isinstance(badge, Badge), "judged"
        _count_failure(connection, request.device, badge, facts.failures + 1, now)

    assert facts.badge is not None, "judged"
    pin = open_pin(request.sealed_pin, keys.pin.private, request.device, request.idempotency_key)
    is_right = pin is not None and is_pin(pin, facts.badge.pin_hash)

    with database.transaction() as connection:
        lock_devices(connection, [request.device])
        answered = _find_answer(connection, request)
        if answered is not None:
            return answered
        if not is_right:
            return _keep(connection, opened, request, badge, Declined(Reason.PIN_WRONG))
        # Read again: the appliance may have been revoked or moved while the PIN was compared.
        facts = _gather(connection, opened, request, badge)
        refusal = _judge(facts, badge, request, now, counted=True)
        if refusal is not None:
            return _keep(connection, opened, request, badge, Declined(refusal))
        _forget_failures(connection, request.device, badge)
        return _keep(connection, opened, request, badge, _begin(connection, facts, request, now))


def _find_answer(connection: Connection, request: SignIn) -> Outcome | None:
    """What this key was answered before; a sale's key signs nobody in."""
    row = connection.execute(
        select(outcomes.c.state, outcomes.c.answer).where(
            outcomes.c.device_id == request.device_id, outcomes.c.key == request.key
        )
    ).one_or_none()
    if row is None:
        return None
    if row.state != KeyState.ANSWERED:
        return Declined(Reason.KEY_REUSED)
    return decode_outcome(bytes(row.answer))


def _gather(
    connection: Connection, opened: Opened, request: SignIn, badge: Badge | SignatureRefusal
) -> _Facts:
    device = connection.execute(
        select(
            devices.c.status,
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
    is_revoked = device.certificate_revoked_at is not None
    if not isinstance(badge, Badge):
        return _Facts(device, is_revoked, None, False, 0, None)
    known = connection.execute(
        select(badges.c.staff_id, badges.c.pin_hash, staff.c.initials)
        .join(staff, staff.c.staff_id == badges.c.staff_id)
        .where(
            badges.c.badge_id == badge.badge_id,
            badges.c.staff_id == badge.staff_id,
            badges.c.event_id == badge.event_id,
            badges.c.revoked_at.is_(None),
        )
    ).one_or_none()
    is_assigned = connection.execute(
        select(
            exists().where(
                staff_assignments.c.staff_id == badge.staff_id,
                staff_assignments.c.event_id == device.event_id,
                or_(
                    staff_assignments.c.stall_id.is_(None),
                    staff_assignments.c.stall_id == device.stall_id,
                ),
            )
        )
    ).scalar_one()
    failures = connection.execute(
        select(sign_in_failures.c.count.label("failures"), sign_in_failures.c.locked_until).where(
            sign_in_failures.c.badge_id == badge.badge_id,
            sign_in_failures.c.device_id == request.device_id,
        )
    ).one_or_none()
    count, until = (0, None) if failures is None else (failures.failures, failures.locked_until)
    return _Facts(device, is_revoked, known, bool(is_assigned), count, until)


def _judge(
    facts: _Facts,
    badge: Badge | SignatureRefusal,
    request: SignIn,
    now: datetime,
    *,
    counted: bool = False,
) -> Reason | None:
    """Everything but the PIN. `counted`: this very try is among the failures already."""
    if facts.device.status != "active" or facts.certificate_revoked:
        return Reason.DEVICE_REVOKED
    if abs(now.timestamp() - request.sent_at_ms / 1000) > FRESH.total_seconds():
        return Reason.SIGN_IN_STALE
    if not isinstance(badge, Badge) or facts.badge is None:
        return Reason.BADGE_INVALID
    if facts.device.event_id is None:
        return Reason.DEVICE_ELSEWHERE
    if badge.event_id != facts.device.event_id or not facts.staff_assigned:
        return Reason.STAFF_NOT_ASSIGNED
    if not counted and facts.locked_until is not None and now < facts.locked_until:
        return Reason.LOCKED_OUT
    return None


def _begin(connection: Connection, facts: _Facts, request: SignIn, now: datetime) -> SignedIn:
    """One session an appliance: whoever was signed in there before is not any more."""
    assert facts.badge is not None, "judged"
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
            staff_id=facts.badge.staff_id,
            device_id=request.device_id,
            event_id=facts.device.event_id,
            stall_id=facts.device.stall_id,
            created_at=now,
            expires_at=expires_at,
        )
    )
    return SignedIn(
        session_id=str(session_id),
        staff_id=facts.badge.staff_id,
        initials=facts.badge.initials,
        event_id=facts.device.event_id,
        stall_id=facts.device.stall_id,
        expires_at_ms=round(expires_at.timestamp() * 1000),
    )


def _keep(
    connection: Connection,
    opened: Opened,
    request: SignIn,
    badge: Badge | SignatureRefusal,
    outcome: SignedIn | Declined,
) -> Outcome:
    """The answer under its key, and the record of the try."""
    now = opened.arrived.arrived_at
    connection.execute(
        insert(outcomes).values(
            device_id=request.device_id,
            key=request.key,
            state=KeyState.ANSWERED,
            answer=encode_outcome(outcome),
            epoch=request.journal.epoch,
            created_at=now,
        )
    )
    is_badge = isinstance(badge, Badge)
    actor = f"staff:{badge.staff_id}" if is_badge else f"device:{request.device_id}"
    record = AuditRow(
        at=now,
        actor=actor,
        action=kind_of(request),
        outcome="signed_in" if isinstance(outcome, SignedIn) else outcome.reason.value,
        device_id=request.device_id,
        event_id=badge.event_id if is_badge else None,
        subject=request.key,
        request_hash=opened.request_hash,
        detail={"badge": badge.badge_id} if is_badge else None,
    )
    write_audit_records(connection, [record])
    return outcome


def _count_failure(
    connection: Connection, device_id: DeviceId, badge: Badge, failures: int, now: datetime
) -> None:
    _forget_failures(connection, device_id, badge)
    connection.execute(
        insert(sign_in_failures).values(
            badge_id=badge.badge_id,
            device_id=device_id,
            count=failures,
            locked_until=locked_until(failures, now),
        )
    )


def _forget_failures(
    connection: Connection, device_id: DeviceId, badge: Badge | SignatureRefusal
) -> None:
    assert isinstance(badge, Badge), "judged"
    connection.execute(
        delete(sign_in_failures).where(
            sign_in_failures.c.badge_id == badge.badge_id,
            sign_in_failures.c.device_id == device_id,
        )
    )
