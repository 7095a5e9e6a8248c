"""A supervisor approves one refund at an appliance: badge, PIN, exactly this sale and amount."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, insert, select, update
from uuid_utils.compat import uuid7

from cloud.keys import KeyRing
from cloud.ledger.approvals import GRANTED_FOR, is_same_person
from cloud.ledger.facts import ApprovalState, PostedSale, StaffSession
from cloud.ledger.judging import judge_session
from cloud.ledger.reversals import judge_refund
from cloud.operations.till.badge_and_pin import (
    Holder,
    Shown,
    count_failure,
    find_answer,
    find_holder,
    forget_failures,
    is_fresh,
    judge_choice,
    keep_answer,
    knows_pin,
    note_lock_out,
    unseal,
)
from cloud.operations.till.opening import Opened
from cloud.store.approvals import read_refund_terms, read_under_review
from cloud.store.database import Database
from cloud.store.gathering import gather_place
from cloud.store.locks import lock_devices, lock_wallets
from cloud.store.sales import find_sale, read_what_is_left
from cloud.store.tables import approvals
from protocol.messages import ApprovalGranted, Approve, Declined, Outcome, Reason
from protocol.money import Money
from protocol.policy import Badge, open_badge


@dataclass(frozen=True, slots=True)
class _Facts:
    session: StaffSession | Reason
    """Of whoever asks."""
    holder: Holder | None
    """Of the badge that approves."""


def approve(database: Database, keys: KeyRing, opened: Opened, request: Approve) -> Outcome:
    """An approval that counts once, or why not; sent again, the same. As slow as a sign-in, and in
    two transactions for the same reasons."""
    badge = open_badge(request.badge.encode(), keys.find_badge)
    digest = request.content().digest()
    now = opened.arrived.arrived_at

    def keep(connection: Connection, outcome: Outcome) -> Outcome:
        sale = f"{request.sale.device_id}/{request.sale.key}"
        about = {"sale": sale}
        if isinstance(outcome, ApprovalGranted):
            about["approval"] = outcome.approval_id
        return keep_answer(connection, opened, request, badge, outcome, digest=digest, about=about)

    with database.transaction() as connection:
        lock_devices(connection, [request.device])
        answered = find_answer(connection, request, digest)
        if answered is not None:
            return answered
        facts = _gather(connection, opened, request, badge)
        refusal = _judge(facts, badge, request, now)
        if refusal is not None:
            return keep(connection, Declined(refusal))
        holder = facts.holder
        assert holder is not None, "judged"
        if holder.pin_hash is None:
            # A PIN is chosen by signing in with it, never over somebody else's refund.
            unset = judge_choice(holder, now) or Reason.PIN_NOT_SET
            return keep(connection, Declined(unset))
        failures = holder.failures + 1
        count_failure(connection, request.device, badge, failures, now)

    is_right = knows_pin(unseal(keys, request), holder)

    with database.transaction() as connection:
        lock_devices(connection, [request.device])
        answered = find_answer(connection, request, digest)
        if answered is not None:
            return answered
        if not is_right:
            note_lock_out(connection, opened, request, badge, failures)
            return keep(connection, Declined(Reason.PIN_WRONG))
        facts = _gather(connection, opened, request, badge)
        refusal = _judge(facts, badge, request, now, counted=True)
        if facts.holder is not None and facts.holder.pin_hash != holder.pin_hash:
            refusal = refusal or Reason.PIN_WRONG
        if refusal is not None:
            return keep(connection, Declined(refusal))
        assert isinstance(facts.session, StaffSession), "judged"
        forget_failures(connection, request.device, badge)
        return keep(connection, _grant(connection, facts.session, holder, request, now))


def _gather(connection: Connection, opened: Opened, request: Approve, badge: Shown) -> _Facts:
    place = gather_place(connection, request.device, opened.thumbprint, request.session_id)
    session = judge_session(
        place.appliance,
        place.session,
        shut_out=place.shut_out,
        has_ended=lambda each: each.ended,
        at=opened.arrived.arrived_at,
    )
    holder = find_holder(connection, request.device, badge, place.appliance.stall_id)
    return _Facts(session, holder)


def _judge(
    facts: _Facts, badge: Shown, request: Approve, now: datetime, *, counted: bool = False
) -> Reason | None:
    """Everything but the PIN and the sale. `counted`: this very try is among the failures."""
    session, holder = facts.session, facts.holder
    if isinstance(session, Reason):
        return session
    if (request.event_id, request.stall_id) != (session.event_id, session.stall_id):
        return Reason.DEVICE_ELSEWHERE
    if not is_fresh(request, now):
        return Reason.SIGN_IN_STALE
    if not isinstance(badge, Badge) or holder is None:
        return Reason.BADGE_INVALID
    if badge.event_id != session.event_id or not holder.is_assigned:
        return Reason.STAFF_NOT_ASSIGNED
    if not holder.is_supervisor:
        return Reason.NOT_A_SUPERVISOR
    if is_same_person(f"staff:{holder.staff_id}", f"staff:{session.staff_id}"):
        return Reason.SAME_PERSON
    if not counted and holder.locked_until is not None and now < holder.locked_until:
        return Reason.LOCKED_OUT
    return None


def _grant(
    connection: Connection,
    session: StaffSession,
    holder: Holder,
    request: Approve,
    now: datetime,
) -> ApprovalGranted | Declined:
    key = (request.sale.device, request.sale.idempotency_key)
    sale = find_sale(connection, key)
    if read_under_review(connection, [key]):
        return Declined(Reason.SALE_UNDER_REVIEW)
    if sale is None:
        return Declined(Reason.SALE_UNKNOWN)
    if (sale.event_id, sale.stall_id) != (session.event_id, session.stall_id):
        return Declined(Reason.SALE_ELSEWHERE)
    waiting = _lock_waiting(connection, sale, f"staff:{session.staff_id}")
    lock_wallets(connection, [(sale.user_id, sale.amount.currency)])
    sale = read_what_is_left(connection, sale)
    terms = read_refund_terms(connection, [session.event_id])[session.event_id]
    judged = judge_refund(sale, terms, request.amount, now)
    if isinstance(judged, Reason):
        return Declined(judged)

    approval_id = waiting.get(judged.amount.amount_in_cents)
    granted = {
        "state": ApprovalState.GRANTED.value,
        "decided_by": f"staff:{holder.staff_id}",
        "decided_at": now,
        "device_id": request.device_id,
        "expires_at": now + GRANTED_FOR,
    }
    if approval_id is None:
        approval_id = uuid7()
        asked = _asked(sale, judged.amount, session, now)
        connection.execute(insert(approvals).values(approval_id=approval_id, **asked, **granted))
    else:
        connection.execute(
            update(approvals).where(approvals.c.approval_id == approval_id).values(**granted)
        )
    return ApprovalGranted(
        approval_id=str(approval_id),
        amount=judged.amount,
        expires_at_ms=round((now + GRANTED_FOR).timestamp() * 1000),
    )


def _lock_waiting(connection: Connection, sale: PostedSale, asked_by: str) -> dict[int, UUID]:
    """What they were refused before and the console still shows, by amount: it is answered here."""
    rows = connection.execute(
        select(approvals.c.approval_id, approvals.c.amount_in_cents)
        .where(
            approvals.c.user_id == UUID(sale.user_id),
            approvals.c.sale_transaction_id == UUID(sale.transaction_id),
            approvals.c.state == ApprovalState.WAITING.value,
            approvals.c.asked_by == asked_by,
        )
        .order_by(approvals.c.approval_id)
        .with_for_update()
    )
    return {row.amount_in_cents: row.approval_id for row in rows}


def _asked(
    sale: PostedSale, amount: Money, session: StaffSession, now: datetime
) -> dict[str, object]:
    return {
        "kind": "refund",
        "user_id": UUID(sale.user_id),
        "amount_in_cents": amount.amount_in_cents,
        "currency": amount.currency,
        "sale_transaction_id": UUID(sale.transaction_id),
        "sale_left_in_cents": sale.left_in_cents,
        "event_id": sale.event_id,
        "stall_id": sale.stall_id,
        "reason": "asked_at_the_appliance",
        "asked_by": f"staff:{session.staff_id}",
        "asked_at": now,
    }
