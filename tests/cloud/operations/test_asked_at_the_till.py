"""The last receipt and the shift report; and that staff are told nothing else of anybody."""

from typing import Any, get_args

from protocol.messages import (
    Approved,
    Declined,
    LastReceipt,
    Outcome,
    ProductSold,
    Reason,
    SaleLine,
    SaleName,
    ShiftReport,
)
from tests.cloud.floor import Floor, eur
from tests.cloud.operations.giving_back import (
    add_staff,
    approve,
    last_receipt,
    refund,
    shift_report,
    sold,
)

TOLD = {
    # Their own session, and when things were done or will be over.
    "session_id",
    "session_over",
    "staff_id",
    "initials",
    "event_id",
    "stall_id",
    "expires_at_ms",
    "at_ms",
    "since_ms",
    "cloud_time_ms",
    # This sale, this refund, this question: what the appliance itself asked about.
    "transaction_id",
    "amount",
    "code",
    "reason",
    "reversed",
    "review_id",
    "approval_id",
    "left_in_cents",
    "short_in_cents",
    "token_seen_before",
    # How far the cloud knows its own journal; payers, by their opaque names, that owe; new keys.
    "journal_known",
    "denied",
    "wallet_keys",
    # A balance; and the opaque names that the appliance read from the QR itself.
    "balance",
    "payer_id",
    "token_id",
    # The last receipt: a sale of this appliance.
    "sale",
    "lines",
    # The session's own figures.
    "currency",
    "sales",
    "sales_in_cents",
    "offline",
    "offline_in_cents",
    "refunds",
    "refunds_in_cents",
    "net_in_cents",
    "products",
    # The appliance's own upkeep.
    "policy_version",
    "checkpoint",
    "resend",
}


def test_staff_are_told_a_balance_and_the_last_receipt_and_nothing_else_of_an_attendee() -> None:
    told = {name for outcome in get_args(Outcome) for name in outcome.__struct_fields__}
    assert told == TOLD
    of_a_person = ("user", "email", "name", "history", "transactions", "wallets", "phone")
    assert not [name for name in told for word in of_a_person if word in name]
    about_who_paid = {"payer_id", "token_id"}
    assert about_who_paid.isdisjoint(LastReceipt.__struct_fields__)
    assert about_who_paid.isdisjoint(ShiftReport.__struct_fields__)


def test_the_last_receipt_says_again_what_was_printed(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sold(floor, till, guest, 500)
    floor.pass_time(seconds=1)
    sale = till.deduct(floor.qr(guest), 350)
    approved = floor.ask_one(till, sale)
    assert isinstance(approved, Approved)
    floor.ask(till, refund(till, sale, 50))
    asked = last_receipt(till)
    assert floor.ask_one(till, asked) == LastReceipt(
        sale=SaleName("till-1", sale.key),
        code=approved.code,
        amount=eur(350),
        left_in_cents=300,
        lines=(SaleLine(1, 1, 350),),
        at_ms=approved.at_ms,
        balance=eur(1150),
    )
    [record] = floor.audit(action="last_receipt")
    assert (record.actor, record.outcome, record.subject) == (
        "staff:mia",
        "last_receipt",
        asked.key,
    )


def test_the_last_receipt_is_this_appliances_at_this_stall_and_stands(floor: Floor) -> None:
    till, other = floor.add_till("till-1"), floor.add_till("till-2")
    grill, guest = floor.add_till("till-3", stall_id="grill"), floor.add_guest(20_000)
    sold(floor, other, guest)
    none = Declined(Reason.NO_RECEIPT)
    assert floor.ask_one(till, last_receipt(till)) == none
    assert floor.ask_one(grill, last_receipt(grill)) == none
    kept = sold(floor, till, guest, 350)
    floor.pass_time(seconds=1)
    cancelled = sold(floor, till, guest, 400)
    floor.ask(till, till.cancel(cancelled))
    answer = floor.ask_one(till, last_receipt(till))
    assert answer.sale == SaleName("till-1", kept.key)


def test_an_offline_sales_receipt_has_no_balance(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = till.accept_offline(till.deduct(floor.qr(guest), 350))
    floor.pass_time(minutes=5)
    floor.ask(till, sale)
    answer = floor.ask_one(till, last_receipt(till))
    assert isinstance(answer, LastReceipt)
    assert (answer.balance, answer.at_ms) == (None, sale.accepted_at_ms)


def test_the_shift_report_adds_up_one_session_at_one_appliance(floor: Floor) -> None:
    till, other = floor.add_till("till-1"), floor.add_till("till-2")
    guest = floor.add_guest(20_000)
    sold(floor, other, guest, 999)
    before = sold(floor, till, guest, 777)
    floor.pass_time(minutes=1)
    till.session_id = floor.ask_one(till, till.sign_in(floor)).session_id

    lines = (SaleLine(1, 2, 350), SaleLine(7, 1, 100))
    floor.ask(till, till.deduct(floor.qr(guest), 800, lines=lines))
    part, whole, cancelled = (sold(floor, till, guest, cents) for cents in (350, 500, 600))
    offline = till.accept_offline(till.deduct(floor.qr(guest), 450))
    floor.pass_time(minutes=1)
    floor.ask(
        till,
        offline,
        refund(till, part, 50),
        refund(till, whole),
        refund(till, before, 77),
        till.cancel(cancelled),
    )
    floor.ask(other, refund(other, part, 100))
    report = floor.ask_one(till, shift_report(till))
    assert report == ShiftReport(
        currency="EUR",
        since_ms=report.since_ms,
        sales=5,
        sales_in_cents=800 + 350 + 500 + 600 + 450,
        offline=1,
        offline_in_cents=450,
        refunds=4,
        refunds_in_cents=50 + 500 + 77 + 600,
        net_in_cents=2700 - 1227,
        products=(ProductSold(1, 4, 700 + 350 + 450), ProductSold(7, 1, 100)),
    )
    assert floor.ask_one(other, shift_report(other)).net_in_cents == 999 - 100


def test_what_a_shift_sold_is_not_the_next_ones(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    add_staff(floor, "kim", is_supervisor=False)
    late = till.accept_offline(till.deduct(floor.qr(guest), 350))
    floor.pass_time(minutes=1)
    badge = approve(floor, till, late, staff_id="kim").badge
    signed_in = floor.ask_one(till, till.sign_in(floor, pin="8642", badge=badge))
    till.session_id = signed_in.session_id
    floor.ask(till, late)
    report = floor.ask_one(till, shift_report(till))
    assert (report.sales, report.net_in_cents, report.products) == (0, 0, ())


def test_nobody_asks_without_a_standing_session(floor: Floor) -> None:
    till, other = floor.add_till("till-1"), floor.add_till("till-2")

    def declines(reason: Reason, **changes: Any) -> None:
        for asked in (last_receipt(till), shift_report(till)):
            said = {name: getattr(asked, name) for name in asked.__struct_fields__} | changes
            assert floor.ask_one(till, type(asked)(**said)) == Declined(reason)
            [record] = floor.audit(subject=asked.key)
            assert (record.actor, record.outcome) == ("device:till-1", reason.value)

    declines(Reason.SESSION_UNKNOWN, session_id=other.session_id)
    declines(Reason.SESSION_UNKNOWN, session_id="s" * 22)
    floor.ask(till, till.sign_out())
    declines(Reason.SESSION_ENDED)
    floor.revoke(till)
    declines(Reason.DEVICE_REVOKED)
