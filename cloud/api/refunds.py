"""Giving back a sale at a stall, from the console."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from cloud.api.approvals import Approver
from cloud.api.context import TheCloud
from cloud.api.forms import Body, Currency, Key, MoneyView, Reason, Slug
from cloud.api.problems import ProblemError, answers
from cloud.operations.desk.refund_sale import Asked, SaleRefunded, refund_sale
from cloud.operations.refusals import Refusal
from protocol.ids import DeviceId, IdempotencyKey
from protocol.money import CENTS_MAX, Money

router = APIRouter(prefix="/v1/console/refunds", tags=["console"])


class SaleBody(Body):
    """A sale by its own name, as its receipt's QR says it."""

    device_id: Slug
    key: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{16,64}$")]


class AmountBody(Body):
    amount_in_cents: Annotated[int, Field(strict=True, ge=1, le=CENTS_MAX)]
    currency: Currency

    def money(self) -> Money:
        return Money(self.amount_in_cents, self.currency)


class SaleRefundBody(Body):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "sale": {"device_id": "bar-north-1", "key": "0Hq1J3n5T7c9XbVd2Kf4Lw"},
                    "amount": {"amount_in_cents": 550, "currency": "EUR"},
                    "reason": "wrong drink, receipt seen",
                }
            ]
        }
    )

    sale: SaleBody
    amount: AmountBody | None = None
    """Left out: all that is left of the sale."""
    reason: Reason


class SaleRefundView(BaseModel):
    state: Asked
    """`waiting`: too late or too much for one person; another supervisor has to grant it."""
    amount: MoneyView
    left_in_cents: int
    """What of the sale may still be given back."""
    transaction_id: str | None
    approval_id: str | None

    @classmethod
    def of(cls, done: SaleRefunded) -> "SaleRefundView":
        return cls(
            state=done.state,
            amount=MoneyView.of(done.amount),
            left_in_cents=done.left_in_cents,
            transaction_id=done.transaction_id,
            approval_id=done.approval_id,
        )


@router.post("", responses=answers(401, 403, 404, 409, 422))
def post_refund(
    body: SaleRefundBody, holder: Approver, cloud: TheCloud, key: Key
) -> SaleRefundView:
    """Give a sale back to the wallet that paid it, whole or in part, by the event's rules."""
    done = refund_sale(
        cloud.database,
        (DeviceId(body.sale.device_id), IdempotencyKey(body.sale.key)),
        None if body.amount is None else body.amount.money(),
        reason=body.reason,
        holder=holder,
        key=IdempotencyKey(key),
        now=cloud.clock(),
    )
    if isinstance(done, Refusal):
        raise ProblemError(done)
    return SaleRefundView.of(done)
