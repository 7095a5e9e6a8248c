"""An order's life: one table of what may happen in each state, and what is then done."""

from datetime import timedelta
from enum import StrEnum
from typing import Final

import msgspec

OPEN_FOR: Final = timedelta(minutes=15)
"""How long tickets are held for a card part. Providers' own limits are longer (Stripe: 30 min at
least), so theirs is ended first."""


class OrderState(StrEnum):
    OPEN = "open"
    """Tickets are held, the Credits part is taken, the card part is waited for."""
    CLOSING = "closing"
    """The provider is being asked to let go of the payment."""
    PAID = "paid"
    """The tickets let people in."""
    CLOSED = "closed"
    """It came to nothing: the Credits are back, the tickets are others' to buy."""
    CANCELLED = "cancelled"
    """It was paid, and given back by someone of the event's."""


class Happening(StrEnum):
    """What an order hears of."""

    CARD_PAID = "card_paid"
    CARD_DECLINED = "card_declined"
    """One card; the page stays open for another."""
    CARD_EXPIRED = "card_expired"
    """The provider confirms: nobody can pay there any more, and nobody has."""
    TIME_UP = "time_up"
    CANCEL_ASKED = "cancel_asked"
    """By the attendee, before it is paid."""
    REFUND_ASKED = "refund_asked"
    """By someone of the event's, once it is paid."""


class Deed(StrEnum):
    ISSUE_TICKETS = "issue_tickets"
    VOID_TICKETS = "void_tickets"
    RELEASE_STOCK = "release_stock"
    GIVE_CREDITS_BACK = "give_credits_back"
    GIVE_CARD_BACK = "give_card_back"
    EXPIRE_CHECKOUT = "expire_checkout"
    """Ask the provider; CARD_PAID or CARD_EXPIRED follows."""


class OrderStep(msgspec.Struct, frozen=True):
    state: OrderState
    deeds: frozenset[Deed] = frozenset()


class Impossible(StrEnum):
    """Why what was asked cannot be done now."""

    PAID_ALREADY = "paid_already"
    NOT_PAID = "not_paid"


def step(state: OrderState, happening: Happening) -> OrderStep | Impossible:
    """The order's next state, and what is done in the same transaction."""
    return _TABLE[state, happening]


def place(*, needs_card: bool) -> OrderStep:
    """A new order: one that Credits alone pay, or that is free, is paid at once."""
    if needs_card:
        return OrderStep(OrderState.OPEN)
    return OrderStep(OrderState.PAID, frozenset({Deed.ISSUE_TICKETS}))


_S = OrderState
_H = Happening
_GONE: Final = frozenset({Deed.VOID_TICKETS, Deed.RELEASE_STOCK, Deed.GIVE_CREDITS_BACK})
_PAID: Final = OrderStep(_S.PAID, frozenset({Deed.ISSUE_TICKETS}))
_CLOSED: Final = OrderStep(_S.CLOSED, _GONE)
_CLOSING: Final = OrderStep(_S.CLOSING, frozenset({Deed.EXPIRE_CHECKOUT}))

_TABLE: Final[dict[tuple[OrderState, Happening], OrderStep | Impossible]] = {
    (_S.OPEN, _H.CARD_PAID): _PAID,
    (_S.OPEN, _H.CARD_DECLINED): OrderStep(_S.OPEN),
    (_S.OPEN, _H.CARD_EXPIRED): _CLOSED,
    (_S.OPEN, _H.TIME_UP): _CLOSING,
    (_S.OPEN, _H.CANCEL_ASKED): _CLOSING,
    (_S.OPEN, _H.REFUND_ASKED): Impossible.NOT_PAID,
    # Somebody paid before the provider let go: the tickets are still held, and theirs.
    (_S.CLOSING, _H.CARD_PAID): _PAID,
    (_S.CLOSING, _H.CARD_DECLINED): OrderStep(_S.CLOSING),
    (_S.CLOSING, _H.CARD_EXPIRED): _CLOSED,
    (_S.CLOSING, _H.TIME_UP): _CLOSING,
    (_S.CLOSING, _H.CANCEL_ASKED): _CLOSING,
    (_S.CLOSING, _H.REFUND_ASKED): Impossible.NOT_PAID,
    (_S.PAID, _H.CARD_PAID): OrderStep(_S.PAID),
    (_S.PAID, _H.CARD_DECLINED): OrderStep(_S.PAID),
    (_S.PAID, _H.CARD_EXPIRED): OrderStep(_S.PAID),
    (_S.PAID, _H.TIME_UP): OrderStep(_S.PAID),
    (_S.PAID, _H.CANCEL_ASKED): Impossible.PAID_ALREADY,
    (_S.PAID, _H.REFUND_ASKED): OrderStep(_S.CANCELLED, _GONE | {Deed.GIVE_CARD_BACK}),
    # The tickets may be another's by now: the money goes back, the order stays closed.
    (_S.CLOSED, _H.CARD_PAID): OrderStep(_S.CLOSED, frozenset({Deed.GIVE_CARD_BACK})),
    (_S.CLOSED, _H.CARD_DECLINED): OrderStep(_S.CLOSED),
    (_S.CLOSED, _H.CARD_EXPIRED): OrderStep(_S.CLOSED),
    (_S.CLOSED, _H.TIME_UP): OrderStep(_S.CLOSED),
    (_S.CLOSED, _H.CANCEL_ASKED): OrderStep(_S.CLOSED),
    (_S.CLOSED, _H.REFUND_ASKED): Impossible.NOT_PAID,
    # Its card part was given back when it was cancelled.
    (_S.CANCELLED, _H.CARD_PAID): OrderStep(_S.CANCELLED),
    (_S.CANCELLED, _H.CARD_DECLINED): OrderStep(_S.CANCELLED),
    (_S.CANCELLED, _H.CARD_EXPIRED): OrderStep(_S.CANCELLED),
    (_S.CANCELLED, _H.TIME_UP): OrderStep(_S.CANCELLED),
    (_S.CANCELLED, _H.CANCEL_ASKED): OrderStep(_S.CANCELLED),
    (_S.CANCELLED, _H.REFUND_ASKED): OrderStep(_S.CANCELLED),
}
assert len(_TABLE) == len(OrderState) * len(Happening), "something may happen that nobody foresaw"
