"""An appliance leaves: taken out of service, replaced, and how far that has come."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from cloud.access.roles import Role
from cloud.api.access import Ops
from cloud.api.claims import ClaimView, MadeClaimView
from cloud.api.context import TheCloud
from cloud.api.forms import SlugInPath
from cloud.api.ops import DeviceView
from cloud.api.problems import ProblemError, answers
from cloud.operations.enrolment.enrol_gate import CLOSED
from cloud.operations.fleet.decommission_device import decommission_device
from cloud.operations.fleet.read_leaving import LeavingSoFar, read_leaving
from cloud.operations.fleet.read_unsynced import Force
from cloud.operations.fleet.replace_device import replace_device
from cloud.operations.refusals import Refusal
from protocol.ids import DeviceId

router = APIRouter(prefix="/v1/ops/devices/{device_id}", tags=["ops"])

Reason = Annotated[str, Field(min_length=1, max_length=200, examples=["its screen is broken"])]


class DecommissionBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    force_reason: Reason | None = None
    """Also while it may hold sales that are not known here: they come onto the review list."""


class ReplacementBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    serial: Annotated[
        str | None, Field(min_length=1, max_length=64, pattern=r"^[!-~]+$", examples=["10000000a1"])
    ] = None
    """Only the appliance with this serial number may take its place."""
    force_reason: Reason | None = None
    """Also while the old one may hold sales that are not known here."""
    lost_reason: Reason | None = None
    """The old one is lost: it is revoked at once."""


class ReviewedView(BaseModel):
    review_id: str
    reason: Annotated[str, Field(examples=["device_revoked"])]
    amount_in_cents: int | None
    currency: str | None
    created_at: datetime


class LeavingView(BaseModel):
    device_id: str
    status: Annotated[str, Field(examples=["active", "revoked", "decommissioned"])]
    left_at: datetime | None
    """Since when nothing new of it is posted; null: it is in service."""
    reason: str | None
    replaced_by: str | None
    reviews: list[ReviewedView]
    """What of it a person still has to judge, the oldest first; at most 100."""
    crl_has_it: bool
    """The revocation list has every certificate of its own, and was handed to the broker."""
    session_ended_at: datetime | None
    """When its session at the broker was ended; null: not yet."""
    session_ended_again_at: datetime | None
    """When that was made sure of, once the broker refused it."""

    @classmethod
    def of(cls, leaving: LeavingSoFar) -> "LeavingView":
        return cls.model_validate(leaving, from_attributes=True)


@router.get("/leaving", responses=answers(401, 403, 404))
def get_leaving(device_id: SlugInPath, holder: Ops, cloud: TheCloud) -> LeavingView:
    """How far an appliance's leaving has come: in the ledger at once, at the broker soon after."""
    found = read_leaving(cloud.database, DeviceId(device_id), holder.events({Role.OPS}))
    if isinstance(found, Refusal):
        raise ProblemError(found)
    return LeavingView.of(found)


@router.post("/decommission", responses=answers(401, 403, 404, 409, 422))
def post_decommission(
    device_id: SlugInPath, body: DecommissionBody, holder: Ops, cloud: TheCloud
) -> DeviceView:
    """Take an appliance out of service. There is no way back; while it may hold sales that are
    not known here it is refused, or forced."""
    device = decommission_device(
        cloud.database,
        DeviceId(device_id),
        _force(body.force_reason),
        actor=holder.subject,
        now=cloud.clock(),
        within=holder.events({Role.OPS}),
    )
    if isinstance(device, Refusal):
        raise ProblemError(device)
    return DeviceView.of(device)


@router.post(
    "/replace",
    status_code=HTTPStatus.CREATED,
    responses=answers(401, 403, 404, 409, 422, 503),
)
def post_replacement(
    device_id: SlugInPath, body: ReplacementBody, holder: Ops, cloud: TheCloud
) -> MadeClaimView:
    """A claim for another appliance at the same stall. The old one sells on until that one has
    enrolled, and is decommissioned then; a lost one is revoked now."""
    if cloud.gate is None or cloud.gate.authority is None:
        raise ProblemError(CLOSED)
    made = replace_device(
        cloud.database,
        DeviceId(device_id),
        actor=holder.subject,
        now=cloud.clock(),
        within=holder.events({Role.OPS}),
        serial=body.serial,
        force=_force(body.force_reason),
        lost=_force(body.lost_reason),
    )
    if isinstance(made, Refusal):
        raise ProblemError(made)
    view = ClaimView.of(made.claim)
    return MadeClaimView(**view.model_dump(), qr_text=cloud.gate.qr_text(made))


def _force(reason: str | None) -> Force | None:
    return None if reason is None else Force(reason)
