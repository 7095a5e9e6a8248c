"""Buying tickets: place an order, look at it, let go of it; give one back."""

from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cloud.access.roles import Holder, Role
from cloud.api.access import Allowed, SignedInAttendee
from cloud.api.context import TheCloud
from cloud.api.etags import ETAGGED, IfNoneMatch, answer_once
from cloud.api.forms import Body, Cursor, Key, Limit, MoneyView, Reason, Slug, SlugInPath
from cloud.api.problems import ProblemError, answers
from cloud.operations.orders.checkout import Basket, PlacedOrder, Shop, place_order
from cloud.operations.orders.close_orders import cancel_order
from cloud.operations.orders.order_refusals import UNKNOWN_CURSOR
from cloud.operations.orders.read_orders import Order, Ticket, find_order, list_orders
from cloud.operations.orders.refund_order import refund_order
from cloud.operations.refusals import Refusal
from cloud.tickets.life import OrderState
from cloud.tickets.ordering import TICKETS_PER_ORDER_MAX, Line
from protocol.ids import EventId, IdempotencyKey
from protocol.money import CENTS_MAX, Money

router = APIRouter(prefix="/v1", tags=["orders"])


class OrderItem(Body):
    ticket_type_id: Slug
    quantity: Annotated[int, Field(strict=True, ge=1, le=TICKETS_PER_ORDER_MAX)]


class OrderBody(Body):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "event_id": "harbour-festival",
                    "items": [{"ticket_type_id": "weekend", "quantity": 2}],
                    "credits_in_cents": "all",
                }
            ]
        }
    )

    event_id: Slug
    items: Annotated[list[OrderItem], Field(min_length=1, max_length=20)]
    credits_in_cents: Annotated[int, Field(strict=True, ge=0, le=CENTS_MAX)] | Literal["all"]
    """Out of the wallet; a card pays the rest. `all`: as much as the wallet holds."""

    @model_validator(mode="after")
    def _each_kind_once(self) -> Self:
        kinds = [item.ticket_type_id for item in self.items]
        if len(set(kinds)) < len(kinds):
            raise ValueError("a ticket type is there twice")
        return self

    def basket(self) -> Basket:
        wanted = {item.ticket_type_id: item.quantity for item in self.items}
        return Basket(EventId(self.event_id), wanted, self.credits_in_cents)


class LineView(BaseModel):
    ticket_type_id: str
    name: str
    quantity: int
    unit_price: MoneyView


class OrderPlaced(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "order_id": "0197b2c4-6f0e-7c31-9d0e-3f6a1c2b4d5e",
                    "event_id": "harbour-festival",
                    "lines": [
                        {
                            "ticket_type_id": "weekend",
                            "name": "Weekend",
                            "quantity": 2,
                            "unit_price": {"amount_in_cents": 8900, "currency": "EUR"},
                        }
                    ],
                    "total": {"amount_in_cents": 17800, "currency": "EUR"},
                    "credits_part": {"amount_in_cents": 2000, "currency": "EUR"},
                    "card_part": {"amount_in_cents": 15800, "currency": "EUR"},
                    "card_page": "https://cards.example/pay/8Zk2",
                    "expires_at": "2026-06-01T12:15:00Z",
                }
            ]
        }
    )

    order_id: str
    event_id: str
    lines: list[LineView]
    total: MoneyView
    credits_part: MoneyView
    card_part: MoneyView
    card_page: str | None
    """Send the attendee's browser there. None: the order is paid, and the tickets are issued."""
    expires_at: datetime | None
    """Until when the tickets are held for the card part."""

    @classmethod
    def of(cls, order: PlacedOrder) -> "OrderPlaced":
        return cls(
            order_id=str(order.order_id),
            event_id=order.event_id,
            lines=_lines(order.lines, order.total.currency),
            total=MoneyView.of(order.total),
            credits_part=MoneyView.of(order.split.credits_part),
            card_part=MoneyView.of(order.split.card_part),
            card_page=order.card_page,
            expires_at=order.expires_at,
        )


class TicketView(BaseModel):
    ticket_id: str
    ticket_type_id: str
    state: Annotated[str, Field(examples=["valid", "void"])]
    code: str | None
    """What the ticket's QR says (JWS); none once it is void."""

    @classmethod
    def of(cls, ticket: Ticket) -> "TicketView":
        return cls(
            ticket_id=str(ticket.ticket_id),
            ticket_type_id=ticket.ticket_type_id,
            state=ticket.state,
            code=ticket.code,
        )


class OrderSummary(BaseModel):
    order_id: str
    event_id: str
    event_name: str
    state: OrderState
    """`open`: the card part is waited for. `closing`: it is being given up. `paid`. `closed`:
    never paid, all is given back. `cancelled`: was paid, and is given back."""
    lines: list[LineView]
    total: MoneyView
    credits_part: MoneyView
    card_part: MoneyView
    credits_back: MoneyView
    close_reason: Annotated[str, Field(examples=["expired", "cancelled", "card_refused"])] | None
    card_page: str | None
    """While the order is open: where the card part is paid."""
    created_at: datetime
    expires_at: datetime | None
    paid_at: datetime | None
    closed_at: datetime | None


class OrderView(OrderSummary):
    tickets: list[TicketView]
    """Once the order was paid."""


class OrdersPage(BaseModel):
    orders: list[OrderSummary]
    """Newest first, without their tickets."""
    next_cursor: str | None
    """None: these are the last."""


class RefundBody(Body):
    reason: Annotated[Reason, Field(examples=["band cancelled"])]


class OrderRefundedView(BaseModel):
    order_id: str
    state: OrderState
    credits_back: MoneyView
    """To the wallet, now; nothing where the order was given back before."""
    card_back: MoneyView
    """On its way to the card."""


@router.post(
    "/orders",
    status_code=HTTPStatus.CREATED,
    responses=answers(401, 404, 409, 422, 502),
)
def post_order(
    body: OrderBody, attendee: SignedInAttendee, cloud: TheCloud, key: Key
) -> OrderPlaced:
    """Order tickets: held at once, the Credits part taken at once. What Credits pay whole is paid;
    otherwise a card page is opened for the rest, and after 15 minutes all is given back.

    Under one key a refusal stays a refusal: order anew under a new one.
    """
    placed = place_order(
        Shop(cloud.database, cloud.keys, cloud.provider),
        attendee,
        body.basket(),
        key=IdempotencyKey(key),
        return_url=f"{cloud.public_url}/",
        now=cloud.clock(),
    )
    if isinstance(placed, Refusal):
        raise ProblemError(placed)
    return OrderPlaced.of(placed)


@router.get("/orders", responses=answers(401, 422))
def get_orders(
    attendee: SignedInAttendee, cloud: TheCloud, limit: Limit = 50, cursor: Cursor = None
) -> OrdersPage:
    """One's own orders."""
    page = list_orders(cloud.database, attendee, limit, cursor)
    if page is None:
        raise ProblemError(UNKNOWN_CURSOR)
    return OrdersPage(
        orders=[OrderSummary.model_validate(_summary(order)) for order in page.orders],
        next_cursor=page.next_cursor,
    )


@router.get(
    "/orders/{order_id}", response_model=OrderView, responses={**ETAGGED, **answers(401, 404, 422)}
)
def get_order(
    order_id: UUID, attendee: SignedInAttendee, cloud: TheCloud, if_none_match: IfNoneMatch = None
) -> Response:
    """One's own order, with its tickets once it was paid."""
    order = find_order(cloud.database, attendee, order_id)
    if isinstance(order, Refusal):
        raise ProblemError(order)
    return answer_once(_view(order), if_none_match, "private, no-cache")


@router.post("/orders/{order_id}/cancel", responses=answers(401, 404, 409, 422))
def post_cancel(order_id: UUID, attendee: SignedInAttendee, cloud: TheCloud, key: Key) -> OrderView:
    """Let go of an order that is not paid. The card provider confirms first; then Credits and
    tickets come back. `closing`: it has not confirmed yet. `paid`: somebody had just paid."""
    refusal = cancel_order(
        cloud.database,
        cloud.provider,
        attendee,
        order_id,
        key=IdempotencyKey(key),
        now=cloud.clock(),
    )
    if refusal is not None:
        raise ProblemError(refusal)
    order = find_order(cloud.database, attendee, order_id)
    if isinstance(order, Refusal):
        raise ProblemError(order)
    return _view(order)


@router.post(
    "/console/events/{event_id}/orders/{order_id}/refund",
    tags=["console"],
    responses=answers(401, 403, 404, 409, 422),
)
def post_refund(
    *,
    event_id: SlugInPath,
    order_id: UUID,
    body: RefundBody,
    holder: Annotated[Holder, Depends(Allowed(Role.FINANCE, Role.SUPERVISOR))],
    cloud: TheCloud,
    key: Key,
) -> OrderRefundedView:
    """Give a paid order back, whole: its tickets let nobody in any more, Credits return to the
    wallet, the card's part to the card, and the tickets are on sale again."""
    refunded = refund_order(
        cloud.database,
        EventId(event_id),
        order_id,
        actor=holder.subject,
        reason=body.reason,
        key=IdempotencyKey(key),
        now=cloud.clock(),
    )
    if isinstance(refunded, Refusal):
        raise ProblemError(refunded)
    return OrderRefundedView(
        order_id=str(refunded.order_id),
        state=refunded.state,
        credits_back=MoneyView.of(refunded.credits_back),
        card_back=MoneyView.of(refunded.card_back),
    )


def _lines(lines: Sequence[Line], currency: str) -> list[LineView]:
    return [
        LineView(
            ticket_type_id=line.ticket_type_id,
            name=line.name,
            quantity=line.quantity,
            unit_price=MoneyView.of(Money(line.unit_price_in_cents, currency)),
        )
        for line in lines
    ]


def _summary(order: Order) -> dict[str, object]:
    return {
        "order_id": str(order.order_id),
        "event_id": order.event_id,
        "event_name": order.event_name,
        "state": order.state,
        "lines": _lines(order.lines, order.total.currency),
        "total": MoneyView.of(order.total),
        "credits_part": MoneyView.of(order.credits_part),
        "card_part": MoneyView.of(order.card_part),
        "credits_back": MoneyView.of(order.credits_back),
        "close_reason": order.close_reason,
        "card_page": order.card_page,
        "created_at": order.created_at,
        "expires_at": order.expires_at,
        "paid_at": order.paid_at,
        "closed_at": order.closed_at,
    }


def _view(order: Order) -> OrderView:
    tickets = [TicketView.of(ticket) for ticket in order.tickets]
    return OrderView.model_validate({**_summary(order), "tickets": tickets})
