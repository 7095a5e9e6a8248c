"""Refusals over HTTP: problem details (RFC 9457) with a stable code and what to do next."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from cloud.operations.refusals import Code, Refusal

MEDIA_TYPE: Final = "application/problem+json"

_STATUS: Final[Mapping[Code, HTTPStatus]] = {
    Code.NOT_SIGNED_IN: HTTPStatus.UNAUTHORIZED,
    Code.NOT_ALLOWED: HTTPStatus.FORBIDDEN,
    Code.LINK_NOT_USABLE: HTTPStatus.FORBIDDEN,
    Code.KEY_MISSING: HTTPStatus.BAD_REQUEST,
    Code.KEY_REUSED: HTTPStatus.CONFLICT,
    Code.AMOUNT_OUT_OF_RANGE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.CURRENCY_NOT_SOLD: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.CURRENCY_FIXED: HTTPStatus.CONFLICT,
    Code.EVENT_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.EVENT_CLOSED: HTTPStatus.CONFLICT,
    Code.STALL_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.STALL_IN_USE: HTTPStatus.CONFLICT,
    Code.TICKETS_SOLD: HTTPStatus.CONFLICT,
    Code.STAFF_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.STAFF_NOT_ASSIGNED: HTTPStatus.CONFLICT,
    Code.PIN_NOT_ALLOWED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.DEVICE_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.DEVICE_REVOKED: HTTPStatus.CONFLICT,
    Code.CERTIFICATE_NOT_USABLE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.POLICY_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.KEY_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.KEY_NOT_PREPARED: HTTPStatus.CONFLICT,
    Code.KEY_NOT_KNOWN_YET: HTTPStatus.CONFLICT,
    Code.PAYMENT_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.PAYMENT_REFUSED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.AMOUNT_DIFFERS: HTTPStatus.CONFLICT,
    Code.CAME_TOO_EARLY: HTTPStatus.CONFLICT,
    Code.PAYMENTS_OFF: HTTPStatus.NOT_FOUND,
    Code.PROVIDER_UNREACHABLE: HTTPStatus.BAD_GATEWAY,
}
assert set(_STATUS) == set(Code), "a refusal without a status"


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


class ProblemError(Exception):
    """Ends the request with this refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code.value)
        self.refusal = refusal


def problem(
    status: int, code: str, detail: str, next_step: str, errors: list[str] | None = None
) -> JSONResponse:
    said = Problem(
        type=f"urn:railtix:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        next_step=next_step,
        errors=errors or [],
    )
    content = said.model_dump(exclude=set() if errors else {"errors"})
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
    return JSONResponse(content, status, headers, MEDIA_TYPE)


def answers(*codes: int) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: the statuses under which a route answers with a problem."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        code: {"description": HTTPStatus(code).phrase, "model": Problem, "content": content}
        for code in codes
    }


def install(app: FastAPI) -> None:
    """Every error this server answers with is a problem document."""

    async def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ProblemError), "registered for this error alone"
        refusal = error.refusal
        return problem(_STATUS[refusal.code], refusal.code, refusal.detail, refusal.next_step)

    async def not_understood(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError), "registered for this error alone"
        return problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "request_not_understood",
            "The request does not have the form that this address takes.",
            "Compare it with /v1/openapi.json.",
            [_explain(each) for each in error.errors()],
        )

    async def http_error(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException), "registered for this error alone"
        code = HTTPStatus(error.status_code).name.lower()
        detail = str(error.detail)
        return problem(error.status_code, code, detail, "Compare it with /v1/openapi.json.")

    async def failed(_: Request, _error: Exception) -> JSONResponse:
        return problem(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "internal_error",
            "The server failed; whether anything was done is not known.",
            "Send the same request again, under the same Idempotency-Key where it has one.",
        )

    app.add_exception_handler(ProblemError, refused)
    app.add_exception_handler(RequestValidationError, not_understood)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, failed)


def _explain(error: Mapping[str, Any]) -> str:
    """Where and what, without the value: it may be a secret."""
    where = ".".join(str(part) for part in error["loc"] if part != "body")
    return f"{where}: {error['msg']}" if where else str(error["msg"])
