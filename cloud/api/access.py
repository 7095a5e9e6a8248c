"""Who is asking: an attendee by cookie or bearer token, or someone who runs the event."""

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Depends, Request, Response
from fastapi.exceptions import HTTPException

from cloud.access.roles import Holder, Role
from cloud.api.context import TheCloud
from cloud.api.problems import ProblemError
from cloud.operations.access_tokens import find_holder
from cloud.operations.refusals import Code, Refusal
from cloud.operations.sign_in_attendee import SESSION_VALID, Attendee, Session, find_attendee

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_SAME_SITE: Final = frozenset({"same-origin", "none"})


def cookie_name(public_url: str) -> str:
    """`__Host-`: over HTTPS the browser itself binds the cookie to this host (RFC 6265bis)."""
    return "__Host-railtix" if public_url.startswith("https://") else "railtix"


def set_session_cookie(response: Response, session: Session, public_url: str) -> None:
    response.set_cookie(
        cookie_name(public_url),
        session.token,
        max_age=int(SESSION_VALID.total_seconds()),
        httponly=True,
        secure=public_url.startswith("https://"),
        samesite="strict",
        path="/",
    )


def session_token(request: Request, public_url: str) -> str:
    """What the request presents, by bearer or by cookie; empty for neither.

    A cookie alone may not change anything from another site's page, whatever the browser's age.
    """
    bearer = _bearer(request)
    if bearer:
        return bearer
    token = request.cookies.get(cookie_name(public_url), "")
    site = request.headers.get("sec-fetch-site", "same-origin")
    if token and request.method not in _SAFE_METHODS and site not in _SAME_SITE:
        raise HTTPException(HTTPStatus.FORBIDDEN, "Another site sent this request.")
    return token


def _attendee(request: Request, cloud: TheCloud) -> Attendee:
    token = session_token(request, cloud.public_url)
    attendee = find_attendee(cloud.database, token, cloud.clock()) if token else None
    if attendee is None:
        raise ProblemError(
            Refusal(
                Code.NOT_SIGNED_IN,
                "Nobody is signed in here.",
                "Open a sign-in link, or send a session's bearer token.",
            )
        )
    return attendee


class Allowed:
    """A route's rule: which roles may ask. Where the path names an event or a stall, there.

    The rule is read from here for the OpenAPI document and for the test of each role against each
    endpoint.
    """

    def __init__(self, *roles: Role) -> None:
        self.roles: Final = frozenset(roles)

    def __call__(self, request: Request, cloud: TheCloud) -> Holder:
        holder = find_holder(cloud.database, _bearer(request), cloud.clock())
        if holder is None:
            raise ProblemError(
                Refusal(
                    Code.NOT_SIGNED_IN,
                    "An access token is needed; this one is missing, unknown, expired or revoked.",
                    "Make one with `railtix-cloud token create NAME` and send it as a bearer "
                    "token.",
                )
            )
        event_id, stall_id = (
            request.path_params.get("event_id"),
            request.path_params.get("stall_id"),
        )
        if not holder.may(self.roles, event_id, stall_id):
            named = " or ".join(sorted(role.value for role in self.roles))
            raise ProblemError(
                Refusal(
                    Code.NOT_ALLOWED,
                    f"This needs the role {named} here; {holder.subject} does not have it.",
                    "Ask an admin for the role.",
                )
            )
        return holder


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


SignedInAttendee = Annotated[Attendee, Depends(_attendee)]
Ops = Annotated[Holder, Depends(Allowed(Role.OPS))]
