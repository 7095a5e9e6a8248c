"""Staff and their badges, for people with the role ops and their programs."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Self

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cloud.api.access import Ops
from cloud.api.context import TheCloud
from cloud.api.forms import Reason, Slug, SlugInPath
from cloud.api.problems import ProblemError, answers
from cloud.operations.refusals import Refusal
from cloud.operations.staff.change_pin import change_pin
from cloud.operations.staff.issue_badge import issue_badge
from cloud.operations.staff.print_badges import badge_of, choose_until_of, print_badges
from cloud.operations.staff.read_staff import StaffMember, list_staff
from cloud.operations.staff.revoke_staff import revoke_staff
from protocol.ids import EventId, StaffId

router = APIRouter(prefix="/v1/ops/events/{event_id}", tags=["ops"])

STAFF_MAX = 5000


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PinBody(_Body):
    """Left empty: whoever holds the badge chooses a PIN at the next sign-in."""

    pin: Annotated[str, Field(max_length=16)] | None = None
    """4 to 8 digits."""
    draw_pin: bool = False
    """Draw one, and show it this once."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.draw_pin and self.pin is not None:
            raise ValueError("a PIN is given or drawn, not both")
        return self


class SheetBody(_Body):
    staff: Annotated[list[Slug], Field(min_length=1, max_length=STAFF_MAX)] | None = None
    """Left out: everybody who works at the event."""
    anew: bool = False
    """New badges for all of them, also for whoever has one; those no longer sign in."""


class StaffRevocationBody(_Body):
    reason: Annotated[Reason, Field(examples=["badge lost at the gate"])]


class BadgeView(BaseModel):
    staff_id: str
    event_id: str
    badge_id: str
    badge: str
    """What the badge's QR says (JWS)."""
    pin: str | None
    """Shown this once, where it was drawn here."""
    choose_until: datetime | None
    """Until then its holder chooses a PIN with it; none: it has one."""


class PinView(BaseModel):
    staff_id: str
    event_id: str
    badge_id: str
    pin: str | None
    """Shown this once, where it was drawn here."""
    choose_until: datetime | None


class StaffBadgeView(BaseModel):
    badge_id: str
    created_at: datetime
    has_pin: bool
    choose_until: datetime | None
    is_good: bool
    """It signs in, or its holder may still choose a PIN with it."""


class StaffView(BaseModel):
    staff_id: str
    name: str
    initials: str
    is_supervisor: bool
    stalls: list[str] | None
    """None: every stall of the event."""
    badge: StaffBadgeView | None
    signed_in_at: list[str]
    """Appliances."""

    @classmethod
    def of(cls, member: StaffMember) -> "StaffView":
        return cls.model_validate(member, from_attributes=True)


class SheetBadge(BaseModel):
    staff_id: str
    name: str
    initials: str
    is_supervisor: bool
    badge_id: str
    badge: str
    """What the badge's QR says (JWS)."""
    choose_until: datetime | None
    """Until then its holder chooses a PIN with it; none: it has one."""


class SheetView(BaseModel):
    event_id: str
    event_name: str
    badges: list[SheetBadge]


class StaffRevokedView(BaseModel):
    staff_id: str
    event_id: str
    badges: int
    """How many counted until now."""
    signed_out_at: list[str]
    """The appliances where they were signed in."""


@router.get("/staff", responses=answers(401, 403, 404))
def get_staff(event_id: SlugInPath, _: Ops, cloud: TheCloud) -> list[StaffView]:
    """Who works at the event, with which badge, and where they are signed in now."""
    members = list_staff(cloud.database, EventId(event_id), cloud.clock())
    if isinstance(members, Refusal):
        raise ProblemError(members)
    return [StaffView.of(each) for each in members]


@router.post(
    "/staff/{staff_id}/badge",
    status_code=HTTPStatus.CREATED,
    responses=answers(401, 403, 404, 409, 422),
)
def post_badge(
    event_id: SlugInPath, staff_id: SlugInPath, body: PinBody, holder: Ops, cloud: TheCloud
) -> BadgeView:
    """A new badge; the one they had no longer signs in. Its holder chooses the PIN at the first
    sign-in, unless it is given or drawn here."""
    badge = issue_badge(
        cloud.database,
        cloud.keys,
        EventId(event_id),
        StaffId(staff_id),
        body.pin,
        draw=body.draw_pin,
        actor=holder.subject,
        now=cloud.clock(),
    )
    if isinstance(badge, Refusal):
        raise ProblemError(badge)
    return BadgeView(
        staff_id=staff_id,
        event_id=event_id,
        badge_id=badge.badge_id,
        badge=badge.jws,
        pin=badge.pin,
        choose_until=badge.choose_until,
    )


@router.post("/badges", responses=answers(401, 403, 404, 409, 422))
def post_badges(event_id: SlugInPath, body: SheetBody, holder: Ops, cloud: TheCloud) -> SheetView:
    """Badges to print. Whoever has one that counts keeps it; the others get one without a PIN."""
    sheet = print_badges(
        cloud.database,
        cloud.keys,
        EventId(event_id),
        None if body.staff is None else [StaffId(each) for each in body.staff],
        anew=body.anew,
        actor=holder.subject,
        now=cloud.clock(),
    )
    if isinstance(sheet, Refusal):
        raise ProblemError(sheet)
    return SheetView(
        event_id=event_id,
        event_name=sheet.event_name,
        badges=[
            SheetBadge(
                staff_id=each.member.staff_id,
                name=each.member.name,
                initials=each.member.initials,
                is_supervisor=each.member.is_supervisor,
                badge_id=badge_of(each.member),
                badge=each.jws,
                choose_until=choose_until_of(each.member),
            )
            for each in sheet.badges
        ],
    )


@router.post("/staff/{staff_id}/pin", responses=answers(401, 403, 404, 422))
def post_pin(
    event_id: SlugInPath, staff_id: SlugInPath, body: PinBody, holder: Ops, cloud: TheCloud
) -> PinView:
    """Forget their PIN: for a day they choose another at the next sign-in; or set one, or draw
    one."""
    changed = change_pin(
        cloud.database,
        EventId(event_id),
        StaffId(staff_id),
        body.pin,
        draw=body.draw_pin,
        actor=holder.subject,
        now=cloud.clock(),
    )
    if isinstance(changed, Refusal):
        raise ProblemError(changed)
    return PinView.model_validate(changed, from_attributes=True)


@router.post("/staff/{staff_id}/revoke", responses=answers(401, 403, 404, 422))
def post_revoke_staff(
    event_id: SlugInPath,
    staff_id: SlugInPath,
    body: StaffRevocationBody,
    holder: Ops,
    cloud: TheCloud,
) -> StaffRevokedView:
    """Their badge is dead and they are signed out everywhere at the event, from the next
    transaction on. A new badge lets them in again; to keep them out, take them out of the
    event's document too."""
    revoked = revoke_staff(
        cloud.database,
        EventId(event_id),
        StaffId(staff_id),
        body.reason,
        actor=holder.subject,
        now=cloud.clock(),
    )
    if isinstance(revoked, Refusal):
        raise ProblemError(revoked)
    return StaffRevokedView.model_validate(revoked, from_attributes=True)
