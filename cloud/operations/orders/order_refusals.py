"""Why an order is refused, in words an attendee can act on."""

from typing import Final

from cloud.operations.refusals import Code, Refusal
from cloud.tickets.life import Impossible
from cloud.tickets.ordering import NotOrdered, OrderReason
from cloud.tickets.paying import CARD_MIN_IN_CENTS, NotSplit, SplitReason
from protocol.money import Money, format_cents

UNKNOWN_ORDER: Final = Refusal(
    Code.ORDER_UNKNOWN, "There is no such order.", "Look at the list of orders."
)
UNKNOWN_CURSOR: Final = Refusal(
    Code.CURSOR_UNKNOWN,
    "The cursor is none that this list gave.",
    "Begin with the first page: leave the cursor out.",
)


def unknown_event(event_id: str) -> Refusal:
    return Refusal(
        Code.EVENT_UNKNOWN, f"There is no event {event_id!r}.", "Look at the list of events."
    )


def explain_order(judged: NotOrdered) -> Refusal:
    kind, at_most = judged.ticket_type_id, judged.at_most
    match judged.reason:
        case OrderReason.EVENT_OVER:
            return Refusal(Code.EVENT_CLOSED, "The event is over.", "Choose another event.")
        case OrderReason.TYPE_UNKNOWN:
            return Refusal(
                Code.TICKET_TYPE_UNKNOWN,
                f"The event has no tickets {kind!r}.",
                "Look at the event's tickets.",
            )
        case OrderReason.NOT_ON_SALE:
            return Refusal(
                Code.NOT_ON_SALE,
                f"The tickets {kind!r} are not on sale now.",
                "Look at the event's tickets: each says from when until when it is sold.",
            )
        case OrderReason.TOO_MANY:
            of_what = "in one order" if kind is None else f"of the tickets {kind!r} in one order"
            return Refusal(
                Code.TOO_MANY_TICKETS,
                f"At most {at_most} {of_what}.",
                "Order fewer, under a new key.",
            )
        case OrderReason.SOLD_OUT:
            left = "none is" if at_most == 0 else f"{at_most} are"
            return Refusal(
                Code.SOLD_OUT,
                f"Of the tickets {kind!r} {left} left.",
                "Tickets come back when an order is not paid: try later, under a new key.",
            )


def explain_split(split: NotSplit, total: Money) -> Refusal:
    match split.reason:
        case SplitReason.INSUFFICIENT_CREDITS:
            return Refusal(
                Code.INSUFFICIENT_CREDITS,
                f"The wallet has {split.available}; the order is {total}.",
                "Top up, or pay the rest by card; then order under a new key.",
            )
        case SplitReason.ABOVE_TOTAL:
            return Refusal(
                Code.CREDITS_ABOVE_TOTAL,
                f"More Credits than the order's total of {total}.",
                "Take the total at most, or `all`, under a new key.",
            )
        case SplitReason.CARD_PART_TOO_SMALL:
            return Refusal(
                Code.CARD_PART_TOO_SMALL,
                f"A card pays {format_cents(CARD_MIN_IN_CENTS)} at least; less would be left.",
                "Take more Credits, or fewer, under a new key.",
            )


def explain_impossible(impossible: Impossible) -> Refusal:
    match impossible:
        case Impossible.PAID_ALREADY:
            return Refusal(
                Code.ORDER_PAID, "The order is paid.", "Ask the event's organiser to give it back."
            )
        case Impossible.NOT_PAID:
            return Refusal(
                Code.ORDER_NOT_PAID,
                "The order was not paid, or was closed: there is nothing to give back.",
                "Look at the order's state; one that is open closes by itself.",
            )
