"""What each letter says: plain words, amounts and times as the event's people write them."""

from datetime import UTC, datetime
from typing import assert_never

from cloud.courier.letters.page import Page, Row, Ticket
from cloud.locales import format_moment, format_money
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

_NOT_YOU = "If this was not you, you need not do anything."
_CARD_DAYS = "Your bank may take up to ten working days to show it."


def write(letter: Letter) -> Page:
    match letter:
        case OneTimeCode():
            return _one_time_code(letter)
        case ConsoleInvitation():
            return _console_invitation(letter)
        case TopUpReceipt():
            return _top_up_receipt(letter)
        case PosReceipt():
            return _pos_receipt(letter)
        case OrderPaid():
            return _order_paid(letter)
        case OrderClosed():
            return _order_closed(letter)
        case CashOutEnded():
            return _cash_out_ended(letter)
        case CashOutNotPaid():
            return _cash_out_not_paid(letter)
        case _:
            assert_never(letter)


def _one_time_code(letter: OneTimeCode) -> Page:
    return Page(
        # Not in the subject: that shows on a locked phone.
        "Your sign-in code",
        ("Type this code where you are signing in:",),
        secret=letter.code,
        closing=(
            f"It works once, within {letter.valid_minutes} minutes.",
            "Nobody of ours will ever ask you for it. " + _NOT_YOU,
        ),
    )


def _console_invitation(letter: ConsoleInvitation) -> Page:
    return Page(
        "Your access to the console",
        (
            f"You have been given access as {letter.user_name}.",
            "Choose a password and set up your second factor here:",
        ),
        link=("Set up my access", letter.link),
        closing=("The link works once. Whoever has it can become you: do not pass it on.",),
    )


def _top_up_receipt(letter: TopUpReceipt) -> Page:
    amount = _money(letter, letter.amount)
    return Page(
        f"Receipt: {amount} of Credits",
        (f"Your top-up of {amount} is in your wallet.",),
        rows=(
            Row("Date", _moment(letter)),
            Row("Reference", letter.reference),
            Row("Paid by card", amount),
            Row("Balance after it", _money(letter, letter.balance), is_total=True),
        ),
        closing=("Keep this letter as your receipt.",),
    )


def _pos_receipt(letter: PosReceipt) -> Page:
    amount = _money(letter, letter.amount)
    what = "Refund" if letter.is_refund else "Receipt"
    happened = (
        f"{amount} came back to your wallet at {letter.stall_name}, {letter.event_name}."
        if letter.is_refund
        else f"You paid {amount} at {letter.stall_name}, {letter.event_name}."
    )
    return Page(
        f"{what}: {amount} at {letter.stall_name}",
        (happened,),
        rows=(
            *_lines(letter, letter.lines),
            Row("Back in your wallet" if letter.is_refund else "Paid", amount, is_total=True),
            Row("Date", _moment(letter)),
            Row("Receipt", letter.code),
        ),
        closing=("You asked for these letters; you can turn them off in your wallet.",),
    )


def _order_paid(letter: OrderPaid) -> Page:
    count = len(letter.ticket_codes)
    tickets = tuple(
        Ticket(f"Ticket {number} of {count}", code)
        for number, code in enumerate(letter.ticket_codes, start=1)
    )
    parts = [
        Row(label, _money(letter, part))
        for label, part in (
            ("Paid with Credits", letter.credits_part),
            ("Paid by card", letter.card_part),
        )
        if part.amount_in_cents
    ]
    noun = "ticket" if count == 1 else "tickets"
    return Page(
        f"Your {noun} for {letter.event_name}",
        (
            (
                f"Thank you. Here {'is' if count == 1 else 'are'} your {count} {noun} "
                f"for {letter.event_name}."
            ),
        ),
        rows=(
            *_lines(letter, letter.lines),
            Row("Total", _money(letter, letter.total), is_total=True),
            *parts,
            Row("Date", _moment(letter)),
            Row("Order", letter.order_id),
        ),
        tickets=tickets,
        closing=("Each code lets one person in. Whoever has it can use it.",),
    )


def _order_closed(letter: OrderClosed) -> Page:
    back: list[Row] = []
    if letter.credits_back.amount_in_cents:
        back.append(Row("Back in your wallet", _money(letter, letter.credits_back)))
    if letter.card_back.amount_in_cents:
        back.append(Row("Back to your card", _money(letter, letter.card_back)))
    closing = ("What you paid is given back in full.",) if back else ("Nothing was paid.",)
    if letter.card_back.amount_in_cents:
        closing = (*closing, _CARD_DAYS)
    return Page(
        f"Your order for {letter.event_name} was closed",
        (f"No tickets were issued for your order for {letter.event_name}.",),
        rows=(*back, Row("Date", _moment(letter)), Row("Order", letter.order_id)),
        closing=closing,
    )


def _cash_out_ended(letter: CashOutEnded) -> Page:
    paid, back = _money(letter, letter.paid), _money(letter, letter.back)
    rows: list[Row] = []
    if letter.paid.amount_in_cents:
        rows.append(Row("To your cards", paid, is_total=True))
    if letter.back.amount_in_cents:
        rows.append(Row("Back in your wallet", back))
    rows.append(Row("Date", _moment(letter)))
    if not letter.paid.amount_in_cents:
        return Page(
            "Your Credits could not be paid out",
            (f"The card provider refused to give back {back}; it is in your wallet again.",),
            rows=tuple(rows),
            closing=("This happens when a card was closed. Please ask the organiser for help.",),
        )
    opening = [f"{paid} of your Credits went back to where they came from."]
    if letter.back.amount_in_cents:
        opening.append(f"The card provider refused {back}, which is in your wallet again.")
    return Page(
        f"{paid} on its way to your card",
        tuple(opening),
        rows=tuple(rows),
        closing=(_CARD_DAYS,),
    )


def _cash_out_not_paid(letter: CashOutNotPaid) -> Page:
    match letter.reason:
        case "wallet_frozen":
            why = "Your wallet owes something or was frozen meanwhile."
            then = "Please ask the organiser; once that is settled you can ask again."
        case "nothing_left":
            why = "Nothing that came from a card was left in your wallet."
            then = "Your latest transactions show what it was spent on."
        case _:
            assert_never(letter.reason)
    return Page(
        "Your Credits were not paid out",
        (why,),
        rows=(Row("Date", _moment(letter)),),
        closing=(then,),
    )


def _lines(letter: Letter, lines: tuple[LetterLine, ...]) -> tuple[Row, ...]:
    return tuple(
        Row(
            f"{line.quantity} x {line.name}",
            _money(letter, Money(line.unit_price_in_cents, _currency(letter)) * line.quantity),
        )
        for line in lines
    )


def _currency(letter: Letter) -> str:
    assert isinstance(letter, PosReceipt | OrderPaid), "only a sale has lines"
    total = letter.amount if isinstance(letter, PosReceipt) else letter.total
    return total.currency


def _money(letter: Letter, money: Money) -> str:
    return format_money(money, letter.locale)


def _moment(letter: Letter) -> str:
    at = datetime.fromtimestamp(letter.at_ms / 1000, UTC)
    return format_moment(at, letter.locale, letter.timezone)
