"""What is on sale, for everybody; and whether a ticket lets somebody in, for the door."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from cloud.access.roles import Holder, Role
from cloud.api.access import Allowed
from cloud.api.context import TheCloud
from cloud.api.etags import ETAGGED, IfNoneMatch, answer_once
from cloud.api.forms import Body, Cursor, Limit, MoneyView, SlugInPath
from cloud.api.problems import ProblemError, answers
from cloud.operations.orders.check_ticket import Verdict, check_ticket
from cloud.operations.orders.order_refusals import UNKNOWN_CURSOR
from cloud.operations.orders.read_sale import (
    EventOnSale,
    TicketOnSale,
    find_event_on_sale,
    list_events_on_sale,
)
from cloud.operations.refusals import Refusal
from protocol.ids import EventId
from protocol.money import Money
from protocol.signing import SIGNED_BYTES_MAX

router = APIRouter(prefix="/v1", tags=["tickets"])


class TicketTypeView(BaseModel):
    ticket_type_id: str
    name: str
    price: MoneyView
    per_order_max: int
    on_sale_from: datetime | None
    on_sale_until: datetime | None
    is_on_sale: bool
    available: int
    """How many can be ordered at once just now: 0 to `per_order_max`."""

    @classmethod
    def of(cls, kind: TicketOnSale, currency: str) -> "TicketTypeView":
        return cls(
            ticket_type_id=kind.ticket_type_id,
            name=kind.name,
            price=MoneyView.of(Money(kind.price_in_cents, currency)),
            per_order_max=kind.per_order_max,
            on_sale_from=kind.on_sale_from,
            on_sale_until=kind.on_sale_until,
            is_on_sale=kind.is_on_sale,
            available=kind.available,
        )


class EventView(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "event_id": "harbour-festival",
                    "name": "Harbour Festival",
                    "currency": "EUR",
                    "locale": "en_IE",
                    "timezone": "Europe/Dublin",
                    "starts_at": "2026-07-10T14:00:00Z",
                    "ends_at": "2026-07-12T22:00:00Z",
                    "ticket_types": [
                        {
                            "ticket_type_id": "weekend",
                            "name": "Weekend",
                            "price": {"amount_in_cents": 8900, "currency": "EUR"},
                            "per_order_max": 10,
                            "on_sale_from": "2026-05-01T08:00:00Z",
                            "on_sale_until": "2026-07-10T14:00:00Z",
                            "is_on_sale": True,
                            "available": 10,
                        }
                    ],
                }
            ]
        }
    )

    event_id: str
    name: str
    currency: str
    locale: str
    timezone: str
    starts_at: datetime | None
    ends_at: datetime | None
    ticket_types: list[TicketTypeView]

    @classmethod
    def of(cls, event: EventOnSale) -> "EventView":
        return cls(
            event_id=event.event_id,
            name=event.name,
            currency=event.currency,
            locale=event.locale,
            timezone=event.timezone,
            starts_at=event.starts_at,
            ends_at=event.ends_at,
            ticket_types=[TicketTypeView.of(kind, event.currency) for kind in event.tickets],
        )


class EventsPage(BaseModel):
    events: list[EventView]
    next_cursor: str | None
    """None: these are the last."""


class TicketBody(Body):
    code: Annotated[str, Field(min_length=1, max_length=SIGNED_BYTES_MAX)]
    """What the ticket's QR says."""


class TicketCheckView(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "verdict": "valid",
                    "ticket_id": "0197b2c4-6f0e-7c31-9d0e-3f6a1c2b4d5e",
                    "order_id": "0197b2c4-6f0e-7c31-9d0e-3f6a1c2b4d5f",
                    "ticket_type_id": "weekend",
                    "ticket_type_name": "Weekend",
                }
            ]
        }
    )

    verdict: Verdict
    """`void`: ours, and not good for entry. `unknown`: no ticket of this event's."""
    ticket_id: str | None = None
    order_id: str | None = None
    ticket_type_id: str | None = None
    ticket_type_name: str | None = None


@router.get("/events", responses=answers(422))
def events(cloud: TheCloud, limit: Limit = 50, cursor: Cursor = None) -> EventsPage:
    """Events that are not over, and their tickets. Nobody need sign in."""
    page = list_events_on_sale(cloud.database, cloud.clock(), limit, cursor)
    if page is None:
        raise ProblemError(UNKNOWN_CURSOR)
    return EventsPage(
        events=[EventView.of(event) for event in page.events], next_cursor=page.next_cursor
    )


@router.get(
    "/events/{event_id}", response_model=EventView, responses={**ETAGGED, **answers(404, 422)}
)
def event(event_id: SlugInPath, cloud: TheCloud, if_none_match: IfNoneMatch = None) -> Response:
    """One event and its tickets. Nobody need sign in."""
    found = find_event_on_sale(cloud.database, EventId(event_id), cloud.clock())
    if isinstance(found, Refusal):
        raise ProblemError(found)
    return answer_once(EventView.of(found), if_none_match, "public, no-cache")


@router.post(
    "/console/events/{event_id}/tickets/check",
    tags=["console"],
    responses=answers(401, 403, 422),
)
def check(
    event_id: SlugInPath,
    body: TicketBody,
    holder: Annotated[Holder, Depends(Allowed(Role.OPS, Role.SUPERVISOR))],
    cloud: TheCloud,
) -> TicketCheckView:
    """What a ticket is worth at the door. It consumes nothing: the same ticket is valid again at
    the next look, so whoever lets people in once only keeps that count."""
    checked = check_ticket(
        cloud.database,
        cloud.keys,
        EventId(event_id),
        body.code,
        actor=holder.subject,
        now=cloud.clock(),
    )
    return TicketCheckView(
        verdict=checked.verdict,
        ticket_id=None if checked.ticket_id is None else str(checked.ticket_id),
        order_id=None if checked.order_id is None else str(checked.order_id),
        ticket_type_id=checked.ticket_type_id,
        ticket_type_name=checked.ticket_type_name,
    )
