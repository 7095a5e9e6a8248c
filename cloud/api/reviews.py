"""The review list: what only a person can judge, looked at and ended."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field

from cloud.api.approvals import Approver
from cloud.api.context import TheCloud
from cloud.api.forms import Body, Cursor, Key, Limit, MoneyView, Reason
from cloud.api.problems import ProblemError, answers
from cloud.operations.desk.end_review import Ending, end_review
from cloud.operations.desk.review_list import (
    ReviewEntry,
    ReviewState,
    find_review,
    list_reviews,
)
from cloud.operations.orders.order_refusals import UNKNOWN_CURSOR
from cloud.operations.refusals import Refusal
from protocol.ids import IdempotencyKey

router = APIRouter(prefix="/v1/console/reviews", tags=["console"])


class EndingBody(Body):
    ending: Ending
    """`post`: the sale stands; an offline one is posted in full. `reverse`: in the end nothing is
    deducted. `write_off`: nothing is moved, and nobody looks at it any more."""
    reason: Reason


class ReviewView(BaseModel):
    review_id: str
    device_id: str
    key: str
    kind: Annotated[str, Field(examples=["offline_acceptance", "cancel", "deduct"])]
    """`deduct`: approved, and the appliance never said that it knows."""
    reason: Annotated[str, Field(examples=["device_revoked", "never_settled", "key_reused"])]
    state: ReviewState
    amount: MoneyView | None
    event_id: str | None
    user_id: str | None
    transaction_id: str | None
    created_at: datetime
    resolved_at: datetime | None
    resolved_by: str | None
    resolution_reason: str | None

    @classmethod
    def of(cls, entry: ReviewEntry) -> "ReviewView":
        return cls.model_validate(_members(cls, entry))


class ReviewDetail(ReviewView):
    said: dict[str, Any] | None
    """What the appliance signed, without the attendee's QR; none for a `deduct`."""


class ReviewPage(BaseModel):
    reviews: list[ReviewView]
    """Newest first."""
    next_cursor: str | None
    """For the page after this one; none: this is the last."""


@router.get("", responses=answers(401, 403, 422))
def get_reviews(
    holder: Approver,
    cloud: TheCloud,
    state: ReviewState | None = ReviewState.OPEN,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> ReviewPage:
    """What has to be judged at one's own events."""
    page = list_reviews(cloud.database, holder, state=state, limit=limit, cursor=cursor)
    if page is None:
        raise ProblemError(UNKNOWN_CURSOR)
    found, next_cursor = page
    return ReviewPage(reviews=[ReviewView.of(each) for each in found], next_cursor=next_cursor)


@router.get("/{review_id}", responses=answers(401, 403, 404, 422))
def get_review(review_id: UUID, holder: Approver, cloud: TheCloud) -> ReviewDetail:
    """One entry, and what the appliance signed."""
    entry = find_review(cloud.database, review_id, holder)
    if isinstance(entry, Refusal):
        raise ProblemError(entry)
    return ReviewDetail.model_validate(_members(ReviewDetail, entry))


@router.post("/{review_id}/end", responses=answers(401, 403, 404, 409, 422))
def post_ending(
    review_id: UUID, body: EndingBody, holder: Approver, cloud: TheCloud, key: Key
) -> ReviewView:
    """End it, once, in one of three ways."""
    ended = end_review(
        cloud.database,
        cloud.keys,
        review_id,
        body.ending,
        reason=body.reason,
        holder=holder,
        key=IdempotencyKey(key),
        now=cloud.clock(),
    )
    if isinstance(ended, Refusal):
        raise ProblemError(ended)
    return ReviewView.of(ended)


def _members(view: type[ReviewView], entry: ReviewEntry) -> dict[str, object]:
    members: dict[str, object] = {
        name: getattr(entry, name) for name in view.model_fields if name != "amount"
    }
    amount = None if entry.amount is None else MoneyView.of(entry.amount)
    return members | {"amount": amount}
