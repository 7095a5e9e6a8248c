"""Where card providers tell what became of payments, refunds and disputes; signed, or not heard."""

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from cloud.api.context import Cloud, TheCloud
from cloud.api.floods import count_failure
from cloud.api.limits import Limited
from cloud.api.problems import ProblemError, answers, problem
from cloud.operations.cards.card_events import (
    record_refused_webhook,
    record_unconcerning_webhook,
    take_provider_event,
)
from cloud.operations.cards.card_payments import WebhookOutcome
from cloud.operations.refusals import Code, Refusal
from cloud.payments import built_in, stripe_webhooks
from cloud.payments.delivery import SIGNATURE_HEADER
from cloud.payments.provider import Unconcerning, WebhookRefusal

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])

_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "content": {"application/json": {"schema": {"type": "object"}}},
        "required": True,
    }
}


class WebhookTaken(BaseModel):
    outcome: Annotated[str, Field(examples=["credited", "known_already", "noted"])]


@router.post(
    "/test",
    response_model=WebhookTaken,
    responses=answers(400, 404, 409, 429),
    openapi_extra=_BODY,
)
async def test_webhook(request: Request, cloud: TheCloud) -> Response:
    """The built-in provider tells (signed, `RailTix-Signature`).

    Anything but a 2xx makes it come again.
    """
    return await _take(request, cloud, built_in.NAME, SIGNATURE_HEADER)


@router.post(
    "/stripe",
    response_model=WebhookTaken,
    responses=answers(400, 404, 409, 429),
    openapi_extra=_BODY,
)
async def stripe_webhook(request: Request, cloud: TheCloud) -> Response:
    """Stripe tells (signed, `Stripe-Signature`); docs/cards.md lists the events to subscribe to.

    Anything but a 2xx makes it come again.
    """
    return await _take(request, cloud, stripe_webhooks.NAME, stripe_webhooks.SIGNATURE_HEADER)


async def _take(request: Request, cloud: Cloud, name: str, header: str) -> Response:
    body, signature = await request.body(), request.headers.get(header, "")
    return await run_in_threadpool(_take_signed, request, cloud, name, body, signature)


def _take_signed(
    request: Request, cloud: Cloud, name: str, body: bytes, signature: str
) -> Response:
    provider = cloud.provider
    if provider is None or provider.name != name:
        raise ProblemError(
            Refusal(
                Code.PAYMENTS_OFF,
                "This card provider is not set up here.",
                "Set `payments.provider`.",
            )
        )
    now = cloud.clock()
    said = provider.read_webhook(body, signature, now)
    match said:
        case WebhookRefusal():
            limited = count_failure(cloud, Limited.WEBHOOK_FAILURES, request)
            if limited is not None:
                raise ProblemError(limited)
            record_refused_webhook(cloud.database, name, said, now)
            return problem(
                HTTPStatus.BAD_REQUEST,
                said.value,
                "This webhook is not believed.",
                "Sign the time and the exact body with the shared secret, and send it at once.",
            )
        case Unconcerning():
            record_unconcerning_webhook(cloud.database, said, now)
            outcome = WebhookOutcome.UNCONCERNING
        case _:
            outcome = take_provider_event(cloud.database, said, now)
    if isinstance(outcome, Refusal):
        raise ProblemError(outcome)
    return JSONResponse({"outcome": outcome.value})
