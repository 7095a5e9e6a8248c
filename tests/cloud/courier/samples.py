"""One letter of each kind, as it stands in the outbox."""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from cloud.store.letters import (
    CashOutEnded,
    CashOutNotPaid,
    ConsoleInvitation,
    Letter,
    LetterLine,
    OneTimeCode,
    OrderClosed,
    OrderPaid,
    PosReceipt,
    TopUpReceipt,
)
from protocol.money import Money

LETTER_ID: Final = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
WRITTEN_AT: Final = datetime(2026, 6, 20, 18, 5, tzinfo=UTC)
AT_MS: Final = round(WRITTEN_AT.timestamp() * 1000)
SENDER: Final = "RailTix Credits <credits@fair.example>"
TICKETS: Final = ("eyJhbGciOiJFUzI1NiJ9.ticket-one.signature", "eyJhbGciOiJFUzI1NiJ9.ticket-two.x")


def eur(cents: int) -> Money:
    return Money(cents, "EUR")


def code(at_ms: int = AT_MS) -> OneTimeCode:
    return OneTimeCode(code="402917", valid_minutes=10, at_ms=at_ms)


SAMPLES: Final[dict[str, Letter]] = {
    "one_time_code": code(),
    "console_invitation": ConsoleInvitation(
        user_name="ana",
        link="https://credits.fair.example/console#invitation=rxi_9f2c",
        at_ms=AT_MS,
    ),
    "top_up_receipt": TopUpReceipt(
        amount=eur(2000),
        balance=eur(3250),
        reference="cs_4f9a77",
        at_ms=AT_MS,
        locale="de_AT",
        timezone="Europe/Vienna",
    ),
    "pos_receipt": PosReceipt(
        event_name="Harbour festival",
        stall_name="Bar North",
        is_refund=False,
        amount=eur(1050),
        code="7K3M-Q2",
        lines=(LetterLine("Lemonade", 2, 350), LetterLine("Crisps <salted>", 1, 350)),
        at_ms=AT_MS,
        timezone="Europe/London",
    ),
    "pos_refund": PosReceipt(
        event_name="Harbour festival",
        stall_name="Bar North",
        is_refund=True,
        amount=eur(350),
        code="7K3M-Q2",
        at_ms=AT_MS,
    ),
    "order_paid": OrderPaid(
        event_name="Harbour festival",
        order_id="01890a5d-ac96-774b-bcce-b30209000001",
        lines=(LetterLine("Day ticket", 2, 4500),),
        total=eur(9000),
        credits_part=eur(2500),
        card_part=eur(6500),
        ticket_codes=TICKETS,
        at_ms=AT_MS,
        locale="fr_FR",
        timezone="Europe/Paris",
    ),
    "order_closed": OrderClosed(
        event_name="Harbour festival",
        order_id="01890a5d-ac96-774b-bcce-b30209000001",
        credits_back=eur(2500),
        card_back=eur(6500),
        at_ms=AT_MS,
    ),
    "order_closed_unpaid": OrderClosed(
        event_name="Harbour festival",
        order_id="01890a5d-ac96-774b-bcce-b30209000001",
        credits_back=eur(0),
        card_back=eur(0),
        at_ms=AT_MS,
    ),
    "cash_out_ended": CashOutEnded(paid=eur(1730), back=eur(0), at_ms=AT_MS),
    "cash_out_in_part": CashOutEnded(paid=eur(1000), back=eur(730), at_ms=AT_MS),
    "cash_out_refused": CashOutEnded(paid=eur(0), back=eur(1730), at_ms=AT_MS),
    "cash_out_frozen": CashOutNotPaid(reason="wallet_frozen", at_ms=AT_MS),
    "cash_out_nothing": CashOutNotPaid(reason="nothing_left", at_ms=AT_MS),
}
