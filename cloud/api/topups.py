"""Buying Credits: open a card page, hear from the provider, tell the attendee."""

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from cloud.api.access import SignedInAttendee
from cloud.api.context import Cloud, TheCloud
from cloud.api.forms import Currency, Key, MoneyView
from cloud.api.problems import ProblemError, answers, problem
from cloud.operations.refusals import Code, Refusal
from cloud.operations.top_up import (
    Payment,
    PaymentState,
    find_payment,
    record_refused_webhook,
    start_top_up,
    take_provider_event,
)
from cloud.payments.built_in import NAME
from cloud.payments.delivery import SIGNATURE_HEADER
from cloud.payments.provider import CardProvider, WebhookRefusal
from protocol.ids import IdempotencyKey
from protocol.money import Money

router = APIRouter(prefix="/v1", tags=["top-ups"])

Status = Literal["pending", "paid", "declined"]


class TopUp(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"amount_in_cents": 2000, "currency": "EUR"}]},
    )

    amount_in_cents: Annotated[int, Field(strict=True, ge=1, le=10_000_000)]
    currency: Currency


class TopUpOpened(BaseModel):
    id: str
    amount: MoneyView
    card_page: str
    """Send the attendee's browser there; it comes back to the wallet page."""


class TopUpView(BaseModel):
    id: str
    amount: MoneyView
    status: Status


class WebhookTaken(BaseModel):
    outcome: Annotated[str, Field(examples=["credited", "known_already", "noted"])]


@router.post("/topups", status_code=HTTPStatus.CREATED, responses=answers(401, 404, 409, 422, 502))
def open_top_up(body: TopUp, attendee: SignedInAttendee, cloud: TheCloud, key: Key) -> TopUpOpened:
    """Open a card page for this amount. No card data passes through here."""
    payment = start_top_up(
        cloud.database,
        _provider(cloud),
        attendee,
        Money(body.amount_in_cents, body.currency),
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
    return TopUpView(id=payment.id, amount=MoneyView.of(payment.amount), status=_status(payment))


@router.post(
    "/webhooks/test",
    response_model=WebhookTaken,
    responses=answers(400, 404, 409),
    openapi_extra={"requestBody": {"content": {"application/json": {}}, "required": True}},
)
async def webhook(request: Request, cloud: TheCloud) -> Response:
    """The built-in provider tells what became of a payment (signed, `RailTix-Signature`).

    Anything but a 2xx makes it come again.
    """
    return await run_in_threadpool(
        _take_webhook,
        cloud,
        await request.body(),
        request.headers.get(SIGNATURE_HEADER, ""),
    )


def _take_webhook(cloud: Cloud, body: bytes, signature: str) -> Response:
    now = cloud.clock()
    event = _provider(cloud).read_webhook(body, signature, now)
    if isinstance(event, WebhookRefusal):
        record_refused_webhook(cloud.database, NAME, event, now)
        return problem(
            HTTPStatus.BAD_REQUEST,
            event.value,
            "This webhook is not believed.",
            "Sign the time and the exact body with the shared secret, and send it at once.",
        )
    outcome = take_provider_event(cloud.database, event, now)
    if isinstance(outcome, Refusal):
        raise ProblemError(outcome)
    return JSONResponse({"outcome": outcome.value})


def _provider(cloud: Cloud) -> CardProvider:
    if cloud.provider is None:
        raise ProblemError(
            Refusal(
                Code.PAYMENTS_OFF,
                "No card provider is set up here.",
                "Buy Credits at a counter, or set `payments.test_provider` for a trial.",
            )
        )
    return cloud.provider


def _status(payment: Payment) -> Status:
    match payment.state:
        case PaymentState.CREATED | PaymentState.PENDING:
            return "pending"
        case PaymentState.SUCCEEDED:
            return "paid"
        case PaymentState.FAILED:
            return "declined"
