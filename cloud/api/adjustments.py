"""Finance puts wallets right: adjustments with a reason, and offline use stopped or allowed."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from cloud.access.roles import Holder, Role
from cloud.api.access import Allowed
from cloud.api.context import TheCloud
from cloud.api.forms import Body, Currency, Key, MoneyView, Reason, Slug, SlugInPath
from cloud.api.problems import ProblemError, answers
from cloud.ledger.postings import Direction
from cloud.operations.desk.adjust_wallet import (
    MAY_ADJUST,
    Adjustment,
    adjust_wallet,
    set_offline_use,
)
from cloud.operations.desk.refund_sale import Asked
from cloud.operations.refusals import Code, Refusal
from protocol.ids import EventId, IdempotencyKey, UserId
from protocol.money import CENTS_MAX, Money

router = APIRouter(prefix="/v1/console", tags=["console"])

Finance = Annotated[Holder, Depends(Allowed(Role.FINANCE))]


class AdjustmentBody(Body):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "event_id": "harbour-festival",
                    "user_id": "0197b2c4-6f0e-7c31-9d0e-3f6a1c2b4d5e",
                    "direction": "in",
                    "amount_in_cents": 1200,
                    "currency": "EUR",
                    "reason": "charged twice by a till that was replaced",
                }
            ]
        }
    )

    event_id: Slug
    user_id: UUID
    direction: Direction
    """`in`: into the wallet; `out` of it, which may leave it owing."""
    amount_in_cents: Annotated[int, Field(strict=True, ge=1, le=CENTS_MAX)]
    currency: Currency
    reason: Reason


class AdjustmentView(BaseModel):
    state: Asked
    """`waiting`: above the event's limit; another person in finance has to grant it."""
    amount: MoneyView
    transaction_id: str | None
    approval_id: str | None


class OfflineUseBody(Body):
    allowed: bool
    reason: Reason


class OfflineUseView(BaseModel):
    user_id: str
    currency: str
    offline_allowed: bool


@router.post("/adjustments", responses=answers(401, 403, 404, 409, 422))
def post_adjustment(
    body: AdjustmentBody, holder: Finance, cloud: TheCloud, key: Key
) -> AdjustmentView:
    """Post an adjustment, or ask for a second person where it is above the event's limit. What the
    same person adjusted in the same wallet within 24 hours counts towards that limit."""
    if not holder.may(MAY_ADJUST, EventId(body.event_id)):
        raise ProblemError(
            Refusal(
                Code.NOT_ALLOWED,
                f"{holder.subject} is not in finance at {body.event_id!r}.",
                "Ask somebody who is.",
            )
        )
    done = adjust_wallet(
        cloud.database,
        Adjustment(
            EventId(body.event_id),
            UserId(str(body.user_id)),
            body.direction,
            Money(body.amount_in_cents, body.currency),
            body.reason,
        ),
        holder=holder,
        key=IdempotencyKey(key),
        now=cloud.clock(),
    )
    if isinstance(done, Refusal):
        raise ProblemError(done)
    return AdjustmentView(
        state=done.state,
        amount=MoneyView.of(done.amount),
        transaction_id=done.transaction_id,
        approval_id=done.approval_id,
    )


@router.put("/events/{event_id}/wallets/{user_id}/offline", responses=answers(401, 403, 404, 422))
def put_offline_use(
    event_id: SlugInPath, user_id: UUID, body: OfflineUseBody, holder: Finance, cloud: TheCloud
) -> OfflineUseView:
    """Stop the offline allowance of a wallet in the event's currency, or allow it again. QR codes
    that are shown already run out within two minutes."""
    wallet = set_offline_use(
        cloud.database,
        EventId(event_id),
        UserId(str(user_id)),
        allowed=body.allowed,
        reason=body.reason,
        holder=holder,
        now=cloud.clock(),
    )
    if isinstance(wallet, Refusal):
        raise ProblemError(wallet)
    return OfflineUseView(
        user_id=wallet.user_id,
        currency=wallet.balance.currency,
        offline_allowed=not wallet.offline_frozen,
    )
