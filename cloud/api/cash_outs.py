"""Unspent Credits back to the cards they came from: asked for, looked at, withdrawn."""

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Field

from cloud.api.access import SignedInAttendee
from cloud.api.context import TheCloud
from cloud.api.forms import Body, Currency, Cursor, Key, Limit, MoneyView
from cloud.api.problems import ProblemError, answers
from cloud.operations.cards.card_refunds import UNDER_WAY, CardRefundState
from cloud.operations.cash_outs.cash_out import ask_cash_out, withdraw_cash_out
from cloud.operations.cash_outs.read_cash_outs import (
    CashOut,
    CashOutState,
    find_cash_out,
    list_cash_outs,
)
from cloud.operations.refusals import Code, Refusal
from protocol.ids import IdempotencyKey
from protocol.money import CENTS_MAX

router = APIRouter(prefix="/v1/wallet/cash-outs", tags=["cash-outs"])

_PAGE: Final = 20
CashOutId = Annotated[str, Path(max_length=40, pattern=r"^[0-9A-Fa-f-]+$")]


class CashOutRequest(Body):
    currency: Currency
    amount_in_cents: Annotated[int | None, Field(gt=0, le=CENTS_MAX, examples=[1730])] = None
    """Left out: all that came from cards."""


class PartView(BaseModel):
    """What goes back to the card of one top-up."""

    topup_id: str
    amount: MoneyView
    state: CardRefundState


class CashOutView(BaseModel):
    id: str
    currency: str
    state: CashOutState
    """`waiting`: for appliances that may hold sales not seen here; it can be withdrawn, and the
    Credits spent. `posted`: out of the wallet, with the card provider. Then it ends."""
    asked: MoneyView | None
    """None: all."""
    amount: MoneyView | None
    """What was taken from the wallet, once it was."""
    paid: MoneyView
    on_its_way: MoneyView
    back: MoneyView
    """What the card provider refused for good: in the wallet again."""
    parts: list[PartView]
    waits_until_ms: int
    """No appliance is waited for any longer than that."""
    ended_because: Annotated[
        str | None, Field(examples=["withdrawn", "wallet_frozen", "nothing_left"])
    ]
    """Why nothing was taken from the wallet, where nothing was."""
    created_at_ms: int
    ended_at_ms: int | None

    @classmethod
    def of(cls, each: CashOut) -> "CashOutView":
        ended_at = each.ended_at
        return cls(
            id=str(each.id),
            currency=each.currency,
            state=each.state,
            asked=None if each.asked is None else MoneyView.of(each.asked),
            amount=None if each.amount is None else MoneyView.of(each.amount),
            paid=MoneyView.of(each.sum_of(CardRefundState.DONE)),
            on_its_way=MoneyView.of(each.sum_of(*UNDER_WAY)),
            back=MoneyView.of(each.sum_of(CardRefundState.FAILED)),
            parts=[
                PartView(
                    topup_id=str(part.payment_id),
                    amount=MoneyView.of(part.amount),
                    state=part.state,
                )
                for part in each.parts
            ],
            waits_until_ms=int(each.waits_until.timestamp() * 1000),
            ended_because=each.ended_because,
            created_at_ms=int(each.created_at.timestamp() * 1000),
            ended_at_ms=None if ended_at is None else int(ended_at.timestamp() * 1000),
        )


class CashOutPage(BaseModel):
    cash_outs: list[CashOutView]
    """Newest first."""
    next_cursor: str | None
    """For the page after this one; none: this is the last."""


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    responses=answers(401, 404, 409, 422),
)
def ask(
    body: CashOutRequest,
    key: Key,
    attendee: SignedInAttendee,
    cloud: TheCloud,
    response: Response,
) -> CashOutView:
    """Ask for unspent Credits back, without a fee. They go to the cards they were bought with,
    oldest purchase first, once no appliance can hold sales that are not known here."""
    if cloud.provider is None:
        raise ProblemError(
            Refusal(
                Code.PAYMENTS_OFF,
                "No card payments are made here.",
                "Please ask the organiser.",
            )
        )
    asked = ask_cash_out(
        cloud.database,
        attendee,
        body.currency,
        body.amount_in_cents,
        key=IdempotencyKey(key),
        now=cloud.clock(),
    )
    if isinstance(asked, Refusal):
        raise ProblemError(asked)
    response.headers["Location"] = f"/v1/wallet/cash-outs/{asked.id}"
    return CashOutView.of(asked)


@router.get("", responses=answers(401, 422))
def all_of_them(
    attendee: SignedInAttendee, cloud: TheCloud, limit: Limit = _PAGE, cursor: Cursor = None
) -> CashOutPage:
    """The attendee's cash-outs, newest first."""
    found = list_cash_outs(cloud.database, attendee, limit + 1, cursor)
    page = found[:limit]
    return CashOutPage(
        cash_outs=[CashOutView.of(each) for each in page],
        next_cursor=str(page[-1].id) if len(found) > limit else None,
    )


@router.get("/{cash_out_id}", responses=answers(401, 404, 422))
def one(cash_out_id: CashOutId, attendee: SignedInAttendee, cloud: TheCloud) -> CashOutView:
    """How far it is."""
    return _answer(find_cash_out(cloud.database, attendee, cash_out_id))


@router.delete("/{cash_out_id}", responses=answers(401, 404, 409, 422))
def withdraw(cash_out_id: CashOutId, attendee: SignedInAttendee, cloud: TheCloud) -> CashOutView:
    """Withdraw it while it waits: nothing is paid out. Doing so twice changes nothing."""
    return _answer(withdraw_cash_out(cloud.database, attendee, cash_out_id, cloud.clock()))


def _answer(found: CashOut | Refusal) -> CashOutView:
    if isinstance(found, Refusal):
        raise ProblemError(found)
    return CashOutView.of(found)
