"""Refusals over HTTP: problem details (RFC 9457) with a stable code and what to do next."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from cloud.api.methods import Addresses, template_of
from cloud.operations.refusals import Code, Refusal

MEDIA_TYPE: Final = "application/problem+json"

_log = structlog.stdlib.get_logger("cloud.http")

STATUS: Final[Mapping[Code, HTTPStatus]] = {
    Code.NOT_SIGNED_IN: HTTPStatus.UNAUTHORIZED,
    Code.NOT_ALLOWED: HTTPStatus.FORBIDDEN,
    Code.LINK_NOT_USABLE: HTTPStatus.FORBIDDEN,
    Code.CODE_NOT_USABLE: HTTPStatus.FORBIDDEN,
    Code.SIGN_IN_REFUSED: HTTPStatus.FORBIDDEN,
    Code.TOO_MANY_TRIES: HTTPStatus.TOO_MANY_REQUESTS,
    Code.TOO_MANY_REQUESTS: HTTPStatus.TOO_MANY_REQUESTS,
    Code.EMAIL_TAKEN: HTTPStatus.CONFLICT,
    Code.EMAIL_NEEDED: HTTPStatus.CONFLICT,
    Code.PERSON_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.PERSON_KNOWN: HTTPStatus.CONFLICT,
    Code.PERSON_DISABLED: HTTPStatus.CONFLICT,
    Code.PASSWORD_NOT_ALLOWED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.GRANT_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.GRANT_NOT_ALLOWED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.LAST_ADMIN: HTTPStatus.CONFLICT,
    Code.KEY_MISSING: HTTPStatus.BAD_REQUEST,
    Code.KEY_REUSED: HTTPStatus.CONFLICT,
    Code.CURSOR_UNKNOWN: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.AMOUNT_OUT_OF_RANGE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.CURRENCY_NOT_SOLD: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.CURRENCY_FIXED: HTTPStatus.CONFLICT,
    Code.EVENT_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.EVENT_CLOSED: HTTPStatus.CONFLICT,
    Code.EVENT_CHANGED: HTTPStatus.PRECONDITION_FAILED,
    Code.VERSION_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.VERSION_NOT_USABLE: HTTPStatus.CONFLICT,
    Code.STALL_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.STALL_IN_USE: HTTPStatus.CONFLICT,
    Code.TICKETS_SOLD: HTTPStatus.CONFLICT,
    Code.TICKET_TYPE_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.NOT_ON_SALE: HTTPStatus.CONFLICT,
    Code.SOLD_OUT: HTTPStatus.CONFLICT,
    Code.TOO_MANY_TICKETS: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.INSUFFICIENT_CREDITS: HTTPStatus.CONFLICT,
    Code.CREDITS_ABOVE_TOTAL: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.CARD_PART_TOO_SMALL: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.ORDER_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.ORDER_CLOSED: HTTPStatus.CONFLICT,
    Code.ORDER_PAID: HTTPStatus.CONFLICT,
    Code.ORDER_NOT_PAID: HTTPStatus.CONFLICT,
    Code.STAFF_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.STAFF_NOT_ASSIGNED: HTTPStatus.CONFLICT,
    Code.BADGE_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.PIN_NOT_ALLOWED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.DEVICE_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.DEVICE_REVOKED: HTTPStatus.CONFLICT,
    Code.DEVICE_QUARANTINED: HTTPStatus.CONFLICT,
    Code.DEVICE_UNSYNCED: HTTPStatus.CONFLICT,
    Code.DEVICE_NOT_QUARANTINED: HTTPStatus.CONFLICT,
    Code.CERTIFICATE_NOT_USABLE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.CERTIFICATE_UNKNOWN: HTTPStatus.UNAUTHORIZED,
    Code.CERTIFICATE_EXPIRED: HTTPStatus.UNAUTHORIZED,
    Code.CERTIFICATE_REVOKED: HTTPStatus.FORBIDDEN,
    Code.ENROLMENT_CLOSED: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.CLAIM_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.CLAIM_WRONG: HTTPStatus.UNAUTHORIZED,
    Code.CLAIM_EXPIRED: HTTPStatus.FORBIDDEN,
    Code.CLAIM_USED: HTTPStatus.FORBIDDEN,
    Code.CLAIM_LOCKED: HTTPStatus.FORBIDDEN,
    Code.CLAIM_WITHDRAWN: HTTPStatus.FORBIDDEN,
    Code.SERIAL_WRONG: HTTPStatus.FORBIDDEN,
    Code.CSR_NOT_USABLE: HTTPStatus.BAD_REQUEST,
    Code.KEY_ON_ANOTHER_DEVICE: HTTPStatus.CONFLICT,
    Code.NAME_NOT_ALLOWED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.POLICY_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.KEY_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.KEY_NOT_PREPARED: HTTPStatus.CONFLICT,
    Code.KEY_NOT_KNOWN_YET: HTTPStatus.CONFLICT,
    Code.NO_CHECKPOINT: HTTPStatus.NOT_FOUND,
    Code.NOT_PROVEN: HTTPStatus.CONFLICT,
    Code.TRANSACTION_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.PAYMENT_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.PAYMENT_REFUSED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.CASH_OUT_NOT_ALLOWED: HTTPStatus.CONFLICT,
    Code.CASH_OUT_OPEN: HTTPStatus.CONFLICT,
    Code.CASH_OUT_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.CASH_OUT_POSTED: HTTPStatus.CONFLICT,
    Code.NOTHING_TO_CASH_OUT: HTTPStatus.CONFLICT,
    Code.WALLET_FROZEN: HTTPStatus.CONFLICT,
    Code.SALE_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.SALE_UNDER_REVIEW: HTTPStatus.CONFLICT,
    Code.SALE_STANDS: HTTPStatus.CONFLICT,
    Code.OVER_WHAT_IS_LEFT: HTTPStatus.CONFLICT,
    Code.NOTHING_LEFT: HTTPStatus.CONFLICT,
    Code.REFUND_DEADLINE_PASSED: HTTPStatus.CONFLICT,
    Code.WRONG_CURRENCY: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.APPROVAL_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.APPROVAL_ENDED: HTTPStatus.CONFLICT,
    Code.APPROVAL_OUTDATED: HTTPStatus.CONFLICT,
    Code.SAME_PERSON: HTTPStatus.FORBIDDEN,
    Code.WALLET_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.REVIEW_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.REVIEW_ENDED: HTTPStatus.CONFLICT,
    Code.NOTHING_TO_POST: HTTPStatus.CONFLICT,
    Code.NOTHING_TO_REVERSE: HTTPStatus.CONFLICT,
    Code.AMOUNT_DIFFERS: HTTPStatus.CONFLICT,
    Code.CAME_TOO_EARLY: HTTPStatus.CONFLICT,
    Code.PAYMENTS_OFF: HTTPStatus.NOT_FOUND,
    Code.PROVIDER_UNREACHABLE: HTTPStatus.BAD_GATEWAY,
    Code.BUNDLE_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.BUNDLE_DIFFERS: HTTPStatus.CONFLICT,
    Code.BUNDLE_DAMAGED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.BUNDLE_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Code.BUNDLE_PART_MISPLACED: HTTPStatus.CONFLICT,
    Code.STORAGE_FULL: HTTPStatus.INSUFFICIENT_STORAGE,
    Code.CHANNEL_UNKNOWN: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.RELEASE_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.RELEASE_OLDER: HTTPStatus.CONFLICT,
    Code.UPDATE_PAUSED: HTTPStatus.CONFLICT,
    Code.RANGE_NOT_USABLE: HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    Code.UPDATES_BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
}
assert set(STATUS) == set(Code), "a refusal without a status"


class Problem(BaseModel):
    """RFC 9457, with two members of ours: `code`, which never changes, and `next_step`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:railtix:problem:key_reused",
                    "title": "Conflict",
                    "status": 409,
                    "code": "key_reused",
                    "detail": "This Idempotency-Key belongs to a top-up of 20.00 EUR.",
                    "next_step": "Use a new key for another top-up.",
                    "instance": "urn:railtix:request:0197b2c4-6f0e-7c31-9d0e-3f6a1c2b4d5e",
                    "request_id": "0197b2c4-6f0e-7c31-9d0e-3f6a1c2b4d5e",
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    code: str
    detail: str
    next_step: str
    errors: list[str] = Field(default_factory=list[str])
    """What is wrong with each member, where the request was read but not understood."""
    instance: str | None = None
    request_id: str | None = None
    """Of the request's `X-Request-Id`, or made here: every line of the log about it has it."""


class ProblemError(Exception):
    """Ends the request with this refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code.value)
        self.refusal = refusal


def problem(
    status: int,
    code: str,
    detail: str,
    next_step: str,
    errors: list[str] | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> JSONResponse:
    """`extra`: members of this one problem type, which its model names."""
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    said = Problem(
        type=f"urn:railtix:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        next_step=next_step,
        errors=errors or [],
        instance=None if request_id is None else f"urn:railtix:request:{request_id}",
        request_id=request_id,
    )
    content = said.model_dump(exclude=set() if errors else {"errors"}, exclude_none=True)
    content.update(extra or {})
    sent = dict(headers or {})
    if status == HTTPStatus.UNAUTHORIZED:
        sent.setdefault("WWW-Authenticate", "Bearer")
    return JSONResponse(content, status, sent, MEDIA_TYPE)


def internal_error() -> JSONResponse:
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal_error",
        "The server failed; whether anything was done is not known.",
        "Send the same request again, under the same Idempotency-Key where it has one.",
    )


def answers(*codes: int) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: the statuses under which a route answers with a problem."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        code: {"description": HTTPStatus(code).phrase, "model": Problem, "content": content}
        for code in codes
    }


def install(app: FastAPI, addresses: Addresses) -> None:
    """Every error this server answers with is a problem document."""

    async def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ProblemError), "registered for this error alone"
        refusal = error.refusal
        status = STATUS[refusal.code]
        wait_s = refusal.retry_after_s
        headers = None if wait_s is None else {"Retry-After": str(wait_s)}
        return problem(status, refusal.code, refusal.detail, refusal.next_step, headers=headers)

    async def not_understood(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError), "registered for this error alone"
        if error.body and not _is_json(request):
            return problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "not_json",
                "The body is not marked as JSON.",
                "Send JSON with Content-Type: application/json.",
            )
        return not_read(*(_explain(each) for each in error.errors()))

    def not_read(*errors: str) -> JSONResponse:
        return problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "request_not_understood",
            "The request does not have the form that this address takes.",
            "Compare it with /v1/openapi.json.",
            list(errors),
        )

    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException), "registered for this error alone"
        status = HTTPStatus(error.status_code)
        if status is HTTPStatus.BAD_REQUEST:
            # The framework's word for a body that is not even text.
            return not_read(str(error.detail))
        headers = dict(error.headers or {})
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            # The route that was met knows its own methods, and not its neighbours'.
            headers["Allow"] = ", ".join(addresses.at(request.url.path))
        next_step = "Compare it with /v1/openapi.json."
        return problem(status, status.name.lower(), str(error.detail), next_step, headers=headers)

    async def failed(request: Request, error: Exception) -> JSONResponse:
        # Before the answer: whoever has read that finds this.
        _log.error("request_failed", route=template_of(request.scope), exc_info=error)
        return internal_error()

    app.add_exception_handler(ProblemError, refused)
    app.add_exception_handler(RequestValidationError, not_understood)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, failed)


def _is_json(request: Request) -> bool:
    said = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return said == "application/json" or (
        said.startswith("application/") and said.endswith("+json")
    )


def _explain(error: Mapping[str, Any]) -> str:
    """Where and what, without the value: it may be a secret."""
    where = ".".join(str(part) for part in error["loc"] if part != "body")
    return f"{where}: {error['msg']}" if where else str(error["msg"])
