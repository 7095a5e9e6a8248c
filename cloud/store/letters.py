"""The outbox: a letter is written in the transaction that it tells of, and sent later."""

from datetime import datetime
from typing import Final, Literal

import msgspec
from sqlalchemy import Connection, insert
from uuid_utils.compat import uuid7

from cloud.store.tables import letters
from protocol.money import Money


class _Letter(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    locale: str = "en_GB"
    """The event's, as `de_AT`: how money and dates are written."""
    timezone: str = "UTC"
    at_ms: int
    """When it happened, milliseconds since 1970."""


class LetterLine(msgspec.Struct, frozen=True):
    name: str
    quantity: int
    unit_price_in_cents: int


class OneTimeCode(_Letter, frozen=True, kw_only=True, tag="one_time_code"):
    """The six digits that sign an attendee in."""

    code: str
    valid_minutes: int

    def __repr__(self) -> str:
        return "OneTimeCode()"


class ConsoleInvitation(_Letter, frozen=True, kw_only=True, tag="console_invitation"):
    user_name: str
    link: str

    def __repr__(self) -> str:
        return f"ConsoleInvitation(user_name={self.user_name!r})"


class TopUpReceipt(_Letter, frozen=True, kw_only=True, tag="top_up_receipt"):
    amount: Money
    balance: Money
    reference: str


class PosReceipt(_Letter, frozen=True, kw_only=True, tag="pos_receipt"):
    """A sale or a refund at a stall, for those who asked for such letters."""

    event_name: str
    stall_name: str
    is_refund: bool
    amount: Money
    code: str
    lines: tuple[LetterLine, ...] = ()


class OrderPaid(_Letter, frozen=True, kw_only=True, tag="order_paid"):
    event_name: str
    order_id: str
    lines: tuple[LetterLine, ...]
    total: Money
    credits_part: Money
    card_part: Money
    ticket_codes: tuple[str, ...]
    """What each ticket's QR says."""

    def __repr__(self) -> str:
        return f"OrderPaid(order_id={self.order_id!r})"


class OrderClosed(_Letter, frozen=True, kw_only=True, tag="order_closed"):
    """An order that came to nothing: what was paid is given back."""

    event_name: str
    order_id: str
    credits_back: Money
    card_back: Money


class CashOutEnded(_Letter, frozen=True, kw_only=True, tag="cash_out_ended"):
    """Every part of it has its answer."""

    paid: Money
    """On its way to the cards."""
    back: Money
    """What the card provider refused for good: Credits in the wallet again."""


class CashOutNotPaid(_Letter, frozen=True, kw_only=True, tag="cash_out_not_paid"):
    """Nothing was taken from the wallet."""

    reason: Literal["wallet_frozen", "nothing_left"]


Letter = (
    OneTimeCode
    | ConsoleInvitation
    | TopUpReceipt
    | PosReceipt
    | OrderPaid
    | OrderClosed
    | CashOutEnded
    | CashOutNotPaid
)

_LETTER: Final[msgspec.json.Decoder[Letter]] = msgspec.json.Decoder(Letter)


def post_letter(connection: Connection, to_address: str, letter: Letter, now: datetime) -> None:
    """Put it in the outbox: it is sent if, and only if, this transaction commits."""
    connection.execute(
        insert(letters).values(
            letter_id=uuid7(),
            to_address=to_address,
            kind=str(letter.__struct_config__.tag),
            content=msgspec.to_builtins(letter),
            state="waiting",
            next_try_at=now,
            created_at=now,
        )
    )


def read_letter(content: object) -> Letter:
    """What `post_letter` put down."""
    return _LETTER.decode(msgspec.json.encode(content))
