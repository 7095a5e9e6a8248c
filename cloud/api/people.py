"""Who may use the console, and as what: for admins of every event."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from cloud.access.roles import Grant, Role
from cloud.api.access import AdminEverywhere
from cloud.api.context import TheCloud
from cloud.api.forms import Body, Email, Slug, SlugInPath
from cloud.api.problems import ProblemError, answers
from cloud.operations.people.console_people import (
    HeldGrant,
    add_person,
    disable_person,
    end_sessions,
    grant_role,
    list_people,
    renew_invitation,
    revoke_grant,
)
from cloud.operations.refusals import Refusal
from protocol.ids import EventId, StallId

router = APIRouter(prefix="/v1/console/people", tags=["people"])


class GrantBody(Body):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"role": "finance", "event_id": "harbour-festival"}]}
    )

    role: Role
    event_id: Slug | None = None
    """Left out: every event."""
    stall_id: Slug | None = None
    """For a stall owner, and nobody else."""

    def grant(self) -> Grant:
        return Grant(
            self.role,
            None if self.event_id is None else EventId(self.event_id),
            None if self.stall_id is None else StallId(self.stall_id),
        )


class PersonBody(Body):
    user_name: Annotated[Slug, Field(examples=["bo"])]
    email: Email
    grants: Annotated[tuple[GrantBody, ...], Field(max_length=50)] = ()


class GrantHeld(BaseModel):
    grant_id: UUID
    role: Annotated[str, Field(examples=["finance"])]
    event_id: str | None
    stall_id: str | None
    granted_by: Annotated[str, Field(examples=["console:ana"])]
    created_at: datetime

    @classmethod
    def of(cls, held: HeldGrant) -> "GrantHeld":
        return cls(
            grant_id=held.grant_id,
            role=held.grant.role.value,
            event_id=held.grant.event_id,
            stall_id=held.grant.stall_id,
            granted_by=held.granted_by,
            created_at=held.created_at,
        )


class PersonView(BaseModel):
    user_name: str
    email: str
    is_enrolled: bool
    """Whether they took their invitation."""
    disabled_at: datetime | None
    sessions: int
    """How many are open."""
    grants: list[GrantHeld]


class Invited(BaseModel):
    """The link itself goes by letter to that person alone: an admin must not become them."""

    user_name: str
    expires_at: datetime


class SessionsEnded(BaseModel):
    sessions: int


@router.get("", responses=answers(401, 403, 429))
def get_people(_: AdminEverywhere, cloud: TheCloud) -> list[PersonView]:
    """Everybody at the console, by name."""
    return [
        PersonView(
            user_name=each.user_name,
            email=each.email,
            is_enrolled=each.is_enrolled,
            disabled_at=each.disabled_at,
            sessions=each.sessions,
            grants=[GrantHeld.of(held) for held in each.grants],
        )
        for each in list_people(cloud.database, cloud.clock())
    ]


@router.post("", status_code=HTTPStatus.CREATED, responses=answers(401, 403, 404, 409, 422, 429))
def post_person(body: PersonBody, holder: AdminEverywhere, cloud: TheCloud) -> Invited:
    """Enter somebody with what they may do; their invitation goes by e-mail."""
    invitation = add_person(
        cloud.database,
        body.user_name,
        body.email,
        [each.grant() for each in body.grants],
        cloud.public_url,
        actor=holder.subject,
        now=cloud.clock(),
    )
    if isinstance(invitation, Refusal):
        raise ProblemError(invitation)
    return Invited(user_name=invitation.user_name, expires_at=invitation.expires_at)


@router.post(
    "/{user_name}/invitation",
    status_code=HTTPStatus.CREATED,
    responses=answers(401, 403, 404, 409, 422, 429),
)
def post_invitation(user_name: SlugInPath, holder: AdminEverywhere, cloud: TheCloud) -> Invited:
    """A new invitation by e-mail, for whoever lost a password or a second factor. What they had
    stands until they take it."""
    invitation = renew_invitation(
        cloud.database,
        user_name,
        cloud.public_url,
        actor=holder.subject,
        now=cloud.clock(),
    )
    if isinstance(invitation, Refusal):
        raise ProblemError(invitation)
    return Invited(user_name=invitation.user_name, expires_at=invitation.expires_at)


@router.post(
    "/{user_name}/grants",
    status_code=HTTPStatus.CREATED,
    responses=answers(401, 403, 404, 422, 429),
)
def post_grant(
    user_name: SlugInPath, body: GrantBody, holder: AdminEverywhere, cloud: TheCloud
) -> GrantHeld:
    """Let somebody do something, from their next request on; nobody does so for themselves."""
    held = grant_role(
        cloud.database, user_name, body.grant(), actor=holder.subject, now=cloud.clock()
    )
    if isinstance(held, Refusal):
        raise ProblemError(held)
    return GrantHeld.of(held)


@router.delete(
    "/{user_name}/grants/{grant_id}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=answers(401, 403, 404, 409, 422, 429),
)
def delete_grant(
    user_name: SlugInPath, grant_id: UUID, holder: AdminEverywhere, cloud: TheCloud
) -> None:
    """From their next request on they may not."""
    refusal = revoke_grant(
        cloud.database, user_name, grant_id, actor=holder.subject, now=cloud.clock()
    )
    if refusal is not None:
        raise ProblemError(refusal)


@router.delete("/{user_name}/sessions", responses=answers(401, 403, 404, 422, 429))
def delete_sessions(
    user_name: SlugInPath, holder: AdminEverywhere, cloud: TheCloud
) -> SessionsEnded:
    """Sign somebody out everywhere."""
    ended = end_sessions(cloud.database, user_name, actor=holder.subject, now=cloud.clock())
    if isinstance(ended, Refusal):
        raise ProblemError(ended)
    return SessionsEnded(sessions=ended)


@router.post(
    "/{user_name}/disable",
    status_code=HTTPStatus.NO_CONTENT,
    responses=answers(401, 403, 404, 409, 422, 429),
)
def post_disable(user_name: SlugInPath, holder: AdminEverywhere, cloud: TheCloud) -> None:
    """Ends everything of theirs at once, for good: sessions, invitations, signing in."""
    refusal = disable_person(cloud.database, user_name, actor=holder.subject, now=cloud.clock())
    if refusal is not None:
        raise ProblemError(refusal)
