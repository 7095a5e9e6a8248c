"""What waits for a second person, and that person's word: grant it or refuse it."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from cloud.access.roles import Holder, Role
from cloud.api.access import Allowed
from cloud.api.context import Cloud, TheCloud
from cloud.api.forms import Body, Cursor, Key, Limit, MoneyView, Reason
from cloud.api.problems import ProblemError, answers
from cloud.ledger.facts import ApprovalState
from cloud.operations.desk.decide_approval import WaitingApproval, decide_approval, list_approvals
from cloud.operations.orders.order_refusals import UNKNOWN_CURSOR
from cloud.operations.refusals import Refusal
from protocol.ids import IdempotencyKey

router = APIRouter(prefix="/v1/console/approvals", tags=["console"])

Approver = Annotated[Holder, Depends(Allowed(Role.SUPERVISOR, Role.FINANCE))]


class DecisionBody(Body):
    reason: Reason


class ApprovalView(BaseModel):
    approval_id: str
    kind: Literal["refund", "adjustment"]
    state: ApprovalState
    """`granted`: at an appliance, which has yet to use it. `used`: it is posted."""
    amount: MoneyView
    direction: Literal["in", "out"] | None
    """Of an adjustment."""
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

    @classmethod
    def of(cls, approval: WaitingApproval) -> "ApprovalView":
        return cls.model_validate(
            {name: getattr(approval, name) for name in cls.model_fields if name != "amount"}
            | {"amount": MoneyView.of(approval.amount)}
        )


class ApprovalPage(BaseModel):
    approvals: list[ApprovalView]
    """Newest first."""
    next_cursor: str | None
    """For the page after this one; none: this is the last."""


@router.get("", responses=answers(401, 403, 422))
def get_approvals(
    holder: Approver,
    cloud: TheCloud,
    state: ApprovalState | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> ApprovalPage:
    """What was asked in one's own events: refunds, and for finance adjustments."""
    page = list_approvals(cloud.database, holder, state=state, limit=limit, cursor=cursor)
    if page is None:
        raise ProblemError(UNKNOWN_CURSOR)
    found, next_cursor = page
    return ApprovalPage(
        approvals=[ApprovalView.of(each) for each in found], next_cursor=next_cursor
    )


@router.post("/{approval_id}/grant", responses=answers(401, 403, 404, 409, 422))
def grant(
    approval_id: UUID, body: DecisionBody, holder: Approver, cloud: TheCloud, key: Key
) -> ApprovalView:
    """Do what was asked, now. A supervisor grants refunds, finance grants adjustments; nobody
    grants what they asked for themselves."""
    return _decide(cloud, approval_id, body, holder, key, grant=True)


@router.post("/{approval_id}/refuse", responses=answers(401, 403, 404, 409, 422))
def refuse(
    approval_id: UUID, body: DecisionBody, holder: Approver, cloud: TheCloud, key: Key
) -> ApprovalView:
    """Let it be. Whoever may grant it may refuse it."""
    return _decide(cloud, approval_id, body, holder, key, grant=False)


def _decide(
    cloud: Cloud, approval_id: UUID, body: DecisionBody, holder: Holder, key: str, *, grant: bool
) -> ApprovalView:
    decided = decide_approval(
        cloud.database,
        approval_id,
        grant=grant,
        reason=body.reason,
        holder=holder,
        key=IdempotencyKey(key),
        now=cloud.clock(),
    )
    if isinstance(decided, Refusal):
        raise ProblemError(decided)
    return ApprovalView.of(decided)
