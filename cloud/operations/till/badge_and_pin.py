"""Who holds a badge and knows its PIN, at one appliance: each try counts before the PIN is read."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete, insert, or_, select

from cloud.access.pins import is_pin, refuse_pin
from cloud.keys import KeyRing
from cloud.ledger.facts import KeyState
from cloud.ledger.lockout import locked_until
from cloud.operations.till.opening import Opened
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.tables import badges, outcomes, sign_in_failures, staff, staff_assignments
from protocol.ids import DeviceId
from protocol.messages import (
    Approve,
    ChoosePin,
    Declined,
    Outcome,
    Reason,
    SignIn,
    decode_outcome,
    encode_outcome,
    kind_of,
)
from protocol.policy import Badge
from protocol.sealing import open_pin
from protocol.signing import SignatureRefusal

FRESH: Final = timedelta(seconds=30)
"""A badge and a PIN are for now: no older, and no further ahead by the appliance's clock."""

Shown = Badge | SignatureRefusal
"""What was held before the camera."""

WithPin = SignIn | ChoosePin | Approve
"""What carries a badge and a sealed PIN."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose badge it is, where it counts, and how often its PIN was wrong here."""

    staff_id: str
    initials: str
    pin_hash: str | None
    """None: no PIN was chosen yet."""
    choose_until: datetime | None
    """Until then whoever holds a badge without a PIN may choose one."""
    is_assigned: bool
    is_supervisor: bool
    failures: int
    locked_until: datetime | None


def find_holder(
    connection: Connection,
    device_id: DeviceId,
    badge: Shown,
    stall_id: str | None,
    *,
    to_change: bool = False,
) -> Holder | None:
    """The badge's holder as they stand at that stall of the badge's event; None: no such badge, or
    revoked.

    The badge's row is held until the commit, with others who read it, or `to_change` it alone: it
    is not revoked, and its PIN neither set nor forgotten, while somebody is let in with it.
    """
    if not isinstance(badge, Badge):
        return None
    known = connection.execute(
        select(badges.c.staff_id, badges.c.pin_hash, badges.c.choose_until, staff.c.initials)
        .join(staff, staff.c.staff_id == badges.c.staff_id)
        .where(
            badges.c.badge_id == badge.badge_id,
            badges.c.staff_id == badge.staff_id,
            badges.c.event_id == badge.event_id,
            badges.c.revoked_at.is_(None),
        )
        .with_for_update(read=not to_change, of=badges)
    ).one_or_none()
    if known is None:
        return None
    assigned = connection.execute(
        select(staff_assignments.c.is_supervisor).where(
            staff_assignments.c.staff_id == badge.staff_id,
            staff_assignments.c.event_id == badge.event_id,
            or_(
                staff_assignments.c.stall_id.is_(None),
                staff_assignments.c.stall_id == stall_id,
            ),
        )
    ).scalars()
    places = list(assigned)
    failures = connection.execute(
        select(sign_in_failures.c.count.label("failures"), sign_in_failures.c.locked_until).where(
            sign_in_failures.c.badge_id == badge.badge_id,
            sign_in_failures.c.device_id == device_id,
        )
    ).one_or_none()
    return Holder(
        staff_id=known.staff_id,
        initials=known.initials,
        pin_hash=known.pin_hash,
        choose_until=known.choose_until,
        is_assigned=bool(places),
        is_supervisor=any(places),
        failures=0 if failures is None else failures.failures,
        locked_until=None if failures is None else failures.locked_until,
    )


def is_fresh(request: WithPin, now: datetime) -> bool:
    return abs(now.timestamp() - request.sent_at_ms / 1000) <= FRESH.total_seconds()


def unseal(keys: KeyRing, request: WithPin) -> str | None:
    """The PIN; None: what was sealed is none, or was sealed for another request."""
    return open_pin(request.sealed_pin, keys.pin.private, request.device, request.idempotency_key)


def knows_pin(pin: str | None, holder: Holder) -> bool:
    """Slow on purpose (argon2): in no transaction, and never on the thread that answers sales."""
    return pin is not None and holder.pin_hash is not None and is_pin(pin, holder.pin_hash)


def judge_choice(holder: Holder, now: datetime) -> Reason | None:
    """Whether the badge's first PIN may still be chosen."""
    if holder.pin_hash is not None:
        return Reason.PIN_SET_ALREADY
    if holder.choose_until is None or now >= holder.choose_until:
        return Reason.PIN_CHOICE_OVER
    return None


def judge_new_pin(pin: str | None) -> Reason | None:
    if pin is None:
        return Reason.PIN_WRONG
    return None if refuse_pin(pin) is None else Reason.PIN_NOT_ALLOWED


def count_failure(
    connection: Connection, device_id: DeviceId, badge: Shown, failures: int, now: datetime
) -> None:
    """Before the PIN is looked at: tries at once, or a crash in between, gain nothing."""
    forget_failures(connection, device_id, badge)
    assert isinstance(badge, Badge), "judged"
    connection.execute(
        insert(sign_in_failures).values(
            badge_id=badge.badge_id,
            device_id=device_id,
            count=failures,
            locked_until=locked_until(failures, now),
        )
    )


def forget_failures(connection: Connection, device_id: DeviceId, badge: Shown) -> None:
    assert isinstance(badge, Badge), "judged"
    connection.execute(
        delete(sign_in_failures).where(
            sign_in_failures.c.badge_id == badge.badge_id,
            sign_in_failures.c.device_id == device_id,
        )
    )


def note_lock_out(
    connection: Connection, opened: Opened, request: WithPin, badge: Shown, failures: int
) -> None:
    """A record of its own, beside the try's, where this wrong PIN locks the badge out here."""
    now = opened.arrived.arrived_at
    until = locked_until(failures, now)
    if until is None:
        return
    assert isinstance(badge, Badge), "judged"
    record = AuditRow(
        at=now,
        actor=f"device:{request.device_id}",
        action="badge_locked",
        outcome="locked_out",
        device_id=request.device_id,
        event_id=badge.event_id,
        subject=badge.badge_id,
        request_hash=opened.request_hash,
        detail={
            "staff": badge.staff_id,
            "tried_by": kind_of(request),
            "tries": failures,
            "until": until.isoformat(),
        },
    )
    write_audit_records(connection, [record])


def find_answer(connection: Connection, request: WithPin, digest: str | None) -> Outcome | None:
    """What this key was answered before; a key that stands for anything else is refused."""
    row = connection.execute(
        select(outcomes.c.state, outcomes.c.digest, outcomes.c.answer).where(
            outcomes.c.device_id == request.device_id, outcomes.c.key == request.key
        )
    ).one_or_none()
    if row is None:
        return None
    if row.state != KeyState.ANSWERED or row.digest != digest:
        return Declined(Reason.KEY_REUSED)
    return decode_outcome(bytes(row.answer))


def keep_answer(
    connection: Connection,
    opened: Opened,
    request: WithPin,
    badge: Shown,
    outcome: Outcome,
    *,
    digest: str | None = None,
    about: dict[str, str] | None = None,
) -> Outcome:
    """The answer under its key, and the record of the try."""
    now = opened.arrived.arrived_at
    connection.execute(
        insert(outcomes).values(
            device_id=request.device_id,
            key=request.key,
            state=KeyState.ANSWERED,
            digest=digest,
            answer=encode_outcome(outcome),
            epoch=request.journal.epoch,
            created_at=now,
        )
    )
    is_badge = isinstance(badge, Badge)
    detail = (about or {}) | ({"badge": badge.badge_id} if is_badge else {})
    record = AuditRow(
        at=now,
        actor=f"staff:{badge.staff_id}" if is_badge else f"device:{request.device_id}",
        action=kind_of(request),
        outcome=outcome.reason.value
        if isinstance(outcome, Declined)
        else str(outcome.__struct_config__.tag),
        device_id=request.device_id,
        event_id=badge.event_id if is_badge else None,
        subject=request.key,
        request_hash=opened.request_hash,
        detail=detail or None,
    )
    write_audit_records(connection, [record])
    return outcome
