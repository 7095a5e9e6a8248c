"""Running an event: one router for people with the role ops and their programs."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from cloud.access.roles import Holder, Role
from cloud.api.access import Ops, OpsEverywhere
from cloud.api.context import TheCloud
from cloud.api.forms import Email, Slug, SlugInPath
from cloud.api.problems import ProblemError, answers
from cloud.operations.fleet.read_devices import Device, Trouble
from cloud.operations.fleet.read_unsynced import Force
from cloud.operations.fleet.register_device import (
    Place,
    Within,
    find_device,
    move_device,
    newest_policy,
    register_device,
    revoke_device,
)
from cloud.operations.fleet.release_device import release_device
from cloud.operations.people.sign_in_attendee import invite
from cloud.operations.refusals import Refusal
from protocol.ids import DeviceId, EventId, StallId
from protocol.policy import Policy, find, open_policy

router = APIRouter(prefix="/v1/ops", tags=["ops"])


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PlaceBody(_Body):
    event_id: Annotated[Slug, Field(examples=["harbour-festival"])]
    stall_id: Annotated[Slug, Field(examples=["bar-north"])]

    def place(self) -> Place:
        return Place(EventId(self.event_id), StallId(self.stall_id))


class MoveBody(PlaceBody):
    force_reason: Annotated[
        str | None, Field(min_length=1, max_length=200, examples=["its network is gone for good"])
    ] = None
    """To another event also while it may hold sales of the old one that are not known here."""

    def force(self) -> Force | None:
        return None if self.force_reason is None else Force(self.force_reason)


class DeviceBody(_Body):
    device_id: Annotated[Slug, Field(examples=["bar-north-1"])]
    certificate_pem: Annotated[str, Field(max_length=65536)]
    """Its certificate, whose common name is its id; what follows it in the file is ignored."""
    place: PlaceBody | None = None


class RevocationBody(_Body):
    reason: Annotated[str, Field(min_length=1, max_length=200, examples=["lost at the gate"])]


class ReleaseBody(_Body):
    reason: Annotated[
        str, Field(min_length=1, max_length=200, examples=["its card was swapped by us"])
    ]


class AttendeeBody(_Body):
    email: Email | None = None


class DeviceUpdateView(BaseModel):
    version: str
    state: Annotated[str, Field(examples=["fetching", "confirmed", "rolled_back"])]
    percent: int
    """Of what is fetched or written."""
    why: str
    since: datetime


class DeviceView(BaseModel):
    device_id: str
    status: Annotated[str, Field(examples=["active", "quarantined", "revoked", "decommissioned"])]
    event_id: str | None
    stall_id: str | None
    policy_version: int
    policy_acked: int
    """The newest that the appliance has acknowledged."""
    queue: int | None
    firmware: str | None
    printer: str | None
    last_seen_at: datetime | None
    revoked_at: datetime | None
    quarantined_at: datetime | None
    quarantine_cause: Annotated[str | None, Field(examples=[None, "journal_forked"])]
    """What it said of its journal that no honest appliance can say."""
    retired_reason: str | None
    replaced_by: str | None
    online: bool | None
    """By the broker's word or a heartbeat just now; null: nobody knows."""
    online_at: datetime | None
    """Since when it is connected, or is not, as the broker said."""
    last_sale_at: datetime | None
    queue_in_cents: int | None
    """What of the queue was sold offline."""
    currency: str | None
    """Of its event."""
    temperature_c: int | None
    clock: Annotated[str | None, Field(examples=["cloud", "network", "unset"])]
    """Who it has its time from."""
    uptime_s: int | None
    channel: Annotated[str, Field(examples=["stable", "beta"])]
    """Whose releases it is to have."""
    image: str | None
    """The version it runs; null: its system is none of ours."""
    slot: str | None
    announced_version: str | None
    """What its newest policy says it is to run."""
    update: DeviceUpdateView | None
    """How far it came with the newest version it took up."""
    certificate_expires_at: datetime | None
    """Of the certificate it uses."""
    problems: list[Trouble]
    """What somebody should see to, the gravest first."""

    @classmethod
    def of(cls, device: Device) -> "DeviceView":
        return cls.model_validate(device, from_attributes=True)


class PolicyView(BaseModel):
    version: int
    issued_at: datetime
    expires_at: datetime
    is_published: bool
    jws: str
    content: dict[str, object]
    """What the signed text says."""


class InvitationView(BaseModel):
    user_id: str
    sign_in_link: str
    """Works once: hand it to the attendee and to nobody else."""
    expires_at: datetime


class PolicyKey(BaseModel):
    kid: str
    spki: str
    """SubjectPublicKeyInfo, DER, base64url: what an appliance checks its policies with."""


@router.post("/devices", status_code=HTTPStatus.CREATED, responses=answers(401, 403, 404, 409, 422))
def post_device(body: DeviceBody, holder: Ops, cloud: TheCloud) -> DeviceView:
    """Enter an appliance and its certificate; a known one gets the certificate besides."""
    device = register_device(
        cloud.database,
        cloud.keys,
        DeviceId(body.device_id),
        body.certificate_pem.encode(),
        None if body.place is None else body.place.place(),
        actor=holder.subject,
        now=cloud.clock(),
        top_up_url=cloud.top_up_url,
        within=_events_of(holder),
    )
    return _device(device)


@router.get("/devices/{device_id}", responses=answers(401, 403, 404))
def get_device(device_id: SlugInPath, holder: Ops, cloud: TheCloud) -> DeviceView:
    """One appliance, as in the list of all."""
    device = find_device(cloud.database, DeviceId(device_id), cloud.clock(), _events_of(holder))
    return _device(device)


@router.post("/devices/{device_id}/move", responses=answers(401, 403, 404, 409, 422))
def post_move(device_id: SlugInPath, body: MoveBody, holder: Ops, cloud: TheCloud) -> DeviceView:
    """Put an appliance at a stall; whoever was signed in there signs in again. To another event
    once nothing of the old one is left in it, or forced."""
    device = move_device(
        cloud.database,
        cloud.keys,
        DeviceId(device_id),
        body.place(),
        actor=holder.subject,
        now=cloud.clock(),
        top_up_url=cloud.top_up_url,
        within=_events_of(holder),
        force=body.force(),
    )
    return _device(device)


@router.post("/devices/{device_id}/revoke", responses=answers(401, 403, 404, 422))
def post_revoke(
    device_id: SlugInPath, body: RevocationBody, holder: Ops, cloud: TheCloud
) -> DeviceView:
    """From the next transaction on nothing new of this appliance is posted. There is no way
    back. `GET .../leaving` says when its session at the broker has ended."""
    device = revoke_device(
        cloud.database,
        DeviceId(device_id),
        body.reason,
        actor=holder.subject,
        now=cloud.clock(),
        within=_events_of(holder),
    )
    return _device(device)


@router.post("/devices/{device_id}/release", responses=answers(401, 403, 404, 409, 422))
def post_release(
    device_id: SlugInPath, body: ReleaseBody, holder: Ops, cloud: TheCloud
) -> DeviceView:
    """Believe a quarantined appliance again, from where its journal stands now. What it sent
    meanwhile stays on the review list."""
    device = release_device(
        cloud.database,
        DeviceId(device_id),
        body.reason,
        actor=holder.subject,
        now=cloud.clock(),
        within=_events_of(holder),
    )
    return _device(device)


@router.get("/devices/{device_id}/policy", responses=answers(401, 403, 404))
def get_policy(device_id: SlugInPath, holder: Ops, cloud: TheCloud) -> PolicyView:
    """The newest signed policy of an appliance, and what it says."""
    signed = newest_policy(cloud.database, DeviceId(device_id), _events_of(holder))
    if isinstance(signed, Refusal):
        raise ProblemError(signed)
    keys = find((cloud.keys.policy.named,))
    policy = open_policy(signed.jws.encode(), keys, DeviceId(device_id), 0)
    return PolicyView(
        version=signed.version,
        issued_at=signed.issued_at,
        expires_at=signed.expires_at,
        is_published=signed.is_published,
        jws=signed.jws,
        content=msgspec.to_builtins(policy) if isinstance(policy, Policy) else {},
    )


@router.get("/policy-key", responses=answers(401, 403))
def get_policy_key(_: Ops, cloud: TheCloud) -> PolicyKey:
    """The public key that appliances check their policies with: part of enrolling one."""
    named = cloud.keys.policy.named
    return PolicyKey(kid=named.kid, spki=named.spki)


@router.post("/attendees", status_code=HTTPStatus.CREATED, responses=answers(401, 403, 422))
def post_attendee(body: AttendeeBody, holder: OpsEverywhere, cloud: TheCloud) -> InvitationView:
    """A sign-in link for an attendee, who is entered first where the address is new.

    Whoever makes one could use it: so it takes the role for every event.
    """
    invitation = invite(cloud.database, body.email, actor=holder.subject, now=cloud.clock())
    return InvitationView(
        user_id=invitation.user_id,
        sign_in_link=f"{cloud.public_url}/#sign-in={invitation.link_token}",
        expires_at=invitation.expires_at,
    )


def _events_of(holder: Holder) -> Within:
    return holder.events({Role.OPS})


def _device(device: Device | Refusal) -> DeviceView:
    if isinstance(device, Refusal):
        raise ProblemError(device)
    return DeviceView.of(device)
