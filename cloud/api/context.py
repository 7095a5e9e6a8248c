"""What every route works with: the database, the keys, the clock, who pays and how."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, cast

from fastapi import Depends, Request

from cloud.api.bundle_fetches import Fetches
from cloud.api.changes import WalletChanges
from cloud.api.limits import Limits
from cloud.clock import utc_clock
from cloud.keys import KeyRing
from cloud.operations.enrolment.enrol_gate import Gate
from cloud.operations.till.pos import Desk
from cloud.operations.updates.bundle_folder import BundleFolder
from cloud.payments.built_in import BuiltInProvider
from cloud.payments.delivery import WebhookDelivery
from cloud.payments.provider import CardProvider
from cloud.readiness import Readiness
from cloud.settings import LimitSettings, UpdatesSettings
from cloud.store.database import Database
from protocol.policy import TOP_UP_URL_CHARS_MAX

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Cloud:
    """Made once at start-up; routes ask for it by type."""

    database: Database
    keys: KeyRing
    desk: Desk
    """Where the appliances' requests are answered; the worker's own, where there is one."""
    public_url: str
    """How attendees reach this server, without a slash at the end."""
    changes: WalletChanges
    bundles: BundleFolder
    """What appliances are updated by."""
    provider: CardProvider | None = None
    """None: no top-ups here."""
    built_in: BuiltInProvider | None = None
    delivery: WebhookDelivery | None = None
    gate: Gate | None = None
    """Where appliances enrol and ask; None: no listener of theirs here."""
    readiness: Readiness | None = None
    """None: the database is all there is to ask."""
    writes_access_log: bool = True
    clock: Clock = utc_clock
    limits: Limits = field(default_factory=lambda: Limits(LimitSettings()))
    fetches: Fetches = field(default_factory=lambda: Fetches(UpdatesSettings()))

    @property
    def top_up_url(self) -> str | None:
        """The attendees' page, where it fits a slip's QR."""
        url = f"{self.public_url}/"
        return url if len(url) <= TOP_UP_URL_CHARS_MAX else None


def cloud_of(request: Request) -> Cloud:
    return cast("Cloud", request.app.state.cloud)


async def _cloud(request: Request) -> Cloud:
    # A plain function would be an errand for a thread.
    return cloud_of(request)


TheCloud = Annotated[Cloud, Depends(_cloud)]
