"""Slips that are no receipt: balances, reports, questions to staff, and what to do next."""

from typing import Final

from device.till.receipt import (
    Columns,
    Line,
    Rule,
    Slip,
    SlipKind,
    Text,
    heading,
    spell,
    time_of,
)
from device.till.shift import Shift
from device.till.states import RefundWanted
from device.till.terms import Terms
from device.till.wording import sentence_of
from protocol.messages import Reason, ShiftReport
from protocol.money import Money

_SIGN_OUT: Final = "Press # within 10 seconds to sign out. Any other key goes on selling."


def balance_slip(balance: Money, terms: Terms, at_ms: int) -> Slip:
    """What is in a wallet, and nothing about whose it is."""
    return Slip(
        (
            *heading(terms),
            Text("Balance", bold=True, centred=True),
            Text(spell(balance, terms.policy.locale), bold=True, large=True, centred=True),
            Rule(),
            Text(time_of(at_ms, terms.zone)),
        )
    )


def refusal_slip(title: str, sentence: str, terms: Terms, at_ms: int) -> Slip:
    """Why nothing came of it, and what to do next."""
    return Slip(
        (
            *heading(terms),
            Text(title, bold=True, large=True, centred=True),
            Text(sentence),
            Rule(),
            Text(time_of(at_ms, terms.zone)),
        )
    )


def updating_slip() -> Slip:
    """For whoever presses a key meanwhile."""
    return Slip(
        (
            Text("Updating", bold=True, large=True, centred=True),
            Text(
                "This appliance is getting a new version of its program. It sells nothing "
                "meanwhile, and starts again by itself in some minutes. Leave it switched on. "
                "Nothing that was sold is lost."
            ),
        ),
        SlipKind.QUESTION,
    )


def new_pin_slip(terms: Terms) -> Slip:
    return Slip(
        (
            *heading(terms),
            Text("New PIN", bold=True, large=True, centred=True),
            Text("Key it once more and #. From now on it belongs to this badge."),
            Text("*  another PIN"),
        ),
        SlipKind.QUESTION,
    )


def no_receipt_slip(terms: Terms, at_ms: int) -> Slip:
    return refusal_slip("No receipt", sentence_of(Reason.NO_RECEIPT), terms, at_ms)


def no_refund_slip(
    wanted: RefundWanted, reason: Reason, left: Money | None, terms: Terms, at_ms: int
) -> Slip:
    """Nothing was given back, why, and what to do next; `left`: of the sale, where it is known."""
    locale = terms.policy.locale
    asked = "all that is left" if wanted.amount is None else spell(wanted.amount, locale)
    return Slip(
        (
            *heading(terms),
            Text("No refund", bold=True, large=True, centred=True),
            Columns("Asked", asked),
            *(() if left is None else (Columns("Left of this sale", spell(left, locale)),)),
            Text(f"Nothing was given back. {sentence_of(reason)}"),
            Rule(),
            Text(time_of(at_ms, terms.zone)),
        )
    )


def refund_unknown_slip(terms: Terms, at_ms: int) -> Slip:
    """No answer: the refund stays open, and must not be made up for in some other way."""
    return Slip(
        (
            *heading(terms),
            Text("Refund: wait", bold=True, large=True, centred=True),
            Text(
                "Nobody knows yet whether it was given back. The appliance goes on asking, and "
                "prints a slip when it knows. Give nothing back by other means. To wait for the "
                "answer here, press B and scan the same receipt."
            ),
            Rule(),
            Text(time_of(at_ms, terms.zone)),
        ),
        SlipKind.QUESTION,
    )


def supervisor_slip(wanted: RefundWanted, terms: Terms) -> Slip:
    locale = terms.policy.locale
    amount = "all that is left" if wanted.amount is None else spell(wanted.amount, locale)
    return Slip(
        (
            *heading(terms),
            Text("Supervisor?", bold=True, large=True, centred=True),
            Columns("Refund", amount),
            Text(sentence_of(Reason.APPROVAL_NEEDED)),
            Text("*  no refund"),
        ),
        SlipKind.QUESTION,
    )


def shift_slip(report: ShiftReport, terms: Terms, initials: str, at_ms: int) -> Slip:
    """The cloud's figures of this session, and the question whether it ends."""
    policy = terms.policy

    def spelled(cents: int) -> str:
        return spell(Money(cents, report.currency), policy.locale)

    products: list[Line] = []
    for each in report.products:
        product = policy.product(each.product)
        name = f"product {each.product}" if product is None else product.name
        products.append(Columns(f"{each.quantity} x {name}", spelled(each.total_in_cents)))
    return Slip(
        (
            *heading(terms),
            Text(f"Shift of {initials}", bold=True, large=True, centred=True),
            Columns(time_of(report.since_ms, terms.zone), time_of(at_ms, terms.zone)),
            Rule(),
            Columns(f"Sales: {report.sales}", spelled(report.sales_in_cents)),
            Columns(f"  of these offline: {report.offline}", spelled(report.offline_in_cents)),
            Columns(f"Refunds: {report.refunds}", spelled(-report.refunds_in_cents)),
            Columns("Net", spelled(report.net_in_cents), bold=True),
            *_with_rule(products),
            Text(_SIGN_OUT),
        )
    )


def own_shift_slip(
    shift: Shift, terms: Terms, initials: str, at_ms: int, *, is_leaving: bool
) -> Slip:
    """The same in the till's own figures, which know nothing of refunds made elsewhere.

    `is_leaving`: it is still to be said whether the session ends.
    """
    policy = terms.policy

    def spelled(cents: int) -> str:
        return spell(policy.money(cents), policy.locale)

    products: list[Line] = [
        Columns(f"{each.quantity} x {each.name}", spelled(each.total_in_cents))
        for each in shift.products
    ]
    return Slip(
        (
            *heading(terms),
            Text(f"Shift of {initials}", bold=True, large=True, centred=True),
            Text("As this appliance knows it: the cloud did not answer.", centred=True),
            Columns("Until", time_of(at_ms, terms.zone)),
            Rule(),
            Columns(f"Sales: {shift.sales}", spelled(shift.sales_in_cents)),
            Columns(f"  of these offline: {shift.offline}", spelled(shift.offline_in_cents)),
            Columns(f"Refunds: {shift.refunds}", spelled(-shift.refunds_in_cents)),
            Columns("Net", spelled(shift.net_in_cents), bold=True),
            *_with_rule(products),
            *((Text(_SIGN_OUT),) if is_leaving else ()),
        )
    )


def _with_rule(products: list[Line]) -> tuple[Line, ...]:
    return (Rule(), *products, Rule()) if products else (Rule(),)
