"""What attendees see and set of themselves: address, letters about sales, open sessions."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Self

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cloud.api.access import SignedInAttendee, cookie_name, session_token
from cloud.api.context import TheCloud
from cloud.api.floods import count_failure
from cloud.api.forms import Body, Email, Totp
from cloud.api.limits import Limited
from cloud.api.problems import ProblemError, answers
from cloud.operations.people.attendee_profile import (
    NewAddress,
    Profile,
    change_profile,
    end_sessions,
    list_sessions,
    read_profile,
)
from cloud.operations.refusals import Code, Refusal

router = APIRouter(prefix="/v1/me", tags=["wallet"])


class MeView(BaseModel):
    email: Annotated[str | None, Field(examples=["ana@example.org"])]
    pos_receipts: bool
    """Whether each sale at a stall is confirmed by e-mail."""

    @classmethod
    def of(cls, profile: Profile) -> "MeView":
        return cls(email=profile.email, pos_receipts=profile.pos_receipts)


class MeChange(Body):
    """What is left out stays. A new address comes with the code that was sent to it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"pos_receipts": True}]})

    pos_receipts: bool | None = None
    email: Email | None = None
    code: Totp | None = None

    @model_validator(mode="after")
    def _together(self) -> Self:
        if (self.email is None) != (self.code is None):
            raise ValueError("email and code come together")
        return self


class AttendeeSession(BaseModel):
    created_at: datetime
    expires_at: datetime
    is_this: bool
    """Whether it is the one that asks."""


@router.get("", responses=answers(401, 429))
def get_me(attendee: SignedInAttendee, cloud: TheCloud) -> MeView:
    """One's own address and wishes."""
    return MeView.of(read_profile(cloud.database, attendee))


@router.patch("", responses=answers(401, 403, 409, 422, 429))
def patch_me(
    body: MeChange, request: Request, attendee: SignedInAttendee, cloud: TheCloud
) -> MeView:
    """Ask for letters about sales, or give another address."""
    address = None
    if body.email is not None and body.code is not None:
        address = NewAddress(body.email, body.code)
    profile = change_profile(
        cloud.database,
        cloud.keys,
        attendee,
        address=address,
        pos_receipts=body.pos_receipts,
        now=cloud.clock(),
    )
    if isinstance(profile, Refusal):
        limited = None
        if profile.code is Code.CODE_NOT_USABLE:
            limited = count_failure(cloud, Limited.SIGN_IN_FAILURES, request)
        raise ProblemError(limited or profile)
    return MeView.of(profile)


@router.get("/sessions", responses=answers(401, 429))
def get_sessions(
    request: Request, attendee: SignedInAttendee, cloud: TheCloud
) -> list[AttendeeSession]:
    """Where one is signed in, the newest first."""
    token = session_token(request, cloud.public_url)
    return [
        AttendeeSession.model_validate(each, from_attributes=True)
        for each in list_sessions(cloud.database, attendee, token, cloud.clock())
    ]


@router.delete("/sessions", status_code=HTTPStatus.NO_CONTENT, responses=answers(401, 403, 429))
def delete_sessions(response: Response, attendee: SignedInAttendee, cloud: TheCloud) -> None:
    """Sign out everywhere, here too: as when a phone was lost."""
    end_sessions(cloud.database, attendee, cloud.clock())
    response.delete_cookie(cookie_name(cloud.public_url), path="/")
