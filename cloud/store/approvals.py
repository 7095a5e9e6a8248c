"""What a refund needs besides its sale: the event's terms, and a second person's word."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, bindparam, insert, select, tuple_, update

from cloud.ledger.decisions import Decision
from cloud.ledger.facts import (
    Approval,
    ApprovalState,
    AskedApproval,
    DeviceKey,
    PostedSale,
    Presented,
    RefundTerms,
)
from cloud.store.rows import as_uuid_text
from cloud.store.tables import approvals, events, review_entries
from protocol.ids import DeviceId, EventId, IdempotencyKey, TransactionId
from protocol.money import Money


def lock_approvals(connection: Connection, approval_ids: Iterable[str]) -> dict[str, Approval]:
    """These approvals as they stand, held until the commit; before any wallet is locked.

    They are known by the ids as they were asked for; what is no id is absent.
    """
    asked = {each: as_uuid_text(each) for each in approval_ids}
    wanted = sorted({UUID(each) for each in asked.values() if each is not None})
    if not wanted:
        return {}
    rows = connection.execute(
        select(approvals)
        .where(approvals.c.approval_id.in_(wanted), approvals.c.kind == "refund")
        .order_by(approvals.c.approval_id)
        .with_for_update()
    )
    found = {str(row.approval_id): _approval(row) for row in rows}
    return {each: found[text] for each, text in asked.items() if text in found}


def read_refund_terms(
    connection: Connection, event_ids: Iterable[EventId]
) -> dict[EventId, RefundTerms]:
    rows = connection.execute(
        select(
            events.c.event_id,
            events.c.refund_window_s,
            events.c.refund_staff_limit_in_cents,
            events.c.refund_deadline,
            events.c.ends_at,
        ).where(events.c.event_id.in_(set(event_ids)))
    )
    return {
        EventId(row.event_id): RefundTerms(
            row.refund_window_s, row.refund_staff_limit_in_cents, row.refund_deadline, row.ends_at
        )
        for row in rows
    }


def read_waiting(connection: Connection, sales: Iterable[PostedSale]) -> frozenset[AskedApproval]:
    """What a second person was asked about these sales; their wallets are locked."""
    wanted = {(UUID(each.user_id), UUID(each.transaction_id)) for each in sales}
    if not wanted:
        return frozenset()
    rows = connection.execute(
        select(
            approvals.c.sale_transaction_id, approvals.c.amount_in_cents, approvals.c.asked_by
        ).where(
            tuple_(approvals.c.user_id, approvals.c.sale_transaction_id).in_(wanted),
            approvals.c.state == ApprovalState.WAITING.value,
        )
    )
    return frozenset(
        AskedApproval(
            TransactionId(str(row.sale_transaction_id)), row.amount_in_cents, row.asked_by
        )
        for row in rows
    )


def read_under_review(connection: Connection, keys: Iterable[DeviceKey]) -> frozenset[DeviceKey]:
    """The sales among these that a person has to judge and has not yet."""
    rows = connection.execute(
        select(review_entries.c.device_id, review_entries.c.key).where(
            tuple_(review_entries.c.device_id, review_entries.c.key).in_(set(keys)),
            review_entries.c.state == "open",
        )
    )
    return frozenset((DeviceId(row.device_id), IdempotencyKey(row.key)) for row in rows)


def keep_approvals(
    connection: Connection, requests: Sequence[Presented], decisions: Sequence[Decision]
) -> None:
    """Ask a second person what a batch's refunds need; note which answers they have used."""
    wanted = [
        _wanted_row(presented, decision)
        for presented, decision in zip(requests, decisions, strict=True)
        if decision.wanted is not None
    ]
    if wanted:
        connection.execute(insert(approvals), wanted)
    used: list[dict[str, Any]] = [
        {
            "of_approval_id": UUID(decision.approval_used),
            "posted_transaction_id": UUID(decision.posting.id),
        }
        for decision in decisions
        if decision.approval_used is not None and decision.posting is not None
    ]
    if used:
        connection.execute(_USE, used)


def _wanted_row(presented: Presented, decision: Decision) -> Mapping[str, Any]:
    wanted = decision.wanted
    assert wanted is not None, "only what is wanted is written"
    return {
        "approval_id": UUID(wanted.approval_id),
        "kind": "refund",
        "state": ApprovalState.WAITING.value,
        "user_id": UUID(wanted.sale.user_id),
        "amount_in_cents": wanted.amount.amount_in_cents,
        "currency": wanted.amount.currency,
        "sale_transaction_id": UUID(wanted.sale.transaction_id),
        "sale_left_in_cents": wanted.sale.left_in_cents,
        "event_id": wanted.sale.event_id,
        "stall_id": wanted.sale.stall_id,
        "reason": wanted.cause.value,
        "asked_by": wanted.asked_by,
        "asked_at": presented.arrived_at,
    }


def _approval(row: Row[Any]) -> Approval:
    sale = row.sale_transaction_id
    return Approval(
        approval_id=str(row.approval_id),
        state=ApprovalState(row.state),
        sale_transaction_id=None if sale is None else TransactionId(str(sale)),
        amount=Money(row.amount_in_cents, row.currency),
        device_id=None if row.device_id is None else DeviceId(row.device_id),
        decided_by=row.decided_by,
        expires_at=row.expires_at,
    )


_USE: Final = (
    update(approvals)
    .where(approvals.c.approval_id == bindparam("of_approval_id"))
    .values(state=ApprovalState.USED.value)
)
