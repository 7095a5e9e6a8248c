"""An attendee's way in and out: a code by e-mail, or a link; a cookie, or a bearer token."""

from http import HTTPStatus
from typing import Annotated, Final, Self

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from cloud.api.access import cookie_name, refuse_other_sites, session_token, set_session_cookie
from cloud.api.context import TheCloud
from cloud.api.floods import count_failure, spend
from cloud.api.forms import Body, Email, Totp
from cloud.api.limits import Limited
from cloud.api.problems import ProblemError, answers
from cloud.operations.people.one_time_codes import CODE_VALID, send_code
from cloud.operations.people.sign_in_attendee import exchange_link, sign_in_with_code, sign_out
from cloud.operations.refusals import Refusal

router = APIRouter(prefix="/v1", tags=["sign-in"])

_EXAMPLES: Final[list[JsonValue]] = [
    {"email": "ana@example.org", "code": "271828"},
    {"link": "rxl_...", "bearer": True},
]


class CodeWanted(Body):
    email: Email


class CodeSent(BaseModel):
    """The same for every address: whether anybody has it is not said."""

    expires_in_s: Annotated[int, Field(examples=[600])]


class SignIn(Body):
    """Either a link, or an address with the newest code that was sent to it."""

    model_config = ConfigDict(json_schema_extra={"examples": _EXAMPLES})

    link: Annotated[str, Field(max_length=100)] | None = None
    """What stands behind `#sign-in=` in the link."""
    email: Email | None = None
    code: Totp | None = None
    bearer: bool = False
    """For programs: answer with a bearer token instead of a cookie."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        by_code = (self.email is not None, self.code is not None)
        if by_code != ((self.link is None), (self.link is None)):
            raise ValueError("either link, or email and code")
        return self


class SignedIn(BaseModel):
    expires_at_ms: int
    bearer: str | None = None
    """Shown this once, where it was asked for."""


@router.post("/sign-in/codes", status_code=HTTPStatus.ACCEPTED, responses=answers(422, 429))
def post_code(body: CodeWanted, request: Request, cloud: TheCloud) -> CodeSent:
    """Post six digits to this address: good for ten minutes and five tries, the newest alone."""
    spend(cloud, Limited.CODES, request)
    send_code(cloud.database, cloud.keys, body.email, cloud.clock())
    return CodeSent(expires_in_s=int(CODE_VALID.total_seconds()))


@router.post("/session", responses=answers(403, 422, 429))
def sign_in(body: SignIn, request: Request, response: Response, cloud: TheCloud) -> SignedIn:
    """Exchange a link or a code, once, for a session: an HttpOnly cookie or a bearer token."""
    refuse_other_sites(request)
    if body.link is not None:
        session = exchange_link(cloud.database, body.link, cloud.clock())
    else:
        assert body.email is not None, "validated"
        assert body.code is not None, "validated"
        session = sign_in_with_code(
            cloud.database, cloud.keys, body.email, body.code, cloud.clock()
        )
    if isinstance(session, Refusal):
        limited = count_failure(cloud, Limited.SIGN_IN_FAILURES, request)
        raise ProblemError(limited or session)
    if not body.bearer:
        set_session_cookie(response, session, cloud.public_url)
    return SignedIn(
        expires_at_ms=int(session.expires_at.timestamp() * 1000),
        bearer=session.token if body.bearer else None,
    )


@router.delete("/session", status_code=HTTPStatus.NO_CONTENT, responses=answers(403))
def end_session(request: Request, response: Response, cloud: TheCloud) -> None:
    """Sign out; doing so twice changes nothing."""
    token = session_token(request, cloud.public_url)
    if token:
        sign_out(cloud.database, token, cloud.clock())
    response.delete_cookie(cookie_name(cloud.public_url), path="/")
