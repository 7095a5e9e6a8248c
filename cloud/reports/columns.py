"""What kind of thing stands in each column of a report on transactions."""

from datetime import datetime
from enum import Enum, auto
from typing import Final

from cloud.reports.transactions import Line, Transaction
from protocol.money import format_cents


class Kind(Enum):
    TEXT = auto()
    """Somebody else's words: nothing may calculate or follow them."""
    ID = auto()
    """A UUID."""
    MOMENT = auto()
    CENTS = auto()
    AMOUNT = auto()
    """Digits of our own, with a sign and two decimals."""
    LINES = auto()


_OTHER_THAN_TEXT: Final = {
    "created_at": Kind.MOMENT,
    "id": Kind.ID,
    "amount_in_cents": Kind.CENTS,
    "signed_amount_in_cents": Kind.CENTS,
    "signed_amount": Kind.AMOUNT,
    "reversal_of_transaction_id": Kind.ID,
    "order_id": Kind.ID,
    "accepted_offline_at": Kind.MOMENT,
    "lines": Kind.LINES,
    "user_id": Kind.ID,
}
COLUMNS: Final[dict[str, Kind]] = {
    name: _OTHER_THAN_TEXT.get(name, Kind.TEXT) for name in Transaction.__struct_fields__
}


def spell_moment(moment: datetime) -> str:
    """`2026-06-20T18:00:00.000000Z`: as text these sort by time."""
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def spell_lines(lines: tuple[Line, ...]) -> str:
    """`2 x 1 @ 3.50, 1 x 7 @ 2.00`: quantity, product's number, price of one."""
    return ", ".join(
        f"{each.quantity} x {each.product} @ {format_cents(each.unit_price_in_cents)}"
        for each in lines
    )
