"""What an event lets its tills decide alone, and what that may cost at worst."""

from dataclasses import dataclass

import msgspec
from sqlalchemy import func, select

from cloud.operations.refusals import Code, Refusal
from cloud.store.database import Database
from cloud.store.tables import devices, events
from protocol.ids import EventId
from protocol.offline_loss import OfflineLoss, worst_loss
from protocol.policy import OfflineRules


@dataclass(frozen=True, slots=True)
class OfflineTerms:
    event_id: EventId
    currency: str
    rules: OfflineRules
    loss: OfflineLoss
    """With the appliances that stand at the event now."""
    loss_if_allowed: OfflineLoss
    """The same rules, if they were switched on."""


def read_offline_terms(database: Database, event_id: EventId) -> OfflineTerms | Refusal:
    with database.reading() as connection:
        event = connection.execute(
            select(events.c.currency, events.c.sale_max_in_cents, events.c.offline_rules).where(
                events.c.event_id == event_id
            )
        ).one_or_none()
        # A quarantined one may hold sales that it took before.
        appliances = connection.execute(
            select(func.count())
            .select_from(devices)
            .where(devices.c.event_id == event_id, devices.c.status == "active")
        ).scalar_one()
    if event is None:
        return Refusal(
            Code.EVENT_UNKNOWN,
            f"There is no event {event_id!r}.",
            "Apply one, or look at the list of events.",
        )
    rules = msgspec.convert(event.offline_rules or {}, OfflineRules)
    allowed = msgspec.structs.replace(rules, allowed=True)
    return OfflineTerms(
        event_id,
        event.currency,
        rules,
        worst_loss(rules, event.sale_max_in_cents, appliances),
        worst_loss(allowed, event.sale_max_in_cents, appliances),
    )
