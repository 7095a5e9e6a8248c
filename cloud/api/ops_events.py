"""An event's document over HTTP: applied whole, its versions, and who runs which policy."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Path, Query, Response
from pydantic import BaseModel, Field

from cloud.access.roles import Role
from cloud.api.access import Ops
from cloud.api.context import TheCloud
from cloud.api.etags import ETAGGED, IfMatch, IfNoneMatch, answer_once, is_met
from cloud.api.forms import Body, Limit, Reason, SlugInPath
from cloud.api.problems import ProblemError, answers
from cloud.operations.event.apply_event import Applied, Expected, apply_event
from cloud.operations.event.event_document import EventDocument, OfflineDocument
from cloud.operations.event.event_policies import (
    IssuedPolicy,
    Standing,
    list_policies,
    read_standings,
)
from cloud.operations.event.event_versions import find_version, list_versions, roll_back
from cloud.operations.event.keep_version import Edit, Version
from cloud.operations.event.offline_terms import read_offline_terms
from cloud.operations.event.read_event import find_event, list_events
from cloud.operations.refusals import Refusal
from protocol.ids import DeviceId, EventId
from protocol.offline_loss import OfflineLoss

router = APIRouter(prefix="/v1/ops", tags=["ops"])

VersionInPath = Annotated[int, Path(ge=1, le=2**31 - 1)]


class EventApplied(BaseModel):
    event_id: str
    version: int
    """The event's newest."""
    is_new: bool
    has_changed: bool
    policies: dict[str, int]
    """The new policy version of each appliance that gets one."""

    @classmethod
    def of(cls, applied: Applied | Refusal) -> "EventApplied":
        if isinstance(applied, Refusal):
            raise ProblemError(applied)
        return cls(
            event_id=applied.event_id,
            version=applied.version,
            is_new=applied.is_new,
            has_changed=applied.has_changed,
            policies={str(device_id): version for device_id, version in applied.policies.items()},
        )


class EventName(BaseModel):
    event_id: str
    name: str
    currency: str


class VersionView(BaseModel):
    version: int
    applied_at: datetime
    applied_by: Annotated[str | None, Field(examples=["console:ana"])]
    """None: before versions were kept, or past the event's document."""
    rolled_back_to: int | None
    """The version whose content it is again; None: an edit."""
    reason: str | None

    @classmethod
    def of(cls, version: Version) -> "VersionView":
        return cls.model_validate(version, from_attributes=True)


class VersionDocumentView(VersionView):
    document: dict[str, Any]
    """As it was applied; a later release may no longer take it."""


class RollbackBody(Body):
    version: Annotated[int, Field(ge=1, le=2**31 - 1, examples=[4])]
    reason: Reason


class StandingView(BaseModel):
    device_id: str
    stall_id: str
    version: int
    """Of its newest policy."""
    event_version: int | None
    """Which of the event's versions that was made from."""
    issued_at: datetime
    expires_at: datetime
    is_published: bool
    acked_version: int
    """Of the newest policy that it has acknowledged; 0: none yet."""
    acked_event_version: int | None
    acked_at: datetime | None
    is_behind: bool
    last_seen_at: datetime | None

    @classmethod
    def of(cls, standing: Standing) -> "StandingView":
        return cls.model_validate(standing, from_attributes=True)


class IssuedPolicyView(BaseModel):
    version: int
    event_version: int | None
    issued_at: datetime
    expires_at: datetime
    published_at: datetime | None
    is_acked: bool
    """By this version or a newer one."""

    @classmethod
    def of(cls, policy: IssuedPolicy) -> "IssuedPolicyView":
        return cls.model_validate(policy, from_attributes=True)


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


@router.put("/events/{event_id}", responses=answers(401, 403, 409, 412, 422))
def put_event(
    event_id: SlugInPath,
    body: EventDocument,
    holder: Ops,
    cloud: TheCloud,
    *,
    if_match: IfMatch = None,
    if_none_match: Annotated[
        str | None,
        Header(
            alias="If-None-Match",
            max_length=200,
            description="`*`: only where the event is not there yet.",
        ),
    ] = None,
) -> EventApplied:
    """Make the event what the document says: stalls, price lists, limits, staff. Applying it
    twice changes nothing; every appliance there gets a new signed policy. With `If-Match` only
    where it still is what was read."""
    return EventApplied.of(
        apply_event(
            cloud.database,
            cloud.keys,
            EventId(event_id),
            body,
            Edit(holder.subject, cloud.clock(), within=holder.events({Role.OPS})),
            top_up_url=cloud.top_up_url,
            is_expected=_expected(if_match, if_none_match),
        )
    )


@router.get("/events", responses=answers(401, 403))
def get_events(holder: Ops, cloud: TheCloud) -> list[EventName]:
    """Every event of one's own, by name."""
    within = holder.events({Role.OPS})
    return [
        EventName(event_id=event_id, name=document.name, currency=document.currency)
        for event_id, document in list_events(cloud.database)
        if within is None or event_id in within
    ]


@router.get(
    "/events/{event_id}",
    response_model=EventDocument,
    responses={**ETAGGED, **answers(401, 403, 404)},
)
def get_event(
    event_id: SlugInPath, _: Ops, cloud: TheCloud, if_none_match: IfNoneMatch = None
) -> Response:
    """The event as the document that would make it so. Send its `ETag` as `If-Match` with what
    you make of it."""
    document = find_event(cloud.database, EventId(event_id))
    if isinstance(document, Refusal):
        raise ProblemError(document)
    return answer_once(document, if_none_match, "private, no-cache")


@router.get("/events/{event_id}/versions", responses=answers(401, 403, 404))
def get_versions(
    event_id: SlugInPath,
    _: Ops,
    cloud: TheCloud,
    limit: Limit = 50,
    before: Annotated[
        int | None, Query(ge=1, le=2**31 - 1, description="Only versions older than this.")
    ] = None,
) -> list[VersionView]:
    """Every document that was applied, the newest first: when, by whom, and whether it was a
    roll-back."""
    versions = list_versions(cloud.database, EventId(event_id), limit=limit, before=before)
    if isinstance(versions, Refusal):
        raise ProblemError(versions)
    return [VersionView.of(version) for version in versions]


@router.get("/events/{event_id}/versions/{version}", responses=answers(401, 403, 404))
def get_version(
    event_id: SlugInPath, version: VersionInPath, _: Ops, cloud: TheCloud
) -> VersionDocumentView:
    """One version, with the document as it was applied."""
    kept = find_version(cloud.database, EventId(event_id), version)
    if isinstance(kept, Refusal):
        raise ProblemError(kept)
    told: Mapping[str, Any] = VersionView.of(kept.version).model_dump()
    return VersionDocumentView(**told, document=kept.document)


@router.post("/events/{event_id}/rollback", responses=answers(401, 403, 404, 409, 412, 422))
def post_rollback(
    event_id: SlugInPath,
    body: RollbackBody,
    holder: Ops,
    cloud: TheCloud,
    if_match: IfMatch = None,
) -> EventApplied:
    """What an earlier version said, as a new one: appliances never take an older policy. It is
    judged as of today: a stall where an appliance stands by now cannot go."""
    return EventApplied.of(
        roll_back(
            cloud.database,
            cloud.keys,
            EventId(event_id),
            body.version,
            Edit(
                holder.subject,
                cloud.clock(),
                reason=body.reason,
                within=holder.events({Role.OPS}),
            ),
            top_up_url=cloud.top_up_url,
            is_expected=_expected(if_match, None),
        )
    )


@router.get("/events/{event_id}/policies", responses=answers(401, 403, 404))
def get_policies(event_id: SlugInPath, _: Ops, cloud: TheCloud) -> list[StandingView]:
    """Each appliance at the event: its newest policy, what it was made from, whether it was
    published, and what the appliance has acknowledged."""
    standings = read_standings(cloud.database, EventId(event_id))
    if isinstance(standings, Refusal):
        raise ProblemError(standings)
    return [StandingView.of(standing) for standing in standings]


@router.get("/devices/{device_id}/policies", responses=answers(401, 403, 404))
def get_policies_of(
    device_id: SlugInPath, holder: Ops, cloud: TheCloud, limit: Limit = 50
) -> list[IssuedPolicyView]:
    """The policies that an appliance was given, the newest first."""
    issued = list_policies(
        cloud.database, DeviceId(device_id), holder.events({Role.OPS}), limit=limit
    )
    if isinstance(issued, Refusal):
        raise ProblemError(issued)
    return [IssuedPolicyView.of(policy) for policy in issued]


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


def _expected(if_match: str | None, if_none_match: str | None) -> Expected | None:
    """RFC 9110 section 13.2.2: what the request makes its condition; None: nothing."""
    if if_match is None and if_none_match is None:
        return None

    def is_expected(current: EventDocument | None) -> bool:
        return (if_match is None or is_met(if_match, current)) and not (
            if_none_match is not None and is_met(if_none_match, current)
        )

    return is_expected
