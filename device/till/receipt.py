"""A sale as printable lines: what stands on the paper, and nothing about how paper is made."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Final, assert_never

from device.till.entries import KeyedLine, RefundOpened, SaleOpened
from device.till.shift import LastSale
from device.till.terms import Terms
from protocol import receipt_qr
from protocol.messages import Approved, LastReceipt, Refunded, SaleName
from protocol.money import Money, format_cents
from protocol.policy import Policy

COPY: Final = "COPY"

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


def copy_of(slip: Slip) -> Slip:
    """A receipt that comes late: whoever holds it may hold another one of the same sale."""
    if slip.kind is not SlipKind.RECEIPT or any(COPY in words_of(line) for line in slip.lines):
        return slip
    # Below whose receipt it is, where a copy that was asked for says so too.
    at = 1 + slip.lines.index(Rule()) if Rule() in slip.lines else 0
    mark = Text(COPY, bold=True, centred=True)
    return replace(slip, lines=(*slip.lines[:at], mark, *slip.lines[at:]))


def words_of(line: Line) -> tuple[str, ...]:
    """What a line says, without how."""
    match line:
        case Text(text) | Qr(_, text):
            return (text,)
        case Columns(left, right):
            return (left, right)
        case Rule():
            return ()
        case _:
            assert_never(line)


def receipt_of(sale: SaleOpened, approval: Approved, terms: Terms) -> Slip:
    """What the customer takes home. It names nobody but the staff member, by initials."""
    return Slip(
        (
            *heading(terms),
            *_body_of(sale.amount, sale.lines, terms),
            Columns("Credits left", spell(approval.balance, terms.policy.locale)),
            Rule(),
            Columns(time_of(approval.at_ms, terms.zone), f"Served by {sale.initials}"),
            Text(approval.code, bold=True, large=True, centred=True),
            qr_of(SaleName(terms.policy.device_id, sale.key)),
        ),
        SlipKind.RECEIPT,
    )


def offline_receipt_of(sale: SaleOpened, at_ms: int, terms: Terms) -> Slip:
    """The same for a sale taken offline: nobody here knows the balance, and it has no code yet."""
    return Slip(
        (
            *heading(terms),
            Text("ACCEPTED OFFLINE", bold=True, large=True, centred=True),
            *_body_of(sale.amount, sale.lines, terms),
            Text(
                "Paid. It is taken from your Credits once this stall is online again; your wallet "
                "shows it then."
            ),
            Rule(),
            Columns(time_of(at_ms, terms.zone), f"Served by {sale.initials}"),
            qr_of(SaleName(terms.policy.device_id, sale.key)),
        ),
        SlipKind.RECEIPT,
    )


def copy_of_own(last: LastSale, terms: Terms) -> Slip:
    """The last receipt again, from this appliance's own memory."""
    if last.approval is None:
        receipt = offline_receipt_of(last.sale, last.at_ms, terms)
    else:
        receipt = receipt_of(last.sale, last.approval, terms)
    given_back = _given_back(last.sale.amount, last.left_in_cents, terms)
    return copy_of(replace(receipt, lines=(*receipt.lines, *given_back)))


def copy_of_told(receipt: LastReceipt, terms: Terms) -> Slip:
    """The last receipt again, as the cloud knows it: who served then it does not say."""
    policy = terms.policy
    lines = tuple(
        KeyedLine(
            each.product,
            _name_of(each.product, policy),
            each.quantity,
            each.unit_price_in_cents,
        )
        for each in receipt.lines
    )
    offline = Text("ACCEPTED OFFLINE", bold=True, large=True, centred=True)
    balance = receipt.balance
    told = Slip(
        (
            *heading(terms),
            *((offline,) if balance is None else ()),
            *_body_of(receipt.amount, lines, terms),
            *(() if balance is None else (Columns("Credits left", spell(balance, policy.locale)),)),
            *_given_back(receipt.amount, receipt.left_in_cents, terms),
            Rule(),
            Text(time_of(receipt.at_ms, terms.zone)),
            Text(receipt.code, bold=True, large=True, centred=True),
            qr_of(receipt.sale),
        ),
        SlipKind.RECEIPT,
    )
    return copy_of(told)


def refund_slip(
    refund: RefundOpened, given: Refunded, terms: Terms, *, again: bool = False
) -> Slip:
    """What was given back, to which balance, and what may still be given back of the sale."""
    locale = terms.policy.locale
    left = Money(given.left_in_cents, given.amount.currency)
    slip = Slip(
        (
            *heading(terms),
            Text("REFUND", bold=True, large=True, centred=True),
            Columns("Given back", spell(given.amount, locale), bold=True),
            Columns("Credits now", spell(given.balance, locale)),
            Columns("Left of this sale", spell(left, locale)),
            Rule(),
            Columns(time_of(given.at_ms, terms.zone), f"Served by {refund.initials}"),
            Text(given.code, bold=True, large=True, centred=True),
            Text("It is in your wallet already. There is nothing to sign.", centred=True),
        ),
        SlipKind.RECEIPT,
    )
    return copy_of(slip) if again else slip


def declined_for_funds_slip(sale: SaleOpened, balance: Money, terms: Terms, at_ms: int) -> Slip:
    """Not enough Credits: what is there, so that nobody has to read it out across the counter."""
    locale = terms.policy.locale
    return Slip(
        (
            *heading(terms),
            Text("Not enough Credits", bold=True, large=True, centred=True),
            Columns("Asked", spell(sale.amount, locale)),
            Columns("Credits left", spell(balance, locale), bold=True),
            Text("Nothing was deducted. Top up in your wallet and show a new code."),
            *_top_up_code(terms),
            Rule(),
            Text(time_of(at_ms, terms.zone)),
        )
    )


def handed_over_slip(sale: SaleOpened, approval: Approved | None, terms: Terms | None) -> Slip:
    """The question after a power cut, to staff. Without a policy it is in plain figures.

    No approval: the till had accepted it offline.
    """
    locale = "en" if terms is None else terms.policy.locale
    zone = UTC if terms is None else terms.zone
    return Slip(
        (
            *(() if terms is None else heading(terms)),
            Text("Handed over?", bold=True, large=True, centred=True),
            Text(
                "This sale was approved just before the power went. "
                "Its green light may never have been seen."
            ),
            *lines_of(sale.amount, sale.lines, locale),
            Columns("Total", spell(sale.amount, locale), bold=True),
            Columns(time_of(sale.at_ms, zone), "offline" if approval is None else approval.code),
            Rule(),
            Text("#  yes: it stays paid"),
            Text("*  held, no: it is paid back"),
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


def heading(terms: Terms) -> tuple[Line, ...]:
    return (
        Text(terms.policy.event_name, bold=True, centred=True),
        Text(terms.policy.stall_name, centred=True),
        Rule(),
    )


def qr_of(sale: SaleName) -> Qr:
    return Qr(receipt_qr.write(sale), "Show this code at this stall for a refund.")


def _body_of(amount: Money, lines: tuple[KeyedLine, ...], terms: Terms) -> tuple[Line, ...]:
    locale = terms.policy.locale
    total = Columns("Total", spell(amount, locale), bold=True)
    return (*lines_of(amount, lines, locale), Rule(), total)


def _given_back(amount: Money, left_in_cents: int, terms: Terms) -> tuple[Line, ...]:
    given_back = amount.amount_in_cents - left_in_cents
    if given_back <= 0:
        return ()
    spelled = spell(Money(given_back, amount.currency), terms.policy.locale)
    return (Columns("Given back since", spelled, bold=True),)


def _name_of(number: int, policy: Policy) -> str:
    """As the price list names it today."""
    product = policy.product(number)
    return f"product {number}" if product is None else product.name


def _top_up_code(terms: Terms) -> tuple[Qr, ...]:
    url = terms.policy.top_up_url
    return () if url is None else (Qr(url, "Scan to top up."),)


def lines_of(amount: Money, lines: tuple[KeyedLine, ...], locale: str) -> tuple[Columns, ...]:
    currency = amount.currency
    if not lines:
        return (Columns("Amount", spell(amount, locale)),)
    return tuple(
        Columns(
            f"{line.quantity} x {line.name}",
            spell(Money(line.quantity * line.unit_price_in_cents, currency), locale),
        )
        for line in lines
    )


def time_of(at_ms: int, zone: tzinfo) -> str:
    return (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone).strftime("%Y-%m-%d %H:%M")
