"""A second person grants or refuses what one asked for; granting does it, in the same moment."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, and_, false, or_, select, true, update

from cloud.access.roles import Holder, Role
from cloud.ledger.approvals import is_same_person
from cloud.ledger.facts import ApprovalState
from cloud.ledger.postings import Direction
from cloud.ledger.reversals import judge_refund
from cloud.operations.desk.adjust_wallet import MAY_ADJUST, Adjustment, post_adjustment
from cloud.operations.desk.refund_sale import MAY_REFUND, give_back
from cloud.operations.desk.review_refusals import (
    OUTDATED_APPROVAL,
    SALE_UNDER_REVIEW,
    SAME_PERSON,
    UNKNOWN_APPROVAL,
    ended_approval,
    explain,
)
from cloud.operations.once import claim, digest_of, keep
from cloud.operations.refusals import Refusal
from cloud.store.approvals import read_refund_terms, read_under_review
from cloud.store.database import Database
from cloud.store.locks import lock_wallets
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.sales import name_of, read_sale, read_what_is_left
from cloud.store.tables import approvals
from protocol.encoding import from_base64url, to_base64url
from protocol.ids import EventId, IdempotencyKey, StallId, TransactionId, UserId
from protocol.messages import Reason
from protocol.money import Money

_MAY_GRANT: Final = {"refund": (Role.SUPERVISOR,), "adjustment": MAY_ADJUST}
_MAY_SEE: Final = {"refund": MAY_REFUND, "adjustment": MAY_ADJUST}


@dataclass(frozen=True, slots=True)
class WaitingApproval:
    """What somebody asked, and what became of it."""

    approval_id: str
    kind: str
    state: ApprovalState
    amount: Money
    direction: str | None
    user_id: str
    sale_transaction_id: str | None
    event_id: str | None
    stall_id: str | None
    reason: str
    asked_by: str
    asked_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    decision_reason: str | None
    posted_transaction_id: str | None


_ANSWER: Final = msgspec.json.Decoder(WaitingApproval)


def list_approvals(
    database: Database,
    holder: Holder,
    *,
    state: ApprovalState | None,
    limit: int,
    cursor: str | None,
) -> tuple[list[WaitingApproval], str | None] | None:
    """The newest first, of the holder's events, and the next page's cursor. None: no cursor of
    ours."""
    statement = select(approvals).where(_theirs(holder))
    if state is not None:
        statement = statement.where(approvals.c.state == state.value)
    if cursor is not None:
        raw = from_base64url(cursor.encode())
        if raw is None or len(raw) != 16:
            return None
        statement = statement.where(approvals.c.approval_id < UUID(bytes=raw))
    ordered = statement.order_by(approvals.c.approval_id.desc()).limit(limit + 1)
    with database.reading() as connection:
        rows = connection.execute(ordered).all()
    page = rows[:limit]
    more = len(rows) > limit
    return [_read(row) for row in page], to_base64url(page[-1].approval_id.bytes) if more else None


def decide_approval(
    database: Database,
    approval_id: UUID,
    *,
    grant: bool,
    reason: str,
    holder: Holder,
    key: IdempotencyKey,
    now: datetime,
) -> WaitingApproval | Refusal:
    """Never by the one who asked; once, whatever is sent again or at once."""
    with database.transaction() as connection:
        digest = digest_of(str(approval_id), grant, reason)
        answer = claim(
            connection, holder.subject, key, operation="decide_approval", digest=digest, now=now
        )
        if isinstance(answer, Refusal):
            return answer
        if answer:
            return _ANSWER.decode(answer)
        row = connection.execute(
            select(approvals).where(approvals.c.approval_id == approval_id).with_for_update()
        ).one_or_none()
        refusal = _refuse(row, holder)
        if refusal is not None:
            return refusal
        assert row is not None, "judged"

        posted: TransactionId | Refusal | None = None
        if grant:
            carry_out = _post_refund if row.kind == "refund" else _post_adjustment
            posted = carry_out(connection, row, holder, key, now)
            if isinstance(posted, Refusal):
                return posted

        connection.execute(
            update(approvals)
            .where(approvals.c.approval_id == approval_id)
            .values(
                state=(ApprovalState.USED if grant else ApprovalState.REFUSED).value,
                decided_by=holder.subject,
                decided_at=now,
                decision_reason=reason,
                posted_transaction_id=None if posted is None else UUID(posted),
            )
        )
        write_audit_records(connection, [_record(row, holder, grant, reason, now)])
        decided = connection.execute(
            select(approvals).where(approvals.c.approval_id == approval_id)
        ).one()
        approval = _read(decided)
        keep(connection, holder.subject, key, msgspec.json.encode(approval))
    return approval


def _refuse(row: Row[Any] | None, holder: Holder) -> Refusal | None:
    if row is None or not may(holder, _MAY_GRANT[row.kind], row.event_id, row.stall_id):
        return UNKNOWN_APPROVAL
    if is_same_person(row.asked_by, holder.subject):
        return SAME_PERSON
    if row.state != ApprovalState.WAITING:
        return ended_approval(row.state)
    return None


def _post_refund(
    connection: Connection, row: Row[Any], holder: Holder, key: IdempotencyKey, now: datetime
) -> TransactionId | Refusal:
    sale = read_sale(connection, str(row.user_id), TransactionId(str(row.sale_transaction_id)))
    assert sale is not None, "it was asked for a sale"
    event_id = sale.event_id
    assert event_id is not None, "an appliance sells at an event"
    name = name_of(connection, sale)
    if name is not None and read_under_review(connection, [name]):
        return SALE_UNDER_REVIEW
    lock_wallets(connection, [(sale.user_id, sale.amount.currency)])
    sale = read_what_is_left(connection, sale)
    if sale.left_in_cents != row.sale_left_in_cents:
        # The one who asked may have had it back already, through another door.
        return OUTDATED_APPROVAL
    terms = read_refund_terms(connection, [event_id])[event_id]
    amount = Money(row.amount_in_cents, row.currency)
    judged = judge_refund(sale, terms, amount, now)
    if isinstance(judged, Reason):
        return explain(judged)
    return give_back(
        connection, sale, amount, holder=holder, key=key, reason=row.reason, now=now
    ).id


def _post_adjustment(
    connection: Connection, row: Row[Any], holder: Holder, key: IdempotencyKey, now: datetime
) -> TransactionId:
    wanted = Adjustment(
        EventId(row.event_id),
        UserId(str(row.user_id)),
        Direction(row.direction),
        Money(row.amount_in_cents, row.currency),
        row.reason,
    )
    return post_adjustment(
        connection, wanted, by=holder, key=key, now=now, asked_by=row.asked_by
    ).id


def _theirs(holder: Holder) -> ColumnElement[bool]:
    return or_(
        *(
            and_(approvals.c.kind == kind, in_events(approvals.c.event_id, holder, roles))
            for kind, roles in _MAY_SEE.items()
        )
    )


def in_events(
    column: ColumnElement[Any], holder: Holder, roles: Sequence[Role]
) -> ColumnElement[bool]:
    """Whether the event is one where the holder has one of the roles."""
    events = holder.events(roles)
    if events is None:
        return true()
    return column.in_(events) if events else false()


def may(
    holder: Holder, roles: Sequence[Role], event_id: str | None, stall_id: str | None = None
) -> bool:
    """Where no event is known, only who has the role for every event."""
    if event_id is None:
        return holder.events(roles) is None
    return holder.may(roles, EventId(event_id), None if stall_id is None else StallId(stall_id))


def _record(row: Row[Any], holder: Holder, grant: bool, reason: str, now: datetime) -> AuditRow:
    return AuditRow(
        at=now,
        actor=holder.subject,
        action="approval_decided",
        outcome="granted" if grant else "refused",
        event_id=row.event_id,
        user_id=str(row.user_id),
        subject=str(row.approval_id),
        detail={"reason": reason, "asked_by": row.asked_by, "kind": row.kind},
    )


def _read(row: Row[Any]) -> WaitingApproval:
    sale, posted = row.sale_transaction_id, row.posted_transaction_id
    return WaitingApproval(
        approval_id=str(row.approval_id),
        kind=row.kind,
        state=ApprovalState(row.state),
        amount=Money(row.amount_in_cents, row.currency),
        direction=row.direction,
        user_id=str(row.user_id),
        sale_transaction_id=None if sale is None else str(sale),
        event_id=row.event_id,
        stall_id=row.stall_id,
        reason=row.reason,
        asked_by=row.asked_by,
        asked_at=row.asked_at,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        decision_reason=row.decision_reason,
        posted_transaction_id=None if posted is None else str(posted),
    )
