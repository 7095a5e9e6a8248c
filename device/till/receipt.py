"""A sale as printable lines: what stands on the paper, and nothing about how paper is made."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Final

from device.till.entries import SaleOpened
from device.till.terms import Terms
from protocol.messages import Approved
from protocol.money import Money, format_cents

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# CLDR: languages that write 12,30 and not 12.30, whatever the country.
_COMMA_LANGUAGES: Final = (
    "bg ca cs da de el es et eu fi fr gl hr hu id is it lt lv nb nl nn no pl pt ro ru sk sl sq sr "
    "sv tr uk vi"
)
# CLDR: countries that write otherwise than their language does at home.
_POINT_LOCALES: Final = "de_CH de_LI it_CH es_MX es_US es_GT es_HN es_NI es_PA"
_DECIMAL_COMMA: Final = frozenset(_COMMA_LANGUAGES.split())
_DECIMAL_POINT: Final = frozenset(_POINT_LOCALES.split())


@dataclass(frozen=True)
class Text:
    """One paragraph, wrapped to the paper's width."""

    text: str
    bold: bool = False
    large: bool = False
    centred: bool = False


@dataclass(frozen=True)
class Columns:
    """A line with something at each edge, such as a product and its price."""

    left: str
    right: str
    bold: bool = False


@dataclass(frozen=True)
class Rule:
    """A line across the paper."""


@dataclass(frozen=True)
class Qr:
    """A QR code with its content spelled out, or explained, below it."""

    content: str
    caption: str


Line = Text | Columns | Rule | Qr


class SlipKind(StrEnum):
    """What a slip is still worth when the printer comes to it late."""

    RECEIPT = "receipt"
    """Printed late, marked as a copy: the customer may have gone without it."""
    NOTICE = "notice"
    """Printed late as it is."""
    QUESTION = "question"
    """Dropped: whoever was asked has answered or gone."""


@dataclass(frozen=True)
class Slip:
    """One piece of paper, from the top edge to the cut."""

    lines: tuple[Line, ...]
    kind: SlipKind = SlipKind.NOTICE


def receipt_of(sale: SaleOpened, approval: Approved, terms: Terms) -> Slip:
    """What the customer takes home. It names nobody but the staff member, by initials."""
    policy = terms.policy
    return Slip(
        (
            *_heading(terms),
            *_lines_of(sale, policy.locale),
            Rule(),
            Columns("Total", spell(approval.amount, policy.locale), bold=True),
            Columns("Credits left", spell(approval.balance, policy.locale)),
            Rule(),
            Columns(_time(approval.at_ms, terms.zone), f"Served by {sale.initials}"),
            Text(approval.code, bold=True, large=True, centred=True),
            Qr(
                f"railtix:receipt:{approval.transaction_id}",
                "Show this code at the stall to have this sale looked up.",
            ),
        ),
        SlipKind.RECEIPT,
    )


def declined_for_funds_slip(sale: SaleOpened, balance: Money, terms: Terms, at_ms: int) -> Slip:
    """Not enough Credits: what is there, so that nobody has to read it out across the counter."""
    locale = terms.policy.locale
    return Slip(
        (
            *_heading(terms),
            Text("Not enough Credits", bold=True, large=True, centred=True),
            Columns("Asked", spell(sale.amount, locale)),
            Columns("Credits left", spell(balance, locale), bold=True),
            Text("Nothing was deducted. Top up in your wallet and show a new code."),
            Rule(),
            Text(_time(at_ms, terms.zone)),
        )
    )


def handed_over_slip(sale: SaleOpened, approval: Approved, terms: Terms | None) -> Slip:
    """The question after a power cut, to staff. Without a policy it is in plain figures."""
    locale = "en" if terms is None else terms.policy.locale
    zone = UTC if terms is None else terms.zone
    return Slip(
        (
            *(() if terms is None else _heading(terms)),
            Text("Handed over?", bold=True, large=True, centred=True),
            Text(
                "This sale was approved just before the power went. "
                "Its green light may never have been seen."
            ),
            *_lines_of(sale, locale),
            Columns("Total", spell(sale.amount, locale), bold=True),
            Columns(_time(sale.at_ms, zone), approval.code),
            Rule(),
            Text("#  yes: it stays paid"),
            Text("*  held, no: it is paid back"),
        ),
        SlipKind.QUESTION,
    )


def sign_out_slip(terms: Terms, initials: str) -> Slip:
    return Slip(
        (
            *_heading(terms),
            Text(f"Sign out {initials}?", bold=True, large=True, centred=True),
            Text("Press # within 10 seconds to sign out. Any other key goes on selling."),
        ),
        SlipKind.QUESTION,
    )


def journal_fault_slip() -> Slip:
    """The appliance cannot remember, so it must not sell."""
    return Slip(
        (
            Text("Out of order", bold=True, large=True, centred=True),
            Text(
                "This appliance cannot write to its storage. It sells nothing until it can again, "
                "and tries every few seconds. If this lasts, switch it off and call for help."
            ),
        )
    )


def spell(money: Money, locale: str) -> str:
    """`12.30 EUR`, or `12,30 EUR` where the event's locale writes it so."""
    text = format_cents(money.amount_in_cents)
    if locale.partition("_")[0] in _DECIMAL_COMMA and locale not in _DECIMAL_POINT:
        text = text.replace(".", ",")
    return f"{text} {money.currency}"


def _heading(terms: Terms) -> tuple[Line, ...]:
    return (
        Text(terms.policy.event_name, bold=True, centred=True),
        Text(terms.policy.stall_name, centred=True),
        Rule(),
    )


def _lines_of(sale: SaleOpened, locale: str) -> tuple[Columns, ...]:
    currency = sale.amount.currency
    if not sale.lines:
        return (Columns("Amount", spell(sale.amount, locale)),)
    return tuple(
        Columns(
            f"{line.quantity} x {line.name}",
            spell(Money(line.quantity * line.unit_price_in_cents, currency), locale),
        )
        for line in sale.lines
    )


def _time(at_ms: int, zone: tzinfo) -> str:
    return (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone).strftime("%Y-%m-%d %H:%M")
