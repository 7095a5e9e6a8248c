"""Buying Credits: open a card page, tell the attendee what became of it."""

from http import HTTPStatus
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field

from cloud.api.access import SignedInAttendee
from cloud.api.context import TheCloud
from cloud.api.forms import Currency, Cursor, Key, Limit, MoneyView, Slug
from cloud.api.problems import ProblemError, answers
from cloud.operations.cards.card_payments import Payment, PaymentState
from cloud.operations.cards.top_up import find_payment, list_payments, start_top_up
from cloud.operations.refusals import Code, Refusal
from protocol.ids import EventId, IdempotencyKey
from protocol.money import Money

router = APIRouter(prefix="/v1", tags=["top-ups"])

Status = Literal["pending", "paid", "declined", "expired", "refunded"]


class TopUp(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"amount_in_cents": 2000, "currency": "EUR", "event_id": "harbour-festival"}
            ]
        },
    )

    amount_in_cents: Annotated[int, Field(strict=True, ge=1, le=10_000_000)]
    currency: Currency
    event_id: Slug | None = None
    """Whose limits count; left out: the widest of the open events in that currency."""


class TopUpOpened(BaseModel):
    id: str
    amount: MoneyView
    card_page: str
    """Send the attendee's browser there; it comes back to the wallet page."""


class TopUpView(BaseModel):
    id: str
    amount: MoneyView
    status: Status
    """`declined`: another card may still pay. `refunded`: all of it is back on the card."""
    at_ms: int
    """When it was asked for, milliseconds since 1970."""


class TopUpPage(BaseModel):
    top_ups: list[TopUpView]
    """Newest first."""
    next_cursor: str | None
    """Of the next page; none: this is the last one."""


@router.post("/topups", status_code=HTTPStatus.CREATED, responses=answers(401, 404, 409, 422, 502))
def open_top_up(body: TopUp, attendee: SignedInAttendee, cloud: TheCloud, key: Key) -> TopUpOpened:
    """Open a card page for this amount. No card data passes through here."""
    if cloud.provider is None:
        raise ProblemError(
            Refusal(
                Code.PAYMENTS_OFF,
                "No card provider is set up here.",
                "Buy Credits at a counter, or set `payments.provider`.",
            )
        )
    payment = start_top_up(
        cloud.database,
        cloud.provider,
        attendee,
        Money(body.amount_in_cents, body.currency),
        event_id=None if body.event_id is None else EventId(body.event_id),
        key=IdempotencyKey(key),
        return_url=f"{cloud.public_url}/",
        now=cloud.clock(),
    )
    if isinstance(payment, Refusal):
        raise ProblemError(payment)
    assert payment.card_page is not None, "an opened payment has its page"
    amount = MoneyView.of(payment.amount)
    return TopUpOpened(id=payment.id, amount=amount, card_page=payment.card_page)


@router.get("/topups/{payment_id}", responses=answers(401, 404))
def top_up(payment_id: str, attendee: SignedInAttendee, cloud: TheCloud) -> TopUpView:
    """What became of one's own top-up."""
    payment = find_payment(cloud.database, attendee, payment_id)
    if isinstance(payment, Refusal):
        raise ProblemError(payment)
    return _view(payment)


@router.get("/topups", responses=answers(401, 422))
def top_ups(
    attendee: SignedInAttendee, cloud: TheCloud, cursor: Cursor = None, limit: Limit = 50
) -> TopUpPage:
    """One's own top-ups."""
    before = None if cursor is None else _read_cursor(cursor)
    found = list_payments(cloud.database, attendee, before=before, limit=limit + 1)
    page = found[:limit]
    return TopUpPage(
        top_ups=[_view(each) for each in page],
        next_cursor=page[-1].id if len(found) > limit else None,
    )


def _read_cursor(cursor: str) -> UUID:
    try:
        return UUID(cursor)
    except ValueError:
        said = {"loc": ("query", "cursor"), "msg": "not a `next_cursor` of this list"}
        raise RequestValidationError([said]) from None


def _view(payment: Payment) -> TopUpView:
    return TopUpView(
        id=payment.id,
        amount=MoneyView.of(payment.amount),
        status=_status(payment),
        at_ms=int(payment.created_at.timestamp() * 1000),
    )


def _status(payment: Payment) -> Status:
    match payment.state:
        case PaymentState.CREATED | PaymentState.PENDING:
            return "pending"
        case PaymentState.SUCCEEDED:
            return "paid"
        case PaymentState.FAILED:
            return "declined"
        case PaymentState.EXPIRED:
            return "expired"
        case PaymentState.REFUNDED:
            return "refunded"
