"""The fleet as ops watch it: each appliance, what is wrong with it, and what was done to it."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from cloud.access.roles import Role
from cloud.api.access import Ops
from cloud.api.context import TheCloud
from cloud.api.forms import SlugInPath
from cloud.api.ops import DeviceView
from cloud.api.problems import ProblemError, answers
from cloud.operations.fleet.device_deeds import DEEDS_MAX, Deed, read_deeds
from cloud.operations.fleet.read_devices import Trouble, Wanted, list_devices
from cloud.operations.refusals import Refusal
from protocol.ids import DeviceId

router = APIRouter(prefix="/v1/ops", tags=["ops"])

_Slug = Annotated[str | None, Query(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
_Status = Literal["active", "quarantined", "revoked", "decommissioned"] | None


class DevicesAsked(BaseModel):
    """Which appliances; what is left out leaves none out."""

    event: _Slug = None
    stall: _Slug = None
    status: _Status = None
    online: bool | None = None
    """By the broker's word or a heartbeat just now. Those of whom nobody knows are in neither."""
    trouble: bool = False
    """Those with any problem."""
    problem: Annotated[list[Trouble], Query(max_length=len(Trouble))] = []
    """Those with any of these."""
    expiring_within_days: Annotated[int | None, Query(ge=0, le=3650)] = None
    behind: bool = False
    """Those that have not acknowledged their newest policy."""
    firmware: Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")] = None
    """What it begins with."""
    after: _Slug = None
    """Where the page before ended: its last appliance."""
    limit: Annotated[int | None, Query(ge=1, le=100_000)] = None

    def wanted(self) -> Wanted:
        days = self.expiring_within_days
        return Wanted(
            event_id=self.event,
            stall_id=self.stall,
            status=self.status,
            online=self.online,
            in_trouble=self.trouble,
            problems=self.problem,
            expiring_within=None if days is None else timedelta(days=days),
            behind=self.behind,
            firmware=self.firmware,
            after=self.after,
            limit=self.limit,
        )


class DeedView(BaseModel):
    """Who did what to an appliance; what it asked itself is not among them."""

    at: datetime
    actor: str
    action: str
    outcome: str
    subject: str | None
    detail: dict[str, Any] | None

    @classmethod
    def of(cls, deed: Deed) -> "DeedView":
        return cls.model_validate(deed, from_attributes=True)


@router.get("/devices", responses=answers(401, 403, 422))
def get_devices(
    asked: Annotated[DevicesAsked, Query()], holder: Ops, cloud: TheCloud
) -> list[DeviceView]:
    """Every appliance at one's events, by name: where it stands, how it is, what is wrong."""
    within = holder.events({Role.OPS})
    found = list_devices(cloud.database, cloud.clock(), within, asked.wanted())
    return [DeviceView.of(each) for each in found]


@router.get("/devices/{device_id}/deeds", responses=answers(401, 403, 404, 422))
def get_deeds(
    device_id: SlugInPath,
    holder: Ops,
    cloud: TheCloud,
    limit: Annotated[int, Query(ge=1, le=DEEDS_MAX)] = 20,
) -> list[DeedView]:
    """What was done to an appliance, newest first, as the audit log has it."""
    deeds = read_deeds(cloud.database, DeviceId(device_id), limit, holder.events({Role.OPS}))
    if isinstance(deeds, Refusal):
        raise ProblemError(deeds)
    return [DeedView.of(each) for each in deeds]
