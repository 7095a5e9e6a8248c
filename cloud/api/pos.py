"""The appliances' requests over HTTPS, where only port 443 is open: the worker's own operation."""

from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Header, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from cloud.api.context import Cloud, TheCloud
from cloud.api.floods import count_failure, spend
from cloud.api.limits import Limited
from cloud.api.problems import answers, problem
from cloud.operations.till.opening import Arrived, Unverified, UnverifiedReason, open_requests
from cloud.operations.till.pos import SignedReply, Unanswered, answer_batch
from protocol.encoding import from_base64url
from protocol.messages import UNREADABLE

JOSE: Final = "application/jose"

router = APIRouter(prefix="/v1/pos", tags=["appliances"])


_SIGNED: Final[dict[str, Any]] = {
    "description": "The cloud's signed reply (JWS, compact)",
    "content": {JOSE: {"schema": {"type": "string"}}},
}


class _Keyed(msgspec.Struct):
    key: str


_KEYED: Final = msgspec.json.Decoder(_Keyed)


@router.post(
    "/requests",
    response_class=Response,
    responses={200: _SIGNED, **answers(400, 401, 413, 415, 429, 503)},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {JOSE: {"schema": {"type": "string", "description": "JWS, ES256"}}},
        }
    },
)
async def take_request(
    request: Request,
    cloud: TheCloud,
    idempotency_key: Annotated[str, Header(alias="Idempotency-Key", max_length=64)],
) -> Response:
    """One signed request; every outcome, refusals too, is 200 with the cloud's signed reply.

    A problem document answers only what never parsed or verified, and the moment when the cloud
    cannot say what stands: then the same bytes may be sent again.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JOSE:
        return problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "not_jose",
            "The body is not marked as a signed request.",
            f"Send a compact JWS with Content-Type: {JOSE}.",
        )
    body = await request.body()
    return await run_in_threadpool(_answer, request, cloud, body, idempotency_key)


def _answer(request: Request, cloud: Cloud, token: bytes, idempotency_key: str) -> Response:
    if _key_of(token) != idempotency_key:
        return problem(
            HTTPStatus.BAD_REQUEST,
            "key_differs",
            "The Idempotency-Key header is not the key in the signed request.",
            "Send the request's own key in the header.",
        )
    arrived = Arrived(token, None, cloud.clock())
    _stop_flood(request, cloud, arrived)
    [answer] = answer_batch(cloud.desk, [arrived])
    match answer:
        case SignedReply():
            return Response(answer.jws, media_type=JOSE)
        case Unverified():
            count_failure(cloud, Limited.POS_FAILURES, request)
            return problem(
                _status(answer.reason),
                answer.reason.value,
                "The request is not one that an appliance of ours signed.",
                "Check the appliance's key, certificate and clock; it may need to enrol again.",
            )
        case Unanswered():
            return problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "not_known",
                "The cloud cannot say just now what became of this request.",
                "Send the same bytes again.",
            )


def _stop_flood(request: Request, cloud: Cloud, arrived: Arrived) -> None:
    """Where too many failed, one more that fails leaves no record of its own. What an appliance
    signed is answered as ever: many of them may stand behind one address."""
    if cloud.limits.is_spent(Limited.POS_FAILURES, cloud.limits.client_of(request)):
        [opened] = open_requests(cloud.database, cloud.desk.remembered, [arrived])
        if isinstance(opened, Unverified):
            spend(cloud, Limited.POS_FAILURES, request)


def _key_of(token: bytes) -> str | None:
    """The key a request claims, unverified: to compare with the header, for nothing else."""
    parts = token.split(b".")
    payload = from_base64url(parts[1]) if len(parts) == 3 else None
    if payload is None:
        return None
    try:
        return _KEYED.decode(payload).key
    except UNREADABLE:
        return None


def _status(reason: UnverifiedReason) -> HTTPStatus:
    match reason:
        case UnverifiedReason.TOO_LONG:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        case (
            UnverifiedReason.NOT_A_TOKEN
            | UnverifiedReason.WRONG_ALGORITHM
            | UnverifiedReason.WRONG_TYPE
            | UnverifiedReason.MALFORMED
            | UnverifiedReason.UNSUPPORTED_VERSION
        ):
            return HTTPStatus.BAD_REQUEST
        case (
            UnverifiedReason.UNKNOWN_CERTIFICATE
            | UnverifiedReason.BAD_SIGNATURE
            | UnverifiedReason.CERTIFICATE_EXPIRED
            | UnverifiedReason.ANOTHERS_TOPIC
            | UnverifiedReason.ANOTHERS_KEY
        ):
            return HTTPStatus.UNAUTHORIZED
