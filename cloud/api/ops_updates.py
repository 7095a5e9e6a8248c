"""Updates for those who run the fleet: bundles uploaded, released, watched, paused."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from cloud.access.roles import Role
from cloud.api.access import Ops, OpsEverywhere
from cloud.api.context import Cloud, TheCloud
from cloud.api.forms import Body, Reason, SlugInPath
from cloud.api.ops import DeviceView
from cloud.api.pos_updates import Sha256InPath
from cloud.api.problems import ProblemError, answers
from cloud.operations.refusals import Code, Refusal
from cloud.operations.updates.bundle_folder import PART_BYTES_MAX, Received
from cloud.operations.updates.read_updates import Release, Try, read_updates
from cloud.operations.updates.release_update import (
    NOTES_CHARS_MAX,
    Bundle,
    Chosen,
    Terms,
    pause_update,
    release_update,
    resume_update,
    roll_out,
)
from cloud.operations.updates.set_channel import set_channel
from protocol.ids import DeviceId
from protocol.updates import BUNDLE_BYTES_MAX, COMPATIBLE_PATTERN, SHA256_PATTERN, VERSION_PATTERN

router = APIRouter(prefix="/v1/ops", tags=["ops"])


def _of_ecma(pattern: str) -> str:
    """As OpenAPI spells it; pydantic's own reading has no line break before the end either."""
    return pattern.replace(r"\Z", "$")


_VERSION: Final = _of_ecma(VERSION_PATTERN)
Version = Annotated[str, Field(pattern=_VERSION, examples=["0.6.0+202611230215"])]
Compatible = Annotated[
    str, Field(pattern=_of_ecma(COMPATIBLE_PATTERN), examples=["railtix-pos-debian"])
]
Channel = Annotated[str, Field(max_length=16, examples=["stable", "beta"])]
Percent = Annotated[int, Field(ge=0, le=100)]
_OCTETS: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {
                "schema": {"type": "string", "format": "binary", "maxLength": PART_BYTES_MAX}
            }
        },
    }
}


class ReceivedView(BaseModel):
    size: int
    """In bytes: where the next part begins."""
    is_whole: bool

    @classmethod
    def of(cls, received: Received) -> "ReceivedView":
        return cls(size=received.size, is_whole=received.is_whole)


class FinishBody(Body):
    size: Annotated[int, Field(ge=1, le=BUNDLE_BYTES_MAX)]
    """Of the whole bundle, in bytes."""


class ReleaseOfBundleBody(Body):
    sha256: Annotated[str, Field(pattern=_of_ecma(SHA256_PATTERN))]
    version: Version
    compatible: Compatible
    channel: Channel = "stable"
    rollout_percent: Percent = 100
    notes: Annotated[str, Field(max_length=NOTES_CHARS_MAX, pattern=r"^[^\x00]*$")] = ""
    allow_downgrade: bool = False


class _ChosenBody(Body):
    version: Version
    channel: Channel | None = None
    compatible: Compatible | None = None
    """Left out: every release of the version."""

    def chosen(self) -> Chosen:
        return Chosen(self.version, self.channel, self.compatible)


class PauseBody(_ChosenBody):
    reason: Reason


class ResumeBody(_ChosenBody):
    pass


class RolloutBody(_ChosenBody):
    percent: Percent


class ChannelBody(Body):
    channel: Channel


class CountsView(BaseModel):
    announced: int
    running: int
    fetching: int
    fetched: int
    installing: int
    trying: int
    confirmed: int
    refused: int
    rolled_back: int


class UpdateReleaseView(BaseModel):
    version: str
    compatible: str
    channel: str
    sha256: str
    size: int
    rollout_percent: int
    allow_downgrade: bool
    notes: str
    released_at: datetime
    released_by: str
    paused_at: datetime | None
    paused_why: str | None
    counts: CountsView
    """Of the channel's appliances that are not revoked."""

    @classmethod
    def of(cls, release: Release) -> "UpdateReleaseView":
        return cls.model_validate(release, from_attributes=True)


class TryView(BaseModel):
    device_id: str
    event_id: str | None
    stall_id: str | None
    channel: str
    compatible: str | None
    image: str | None
    """What it runs now."""
    slot: str | None
    is_announced: bool
    state: Annotated[str | None, Field(examples=["confirmed", "rolled_back"])]
    percent: int | None
    why: str | None
    since: datetime | None

    @classmethod
    def of(cls, one: Try) -> "TryView":
        return cls.model_validate(one, from_attributes=True)


class UpdatesView(BaseModel):
    releases: list[UpdateReleaseView]
    """The latest first."""
    devices: list[TryView]
    """Where one version is asked for: who was told of it, took it up, or runs it."""


@router.get("/updates", responses=answers(401, 403, 404, 422))
def get_updates(
    _: OpsEverywhere,
    cloud: TheCloud,
    version: Annotated[str | None, Query(pattern=_VERSION)] = None,
) -> UpdatesView:
    """Every release and how far it is; or one version's, with each appliance."""
    return _status(cloud, version)


@router.post("/updates", status_code=HTTPStatus.CREATED, responses=answers(401, 403, 404, 409, 422))
def post_update(body: ReleaseOfBundleBody, holder: OpsEverywhere, cloud: TheCloud) -> UpdatesView:
    """Release a bundle that was uploaded: its channel's appliances hear of it in their policies."""
    path = cloud.bundles.find(body.sha256)
    if path is None:
        raise ProblemError(
            Refusal(
                Code.BUNDLE_UNKNOWN,
                f"No whole bundle {body.sha256} is here.",
                "Upload it first.",
            )
        )
    bundle = Bundle(body.sha256, body.version, body.compatible, path.stat().st_size)
    terms = Terms(body.channel, body.rollout_percent, body.notes, body.allow_downgrade)
    _refuse(release_update(cloud.database, bundle, terms, actor=holder.subject, now=cloud.clock()))
    return _status(cloud, body.version)


@router.post("/updates/pause", responses=answers(401, 403, 404, 422))
def post_pause(body: PauseBody, holder: OpsEverywhere, cloud: TheCloud) -> UpdatesView:
    """Announce it to nobody any more; whoever installed it keeps it."""
    _refuse(
        pause_update(
            cloud.database, body.chosen(), body.reason, actor=holder.subject, now=cloud.clock()
        )
    )
    return _status(cloud, body.version)


@router.post("/updates/resume", responses=answers(401, 403, 404, 422))
def post_resume(body: ResumeBody, holder: OpsEverywhere, cloud: TheCloud) -> UpdatesView:
    """Announce it again."""
    _refuse(resume_update(cloud.database, body.chosen(), actor=holder.subject, now=cloud.clock()))
    return _status(cloud, body.version)


@router.post("/updates/rollout", responses=answers(401, 403, 404, 422))
def post_rollout(body: RolloutBody, holder: OpsEverywhere, cloud: TheCloud) -> UpdatesView:
    """To so many of a hundred; growing it takes nobody out."""
    _refuse(
        roll_out(
            cloud.database, body.chosen(), body.percent, actor=holder.subject, now=cloud.clock()
        )
    )
    return _status(cloud, body.version)


@router.get("/updates/bundles/{sha256}", responses=answers(401, 403, 422))
def get_received(sha256: Sha256InPath, _: OpsEverywhere, cloud: TheCloud) -> ReceivedView:
    """How much of a bundle is here: an upload that broke off goes on there."""
    return ReceivedView.of(cloud.bundles.received(sha256))


@router.put(
    "/updates/bundles/{sha256}",
    responses=answers(401, 403, 408, 409, 413, 422, 507),
    openapi_extra=_OCTETS,
)
async def put_part(
    sha256: Sha256InPath,
    offset: Annotated[int, Query(ge=0, le=BUNDLE_BYTES_MAX)],
    request: Request,
    _: OpsEverywhere,
    cloud: TheCloud,
) -> ReceivedView:
    """The next part, of at most a mebibyte. The same again changes nothing."""
    part = await request.body()
    taken = await run_in_threadpool(cloud.bundles.take_part, sha256, offset, part)
    if isinstance(taken, Refusal):
        raise ProblemError(taken)
    return ReceivedView.of(taken)


@router.post("/updates/bundles/{sha256}/finish", responses=answers(401, 403, 409, 422))
def post_finish(
    sha256: Sha256InPath, body: FinishBody, _: OpsEverywhere, cloud: TheCloud
) -> ReceivedView:
    """All of it was sent: compare it with its SHA-256. From then on it can be released."""
    _refuse(cloud.bundles.finish(sha256, body.size))
    return ReceivedView.of(cloud.bundles.received(sha256))


@router.post("/devices/{device_id}/channel", responses=answers(401, 403, 404, 422))
def post_channel(
    device_id: SlugInPath, body: ChannelBody, holder: Ops, cloud: TheCloud
) -> DeviceView:
    """Whose releases an appliance is to have from now on."""
    device = set_channel(
        cloud.database,
        DeviceId(device_id),
        body.channel,
        actor=holder.subject,
        now=cloud.clock(),
        within=holder.events({Role.OPS}),
    )
    if isinstance(device, Refusal):
        raise ProblemError(device)
    return DeviceView.of(device)


def _status(cloud: Cloud, version: str | None) -> UpdatesView:
    found = read_updates(cloud.database, version)
    if isinstance(found, Refusal):
        raise ProblemError(found)
    return UpdatesView(
        releases=[UpdateReleaseView.of(each) for each in found.releases],
        devices=[TryView.of(each) for each in found.tries],
    )


def _refuse(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise ProblemError(refusal)
