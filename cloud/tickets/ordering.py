"""What may be ordered: what is on sale, what is left, how many at once."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from protocol.money import Money

TICKETS_PER_ORDER_MAX: Final = 100
"""Of all kinds together: an order's letter and its answer stay of a size that is read."""


class TicketType(msgspec.Struct, frozen=True):
    """A kind of ticket, as it stands under its lock."""

    ticket_type_id: str
    name: str
    price_in_cents: int
    stock: int
    taken: int
    """Sold or held for an open order."""
    per_order_max: int
    on_sale_from: datetime | None = None
    on_sale_until: datetime | None = None

    @property
    def left(self) -> int:
        return self.stock - self.taken

    def is_on_sale(self, now: datetime) -> bool:
        """Whether now lies in its sale window, whatever is left: from its first moment, and no
        longer at its last."""
        has_begun = self.on_sale_from is None or self.on_sale_from <= now
        return has_begun and (self.on_sale_until is None or now < self.on_sale_until)


class EventTerms(msgspec.Struct, frozen=True):
    currency: str
    ends_at: datetime | None

    def is_over(self, now: datetime) -> bool:
        return self.ends_at is not None and self.ends_at <= now


class Line(msgspec.Struct, frozen=True):
    """So many of one kind, at the price it had when it was ordered."""

    ticket_type_id: str
    name: str
    quantity: int
    unit_price_in_cents: int


class Ordered(msgspec.Struct, frozen=True):
    """It may be: the lines, by kind, and what they cost."""

    lines: tuple[Line, ...]
    total: Money


class OrderReason(StrEnum):
    """Why an order may not be placed."""

    EVENT_OVER = "event_over"
    TYPE_UNKNOWN = "type_unknown"
    NOT_ON_SALE = "not_on_sale"
    TOO_MANY = "too_many"
    SOLD_OUT = "sold_out"
    """Fewer are left than were asked for."""


class NotOrdered(msgspec.Struct, frozen=True):
    reason: OrderReason
    ticket_type_id: str | None = None
    at_most: int | None = None
    """How many may be ordered, where that is what stands in the way."""


def judge_order(
    event: EventTerms,
    kinds: Mapping[str, TicketType],
    wanted: Mapping[str, int],
    now: datetime,
) -> Ordered | NotOrdered:
    """The order of `wanted` (how many of each kind, at least one), or the first thing in its way.

    `kinds` holds those of the wanted that exist. Sorted, so that the same order is judged the same
    however it was written.
    """
    assert wanted, "an order of nothing"
    assert all(count > 0 for count in wanted.values()), "none of a kind"
    if event.is_over(now):
        return NotOrdered(OrderReason.EVENT_OVER)
    if sum(wanted.values()) > TICKETS_PER_ORDER_MAX:
        return NotOrdered(OrderReason.TOO_MANY, at_most=TICKETS_PER_ORDER_MAX)
    for ticket_type_id, count in sorted(wanted.items()):
        reason = _refuse(kinds.get(ticket_type_id), ticket_type_id, count, now)
        if reason is not None:
            return reason
    lines = tuple(_line(kinds[name], count) for name, count in sorted(wanted.items()))
    return Ordered(lines, total_of(lines, event.currency))


def total_of(lines: Sequence[Line], currency: str) -> Money:
    return Money(sum(line.unit_price_in_cents * line.quantity for line in lines), currency)


def _refuse(
    kind: TicketType | None, ticket_type_id: str, count: int, now: datetime
) -> NotOrdered | None:
    if kind is None:
        return NotOrdered(OrderReason.TYPE_UNKNOWN, ticket_type_id)
    if not kind.is_on_sale(now):
        return NotOrdered(OrderReason.NOT_ON_SALE, ticket_type_id)
    if count > kind.per_order_max:
        return NotOrdered(OrderReason.TOO_MANY, ticket_type_id, kind.per_order_max)
    if count > kind.left:
        return NotOrdered(OrderReason.SOLD_OUT, ticket_type_id, kind.left)
    return None


def _line(kind: TicketType, count: int) -> Line:
    return Line(kind.ticket_type_id, kind.name, count, kind.price_in_cents)
