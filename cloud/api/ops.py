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
from cloud.operations.fleet.apply_event import apply_event, find_event, list_events
from cloud.operations.fleet.event_document import EventDocument, OfflineDocument
from cloud.operations.fleet.issue_badge import issue_badge
from cloud.operations.fleet.offline_terms import read_offline_terms
from cloud.operations.fleet.register_device import (
    Device,
    Place,
    Within,
    find_device,
    list_devices,
    move_device,
    newest_policy,
    register_device,
    revoke_device,
)
from cloud.operations.fleet.release_device import release_device
from cloud.operations.people.sign_in_attendee import invite
from cloud.operations.refusals import Refusal
from protocol.ids import DeviceId, EventId, StaffId, StallId
from protocol.offline_loss import OfflineLoss
from protocol.policy import TOP_UP_URL_CHARS_MAX, Policy, find, open_policy

router = APIRouter(prefix="/v1/ops", tags=["ops"])


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EventApplied(BaseModel):
    event_id: str
    is_new: bool
    has_changed: bool
    policies: dict[str, int]
    """The new policy version of each appliance that gets one."""


class EventName(BaseModel):
    event_id: str
    name: str
    currency: str


class PlaceBody(_Body):
    event_id: Annotated[Slug, Field(examples=["harbour-festival"])]
    stall_id: Annotated[Slug, Field(examples=["bar-north"])]

    def place(self) -> Place:
        return Place(EventId(self.event_id), StallId(self.stall_id))


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


class BadgeBody(_Body):
    pin: Annotated[str, Field(max_length=16)] | None = None
    """4 to 8 digits; left out: one is drawn and shown once."""


class AttendeeBody(_Body):
    email: Email | None = None


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

    @classmethod
    def of(cls, device: Device) -> "DeviceView":
        return cls.model_validate(device, from_attributes=True)


class OfflineLossView(BaseModel):
    """The most that may be handed over and not paid while the appliances are cut off."""

    appliances: int
    sale_in_cents: int
    wallet_at_one_in_cents: int
    """One wallet at one appliance."""
    wallet_in_cents: int
    """One wallet whose QR is copied to every appliance at once."""
    appliance_in_cents: int
    """One appliance; also what is lost with it when it is stolen."""
    event_in_cents: int

    @classmethod
    def of(cls, loss: OfflineLoss) -> "OfflineLossView":
        return cls.model_validate(loss, from_attributes=True)


class OfflineView(BaseModel):
    event_id: str
    currency: str
    rules: OfflineDocument
    loss: OfflineLossView
    """With the appliances that stand there now."""
    loss_if_allowed: OfflineLossView
    """The same rules, if they were switched on."""


class PolicyView(BaseModel):
    version: int
    issued_at: datetime
    expires_at: datetime
    is_published: bool
    jws: str
    content: dict[str, object]
    """What the signed text says."""


class BadgeView(BaseModel):
    staff_id: str
    event_id: str
    badge_id: str
    badge: str
    """What the badge's QR says (JWS)."""
    pin: str | None
    """Shown this once, where it was drawn here."""


class InvitationView(BaseModel):
    user_id: str
    sign_in_link: str
    """Works once: hand it to the attendee and to nobody else."""
    expires_at: datetime


class PolicyKey(BaseModel):
    kid: str
    spki: str
    """SubjectPublicKeyInfo, DER, base64url: what an appliance checks its policies with."""


@router.put("/events/{event_id}", responses=answers(401, 403, 409, 422))
def put_event(
    event_id: SlugInPath, body: EventDocument, holder: Ops, cloud: TheCloud
) -> EventApplied:
    """Make the event what the document says: stalls, price lists, limits, staff. Applying it
    twice changes nothing; every appliance there gets a new signed policy."""
    applied = apply_event(
        cloud.database,
        cloud.keys,
        EventId(event_id),
        body,
        actor=holder.subject,
        now=cloud.clock(),
        top_up_url=_top_up_url(cloud.public_url),
    )
    if isinstance(applied, Refusal):
        raise ProblemError(applied)
    policies = {str(device_id): version for device_id, version in applied.policies.items()}
    return EventApplied(
        event_id=event_id,
        is_new=applied.is_new,
        has_changed=applied.has_changed,
        policies=policies,
    )


@router.get("/events", responses=answers(401, 403))
def get_events(holder: Ops, cloud: TheCloud) -> list[EventName]:
    """Every event of one's own, by name."""
    within = _events_of(holder)
    return [
        EventName(event_id=event_id, name=document.name, currency=document.currency)
        for event_id, document in list_events(cloud.database)
        if within is None or event_id in within
    ]


@router.get("/events/{event_id}", responses=answers(401, 403, 404))
def get_event(event_id: SlugInPath, _: Ops, cloud: TheCloud) -> EventDocument:
    """The event as the document that would make it so."""
    document = find_event(cloud.database, EventId(event_id))
    if isinstance(document, Refusal):
        raise ProblemError(document)
    return document


@router.get("/events/{event_id}/offline", responses=answers(401, 403, 404))
def get_offline(event_id: SlugInPath, _: Ops, cloud: TheCloud) -> OfflineView:
    """What tills may decide alone, and what that may cost at worst: look before switching it on."""
    terms = read_offline_terms(cloud.database, EventId(event_id))
    if isinstance(terms, Refusal):
        raise ProblemError(terms)
    return OfflineView(
        event_id=terms.event_id,
        currency=terms.currency,
        rules=OfflineDocument.model_validate(msgspec.to_builtins(terms.rules)),
        loss=OfflineLossView.of(terms.loss),
        loss_if_allowed=OfflineLossView.of(terms.loss_if_allowed),
    )


@router.post(
    "/events/{event_id}/staff/{staff_id}/badge",
    status_code=HTTPStatus.CREATED,
    responses=answers(401, 403, 404, 409, 422),
)
def post_badge(
    event_id: SlugInPath, staff_id: SlugInPath, body: BadgeBody, holder: Ops, cloud: TheCloud
) -> BadgeView:
    """A new badge and PIN; the badge they had no longer signs in."""
    badge = issue_badge(
        cloud.database,
        cloud.keys,
        EventId(event_id),
        StaffId(staff_id),
        body.pin,
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
    )


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
        top_up_url=_top_up_url(cloud.public_url),
        within=_events_of(holder),
    )
    return _device(device)


@router.get("/devices", responses=answers(401, 403))
def get_devices(holder: Ops, cloud: TheCloud) -> list[DeviceView]:
    """Every appliance at one's events: where it stands, what it has acknowledged, when it was
    last heard."""
    return [DeviceView.of(each) for each in list_devices(cloud.database, _events_of(holder))]


@router.get("/devices/{device_id}", responses=answers(401, 403, 404))
def get_device(device_id: SlugInPath, holder: Ops, cloud: TheCloud) -> DeviceView:
    """One appliance, as in the list of all."""
    return _device(find_device(cloud.database, DeviceId(device_id), _events_of(holder)))


@router.post("/devices/{device_id}/move", responses=answers(401, 403, 404, 409, 422))
def post_move(device_id: SlugInPath, body: PlaceBody, holder: Ops, cloud: TheCloud) -> DeviceView:
    """Put an appliance at a stall; whoever was signed in there signs in again."""
    device = move_device(
        cloud.database,
        cloud.keys,
        DeviceId(device_id),
        body.place(),
        actor=holder.subject,
        now=cloud.clock(),
        top_up_url=_top_up_url(cloud.public_url),
        within=_events_of(holder),
    )
    return _device(device)


@router.post("/devices/{device_id}/revoke", responses=answers(401, 403, 404, 422))
def post_revoke(
    device_id: SlugInPath, body: RevocationBody, holder: Ops, cloud: TheCloud
) -> DeviceView:
    """From the next transaction on nothing new of this appliance is posted. There is no way
    back. Revoke its certificate too (`railtix-ops ca revoke`), so that the broker refuses it."""
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


def _top_up_url(public_url: str) -> str | None:
    """The attendee's page, where it fits a slip's QR."""
    url = f"{public_url}/"
    return url if len(url) <= TOP_UP_URL_CHARS_MAX else None


def _events_of(holder: Holder) -> Within:
    return holder.events({Role.OPS})


def _device(device: Device | Refusal) -> DeviceView:
    if isinstance(device, Refusal):
        raise ProblemError(device)
    return DeviceView.of(device)
