"""Who is asking: an attendee, someone at the console, or a program; by cookie or bearer token."""

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Depends, Request, Response
from fastapi.exceptions import HTTPException
from starlette.concurrency import run_in_threadpool

from cloud.access.roles import Holder, Role
from cloud.access.tokens import TokenKind, is_of_kind
from cloud.api.context import Cloud, TheCloud, cloud_of
from cloud.api.floods import count_failure
from cloud.api.limits import Limited
from cloud.api.phones import phones_of
from cloud.api.problems import ProblemError
from cloud.operations.people.access_tokens import find_holder
from cloud.operations.people.console_sessions import SESSION_VALID as CONSOLE_SESSION_VALID
from cloud.operations.people.console_sessions import ConsoleSession, find_console_holder
from cloud.operations.people.sign_in_attendee import SESSION_VALID, Attendee, Session
from cloud.operations.refusals import Code, Refusal

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_SAME_SITE: Final = frozenset({"same-origin", "none"})


def cookie_name(public_url: str) -> str:
    """`__Host-`: over HTTPS the browser itself binds the cookie to this host (RFC 6265bis)."""
    return "__Host-railtix" if public_url.startswith("https://") else "railtix"


def console_cookie_name(public_url: str) -> str:
    return f"{cookie_name(public_url)}-console"


def set_session_cookie(response: Response, session: Session, public_url: str) -> None:
    age_s = int(SESSION_VALID.total_seconds())
    _set_cookie(response, cookie_name(public_url), session.token, age_s, public_url)


def set_console_cookie(response: Response, session: ConsoleSession, public_url: str) -> None:
    age_s = int(CONSOLE_SESSION_VALID.total_seconds())
    _set_cookie(response, console_cookie_name(public_url), session.token, age_s, public_url)


def session_token(request: Request, public_url: str) -> str:
    """An attendee's session, by bearer or by cookie; empty for neither."""
    return _presented(request, cookie_name(public_url))


def console_token(request: Request, public_url: str) -> str:
    """A console session or an access token, by bearer or by cookie; empty for neither."""
    return _presented(request, console_cookie_name(public_url))


def refuse_other_sites(request: Request) -> None:
    """Nobody is signed in by another site's page: it could be as somebody else."""
    if request.headers.get("sec-fetch-site", "same-origin") not in _SAME_SITE:
        raise HTTPException(HTTPStatus.FORBIDDEN, "Another site sent this request.")


async def signed_in_attendee(request: Request) -> Attendee:
    """A route's rule: a signed-in attendee, for what is their own."""
    token = session_token(request, cloud_of(request).public_url)
    attendee = await phones_of(request).sessions.ask(token) if token else None
    if attendee is None:
        raise await nobody_signed_in(request, token)
    return attendee


async def presented_session(request: Request) -> str:
    """A route's rule: as `signed_in_attendee`, looked up together with what the route answers.

    Where that finds nobody the route raises `nobody_signed_in`.
    """
    return session_token(request, cloud_of(request).public_url)


async def nobody_signed_in(request: Request, token: str) -> ProblemError:
    return await run_in_threadpool(
        _not_signed_in,
        request,
        cloud_of(request),
        token,
        Refusal(
            Code.NOT_SIGNED_IN,
            "Nobody is signed in here.",
            "Open a sign-in link, or send a session's bearer token.",
        ),
    )


def signed_in_console(request: Request, cloud: TheCloud) -> Holder:
    """A route's rule: whoever is signed in at the console, for what is their own."""
    token = console_token(request, cloud.public_url)
    holder = find_console_holder(cloud.database, token, cloud.clock()) if token else None
    if holder is None:
        raise _not_signed_in(
            request,
            cloud,
            token,
            Refusal(
                Code.NOT_SIGNED_IN,
                "Nobody is signed in at the console here.",
                "Sign in with POST /v1/console/session.",
            ),
        )
    return holder


class Allowed:
    """A route's rule: which roles may ask. Where the path names an event or a stall, there.

    The rule is read from here for the OpenAPI document and for the test of each role against each
    endpoint.
    """

    def __init__(self, *roles: Role, everywhere: bool = False) -> None:
        """`everywhere`: the role must be theirs for every event."""
        self.roles: Final = frozenset(roles)
        self.everywhere: Final = everywhere

    def __call__(self, request: Request, cloud: TheCloud) -> Holder:
        holder = self._find(request, cloud)
        event_id, stall_id = (
            request.path_params.get("event_id"),
            request.path_params.get("stall_id"),
        )
        is_allowed = holder.may(self.roles, event_id, stall_id)
        if self.everywhere:
            is_allowed = holder.events(self.roles) is None
        if not is_allowed:
            named = " or ".join(sorted(role.value for role in self.roles))
            where = "for every event" if self.everywhere else "here"
            raise ProblemError(
                Refusal(
                    Code.NOT_ALLOWED,
                    f"This needs the role {named} {where}; {holder.subject} does not have it.",
                    "Ask an admin for the role.",
                )
            )
        return holder

    @staticmethod
    def _find(request: Request, cloud: Cloud) -> Holder:
        token, now = console_token(request, cloud.public_url), cloud.clock()
        if is_of_kind(token, TokenKind.CONSOLE_SESSION):
            holder = find_console_holder(cloud.database, token, now)
        else:
            holder = find_holder(cloud.database, token, now)
        if holder is None:
            raise _not_signed_in(
                request,
                cloud,
                token,
                Refusal(
                    Code.NOT_SIGNED_IN,
                    "A console session or an access token is needed; this one is missing, "
                    "unknown, expired or revoked.",
                    "Sign in with POST /v1/console/session, or make a token with "
                    "`railtix-cloud token create NAME` and send it as a bearer token.",
                ),
            )
        return holder


def _not_signed_in(request: Request, cloud: Cloud, token: str, refusal: Refusal) -> ProblemError:
    """A secret that opens nothing counts as a failure; none at all is only a page without one.

    Whoever shows a good one is never asked to wait: many phones stand behind one address.
    """
    limited = count_failure(cloud, Limited.TOKEN_FAILURES, request) if token else None
    return ProblemError(limited or refusal)


def _presented(request: Request, cookie: str) -> str:
    """A cookie alone may not change anything from another site's page, whatever the browser's
    age."""
    bearer = _bearer(request)
    if bearer:
        return bearer
    token = request.cookies.get(cookie, "")
    if token and request.method not in _SAFE_METHODS:
        refuse_other_sites(request)
    return token


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _set_cookie(response: Response, name: str, token: str, age_s: int, public_url: str) -> None:
    response.set_cookie(
        name,
        token,
        max_age=age_s,
        httponly=True,
        secure=public_url.startswith("https://"),
        samesite="strict",
        path="/",
    )


PresentedSession = Annotated[str, Depends(presented_session)]
SignedInAttendee = Annotated[Attendee, Depends(signed_in_attendee)]
SignedInConsole = Annotated[Holder, Depends(signed_in_console)]
Ops = Annotated[Holder, Depends(Allowed(Role.OPS))]
OpsEverywhere = Annotated[Holder, Depends(Allowed(Role.OPS, everywhere=True))]
AdminEverywhere = Annotated[Holder, Depends(Allowed(Role.ADMIN, everywhere=True))]
