"""Claims: what ops show an appliance so that it enrols at a stall of theirs."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from cloud.access.roles import Role
from cloud.api.access import Ops
from cloud.api.context import TheCloud
from cloud.api.forms import Slug
from cloud.api.problems import ProblemError, answers
from cloud.operations.enrolment.claims import (
    Claim,
    Wanted,
    find_claim,
    list_claims,
    make_claim,
    withdraw_claim,
)
from cloud.operations.enrolment.enrol_gate import CLOSED
from cloud.operations.fleet.register_device import Place
from cloud.operations.refusals import Refusal
from protocol.ids import DeviceId, EventId, StallId

router = APIRouter(prefix="/v1/ops/claims", tags=["ops"])

ClaimId = Annotated[str, Path(pattern=r"^[A-Z2-7]{10}$", examples=["K7QXM2D4TA"])]


class ClaimBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    event_id: Annotated[Slug, Field(examples=["harbour-festival"])]
    stall_id: Annotated[Slug, Field(examples=["bar-north"])]
    device_id: Annotated[Slug | None, Field(examples=["bar-north-1"])] = None
    """The name it gets, or that it had; left out: the stall's lowest free one."""
    serial: Annotated[
        str | None, Field(min_length=1, max_length=64, pattern=r"^[!-~]+$", examples=["10000000a1"])
    ] = None
    """Only the appliance with this serial number may use it."""
    replaces: Annotated[Slug | None, Field(examples=["bar-north-2"])] = None
    """This appliance is decommissioned once the new one has enrolled."""


class ClaimView(BaseModel):
    claim_id: str
    device_id: Annotated[str, Field(examples=["bar-north-1"])]
    event_id: str
    stall_id: str
    serial: str | None
    replaces: str | None
    created_at: datetime
    created_by: str
    expires_at: datetime
    state: Annotated[str, Field(examples=["open", "used", "expired", "locked", "withdrawn"])]
    tries: int
    """Wrong secrets so far."""
    used_at: datetime | None

    @classmethod
    def of(cls, claim: Claim) -> "ClaimView":
        return cls.model_validate(claim, from_attributes=True)


class MadeClaimView(ClaimView):
    qr_text: Annotated[str, Field(examples=["RAILTIX1:CREDITS.EXAMPLE.ORG/8443/..."])]
    """What its QR says. It holds the secret, which is told this once."""


@router.post("", status_code=HTTPStatus.CREATED, responses=answers(401, 403, 404, 409, 422, 503))
def post_claim(body: ClaimBody, holder: Ops, cloud: TheCloud) -> MadeClaimView:
    """A claim for one appliance, good for 15 minutes; an open one for the same name ends."""
    if cloud.gate is None or cloud.gate.authority is None:
        raise ProblemError(CLOSED)
    wanted = Wanted(
        Place(EventId(body.event_id), StallId(body.stall_id)),
        None if body.device_id is None else DeviceId(body.device_id),
        body.serial,
        None if body.replaces is None else DeviceId(body.replaces),
    )
    made = make_claim(
        cloud.database,
        wanted,
        actor=holder.subject,
        now=cloud.clock(),
        within=holder.events({Role.OPS}),
    )
    if isinstance(made, Refusal):
        raise ProblemError(made)
    view = ClaimView.of(made.claim)
    return MadeClaimView(**view.model_dump(), qr_text=cloud.gate.qr_text(made))


@router.get("", responses=answers(401, 403))
def get_claims(holder: Ops, cloud: TheCloud) -> list[ClaimView]:
    """The open ones and those of the last day, the newest first."""
    within = holder.events({Role.OPS})
    return [ClaimView.of(each) for each in list_claims(cloud.database, cloud.clock(), within)]


@router.get("/{claim_id}", responses=answers(401, 403, 404, 422))
def get_claim(claim_id: ClaimId, holder: Ops, cloud: TheCloud) -> ClaimView:
    """One claim: whether it is still open, and how it ended."""
    found = find_claim(cloud.database, claim_id, cloud.clock(), holder.events({Role.OPS}))
    return _claim(found)


@router.post("/{claim_id}/withdraw", responses=answers(401, 403, 404, 422))
def post_withdrawal(claim_id: ClaimId, holder: Ops, cloud: TheCloud) -> ClaimView:
    """Nobody enrols with this claim any more."""
    withdrawn = withdraw_claim(
        cloud.database,
        claim_id,
        actor=holder.subject,
        now=cloud.clock(),
        within=holder.events({Role.OPS}),
    )
    return _claim(withdrawn)


def _claim(claim: Claim | Refusal) -> ClaimView:
    if isinstance(claim, Refusal):
        raise ProblemError(claim)
    return ClaimView.of(claim)
