"""The way in and out for who runs the event: an invitation, then password and second factor."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from cloud.access.passwords import PASSWORD_CHARS_MAX
from cloud.access.roles import Grant
from cloud.api.access import (
    SignedInConsole,
    console_cookie_name,
    console_token,
    refuse_other_sites,
    set_console_cookie,
)
from cloud.api.context import Cloud, TheCloud
from cloud.api.floods import count_failure, stop_flood
from cloud.api.forms import Body, Slug, Totp
from cloud.api.limits import Limited
from cloud.api.problems import ProblemError, answers
from cloud.operations.people.console_links import confirm, enrol
from cloud.operations.people.console_sessions import ConsoleSession, end_session, subject_of
from cloud.operations.people.console_sign_in import Attempt, sign_in_console
from cloud.operations.refusals import Refusal

router = APIRouter(prefix="/v1/console", tags=["console"])

Link = Annotated[str, Field(max_length=100, examples=["rxi_..."])]
Password = Annotated[str, Field(max_length=PASSWORD_CHARS_MAX, repr=False)]


class EnrolmentBody(Body):
    link: Link
    """What stands behind `#enrol=` in the invitation."""
    password: Password


class EnrolmentView(BaseModel):
    user_name: str
    provisioning_uri: Annotated[str, Field(examples=["otpauth://totp/..."])]
    """For the authenticator, as a QR; shown this once."""


class ConfirmationBody(Body):
    link: Link
    totp: Totp
    bearer: bool = False


class ConsoleSignIn(Body):
    user_name: Slug
    password: Password
    totp: Totp
    bearer: bool = False
    """For programs: answer with a bearer token instead of a cookie."""


class ConsoleSignedIn(BaseModel):
    user_name: str
    expires_at_ms: int
    bearer: str | None = None
    """Shown this once, where it was asked for."""


class GrantView(BaseModel):
    role: Annotated[str, Field(examples=["finance"])]
    event_id: str | None
    """None: every event."""
    stall_id: str | None

    @classmethod
    def of(cls, grant: Grant) -> "GrantView":
        return cls(role=grant.role.value, event_id=grant.event_id, stall_id=grant.stall_id)


class WhoView(BaseModel):
    user_name: str
    grants: list[GrantView]


@router.post("/enrol", responses=answers(403, 422, 429))
def post_enrol(body: EnrolmentBody, request: Request, cloud: TheCloud) -> EnrolmentView:
    """Choose a password and get a second factor. Both count once its first code is confirmed."""
    refuse_other_sites(request)
    stop_flood(cloud, Limited.SIGN_IN_FAILURES, request)
    enrolment = enrol(cloud.database, cloud.keys, body.link, body.password, cloud.clock())
    if isinstance(enrolment, Refusal):
        raise _refused(cloud, request, enrolment)
    return EnrolmentView(user_name=enrolment.user_name, provisioning_uri=enrolment.provisioning_uri)


@router.post("/enrol/confirm", responses=answers(403, 422, 429))
def post_confirm(
    body: ConfirmationBody, request: Request, response: Response, cloud: TheCloud
) -> ConsoleSignedIn:
    """The authenticator's first code: the invitation is used up, and its holder signed in."""
    refuse_other_sites(request)
    stop_flood(cloud, Limited.SIGN_IN_FAILURES, request)
    session = confirm(cloud.database, cloud.keys, body.link, body.totp, cloud.clock())
    if isinstance(session, Refusal):
        raise _refused(cloud, request, session)
    return _signed_in(cloud, response, session, bearer=body.bearer)


@router.post("/session", responses=answers(403, 422, 429))
def post_session(
    body: ConsoleSignIn, request: Request, response: Response, cloud: TheCloud
) -> ConsoleSignedIn:
    """Sign in for twelve hours: an HttpOnly cookie or a bearer token. Each code works once."""
    refuse_other_sites(request)
    stop_flood(cloud, Limited.SIGN_IN_FAILURES, request)
    attempt = Attempt(body.user_name, body.password, body.totp, cloud.limits.client_of(request))
    session = sign_in_console(cloud.database, cloud.keys, attempt, cloud.clock())
    if isinstance(session, Refusal):
        raise _refused(cloud, request, session)
    return _signed_in(cloud, response, session, bearer=body.bearer)


@router.get("/session", responses=answers(401, 429))
def get_session(holder: SignedInConsole) -> WhoView:
    """Who is signed in here, and what they may do."""
    return WhoView(
        user_name=holder.subject.removeprefix(subject_of("")),
        grants=[GrantView.of(grant) for grant in holder.grants],
    )


@router.delete("/session", status_code=HTTPStatus.NO_CONTENT, responses=answers(403))
def delete_session(request: Request, response: Response, cloud: TheCloud) -> None:
    """Sign out; doing so twice changes nothing."""
    token = console_token(request, cloud.public_url)
    if token:
        end_session(cloud.database, token, cloud.clock())
    response.delete_cookie(console_cookie_name(cloud.public_url), path="/")


def _signed_in(
    cloud: Cloud, response: Response, session: ConsoleSession, *, bearer: bool
) -> ConsoleSignedIn:
    if not bearer:
        set_console_cookie(response, session, cloud.public_url)
    return ConsoleSignedIn(
        user_name=session.user_name,
        expires_at_ms=int(session.expires_at.timestamp() * 1000),
        bearer=session.token if bearer else None,
    )


def _refused(cloud: Cloud, request: Request, refusal: Refusal) -> ProblemError:
    return ProblemError(count_failure(cloud, Limited.SIGN_IN_FAILURES, request) or refusal)
