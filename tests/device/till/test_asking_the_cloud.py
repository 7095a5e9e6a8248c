"""Balance slips, the last receipt again, and the shift report: questions that move no money."""

from typing import Any

import pytest
from msgspec import structs

from device.till.contents import (
    AskForBalance,
    AskForLastReceipt,
    AskForShiftReport,
    AskToDeduct,
)
from device.till.entries import SaleOpened, SessionEnded
from device.till.events import LinkDown, LinkUp
from device.till.receipt import Columns, Qr, SlipKind
from device.till.signals import Light, Sound
from device.till.states import (
    Asking,
    BalanceWanted,
    Inquiring,
    KeyingAmount,
    LeaveAsked,
    NobodySignedIn,
    Ready,
)
from protocol.messages import (
    BalanceShown,
    LastReceipt,
    Outcome,
    ProductSold,
    Reason,
    SaleLine,
    SaleName,
    ShiftReport,
    SignedOut,
)
from protocol.money import Money
from protocol.receipt_qr import read
from tests.device.stage import (
    EPOCH_MS,
    OTHER_KEY,
    Stage,
    a_badge,
    a_wallet_qr,
    approved,
    declined,
    ready,
)

SHOWN = BalanceShown(Money(1700, "EUR"))


def words(stage: Stage) -> str:
    columns = [f"{e.left} {e.right}" for e in stage.slips[-1].lines if isinstance(e, Columns)]
    return " ".join((*stage.texts(), *columns))


def codes(stage: Stage) -> list[str]:
    return [each.content for each in stage.slips[-1].lines if isinstance(each, Qr)]


def wanting_balance() -> Stage:
    stage = ready()
    stage.press("C")
    return stage


def asking_balance() -> Stage:
    stage = wanting_balance()
    stage.show(a_wallet_qr())
    assert isinstance(stage.till.phase, Inquiring)
    return stage


# C


def test_c_asks_for_a_wallet_and_prints_its_balance_and_nothing_about_the_person() -> None:
    stage = wanting_balance()
    assert (stage.light, stage.is_looking) == (Light.SHOW_QR, True)
    stage.show(a_wallet_qr())
    assert (stage.light, stage.is_looking) == (Light.ASKING, False)
    stage.answer(SHOWN, stage.last(AskForBalance))
    assert "17.00 EUR" in words(stage)
    assert "payerpayer1" not in repr(stage.slips[-1])
    assert (stage.light, stage.sounds[-1]) == (Light.READY, Sound.SCANNED)
    assert not any(isinstance(each, SaleOpened) for each in stage.journal)
    stage.show(a_wallet_qr())
    assert stage.till.phase == Ready()


def test_c_prints_the_balance_of_the_wallet_that_was_scanned_first_at_once() -> None:
    stage = ready()
    stage.show(a_wallet_qr())
    stage.answer(SHOWN, stage.last(AskForBalance))
    asked = len(stage.sent)
    stage.press("C")
    assert "17.00 EUR" in words(stage)
    assert len(stage.sent) == asked
    assert stage.light is Light.KEY_THE_AMOUNT
    stage.press("500#")
    assert isinstance(stage.till.phase, Asking)


@pytest.mark.parametrize("is_answered", [True, False])
def test_c_asks_again_where_the_scanned_wallets_balance_is_not_known_yet(is_answered: bool) -> None:
    stage = ready()
    stage.show(a_wallet_qr())
    stage.press("C")
    assert isinstance(stage.till.phase, Inquiring)
    if is_answered:
        stage.answer(SHOWN, stage.last(AskForBalance))
        assert "17.00 EUR" in words(stage)
    else:
        stage.wait(6.5)
        assert "No balance" in words(stage)
    assert stage.light is Light.KEY_THE_AMOUNT
    stage.press("500#")
    assert isinstance(stage.till.phase, Asking)


def test_a_code_that_does_not_count_asks_for_a_fresh_one_and_then_the_balance() -> None:
    stage = asking_balance()
    stage.answer(declined(Reason.TOKEN_EXPIRED), stage.last(AskForBalance))
    assert stage.light is Light.REFRESH_QR
    stage.show(a_wallet_qr())
    stage.wait(3)
    assert stage.light is Light.SHOW_QR
    stage.show(a_wallet_qr(2))
    stage.answer(SHOWN, stage.last(AskForBalance))
    assert "17.00 EUR" in words(stage)


def test_another_code_is_no_wallet() -> None:
    stage = wanting_balance()
    stage.show(a_badge())
    assert stage.light is Light.REFRESH_QR
    stage.wait(3)
    stage.show(a_badge())
    assert stage.lights.count(Light.REFRESH_QR) == 1
    stage.show(a_wallet_qr(1, key=OTHER_KEY))
    assert stage.lights.count(Light.REFRESH_QR) == 2


@pytest.mark.parametrize("reason", [Reason.UNKNOWN_PAYER, Reason.SESSION_ENDED])
def test_a_refusal_says_why_on_paper(reason: Reason) -> None:
    stage = asking_balance()
    stage.answer(declined(reason), stage.last(AskForBalance))
    assert stage.light is Light.DECLINED
    assert "No balance" in words(stage)
    assert isinstance(stage.journal[-1], SessionEnded) == (reason is Reason.SESSION_ENDED)


def test_no_balance_offline_and_none_without_an_answer() -> None:
    stage = ready()
    stage.take(LinkDown())
    stage.press("C")
    assert stage.light is Light.DECLINED
    assert "cannot be reached" in words(stage)
    stage = asking_balance()
    sent = stage.last(AskForBalance)
    stage.wait(4)
    assert stage.light is Light.DECLINED
    assert "cannot be reached" in words(stage)
    slips = len(stage.slips)
    stage.answer(SHOWN, sent)
    assert len(stage.slips) == slips


def test_a_star_or_a_minute_ends_the_wait_for_a_wallet() -> None:
    stage = wanting_balance()
    stage.press("5")
    assert isinstance(stage.till.phase, BalanceWanted)
    stage.press("*")
    assert stage.till.phase == Ready()
    stage = wanting_balance()
    stage.wait(60)
    assert stage.till.phase == Ready()


def test_forged_and_strange_answers_are_ignored() -> None:
    stage = asking_balance()
    sent = stage.last(AskForBalance)
    stage.answer(SHOWN, sent, {"request_hash": "x" * 43})
    stage.answer(approved(), sent)
    assert isinstance(stage.till.phase, Inquiring)
    assert stage.slips == []


def test_a_question_is_sent_again_and_when_the_link_is_back() -> None:
    stage = asking_balance()
    sent = stage.last(AskForBalance)
    stage.wait(2.5)
    assert stage.again == [sent.request_hash] * 2
    stage.take(LinkDown())
    stage.take(LinkUp())
    assert stage.again == [sent.request_hash] * 3
    stage.answer(SHOWN, sent)
    assert "17.00 EUR" in words(stage)


def test_a_held_star_ends_a_question_and_a_key_pressed_early_is_passed_over() -> None:
    stage = asking_balance()
    stage.press("12#*")
    assert isinstance(stage.till.phase, Inquiring)
    stage.hold("*")
    assert stage.till.phase == Ready()
    stage.answer(SHOWN, stage.last(AskForBalance))
    assert stage.slips == []


# D


def last_receipt(**changes: Any) -> LastReceipt:
    receipt = LastReceipt(
        sale=SaleName("till-1", "sale-00000000000001"),
        code="KX7-42P",
        amount=Money(1100, "EUR"),
        left_in_cents=700,
        lines=(SaleLine(1, 2, 450), SaleLine(99, 1, 200)),
        at_ms=EPOCH_MS,
        balance=Money(900, "EUR"),
    )
    return structs.replace(receipt, **changes)


def asking_receipt() -> Stage:
    stage = ready()
    stage.press("D")
    assert stage.light is Light.ASKING
    return stage


def sold() -> Stage:
    stage = ready()
    stage.press("A1A3#")
    stage.show(a_wallet_qr())
    stage.answer(approved(650, 1350), stage.last(AskToDeduct))
    stage.wait(3)
    return stage


def test_d_prints_the_last_receipt_again_marked_copy_with_its_code_and_what_was_given_back() -> (
    None
):
    stage = asking_receipt()
    stage.answer(last_receipt(), stage.last(AskForLastReceipt))
    said = words(stage)
    assert "COPY" in said
    assert "KX7-42P" in said
    assert "2 x Beer 9.00 EUR" in said
    assert "1 x product 99 2.00 EUR" in said
    assert "Credits left 9.00 EUR" in said
    assert "Given back since 4.00 EUR" in said
    assert [read(each) for each in codes(stage)] == [SaleName("till-1", "sale-00000000000001")]
    assert stage.till.phase == Ready()


def test_a_copy_of_an_offline_sales_receipt_says_so_and_no_balance() -> None:
    stage = asking_receipt()
    stage.answer(
        last_receipt(balance=None, left_in_cents=1100, lines=()), stage.last(AskForLastReceipt)
    )
    said = words(stage)
    assert "ACCEPTED OFFLINE" in said
    assert "Amount 11.00 EUR" in said
    assert "Credits left" not in said
    assert "Given back" not in said


def test_a_till_that_sold_nothing_says_so() -> None:
    stage = asking_receipt()
    stage.answer(declined(Reason.NO_RECEIPT), stage.last(AskForLastReceipt))
    assert "No receipt" in words(stage)
    stage = ready()
    stage.take(LinkDown())
    stage.press("D")
    assert "No receipt" in words(stage)


def last_from_memory(stage: Stage) -> None:
    said = words(stage)
    assert "COPY" in said
    assert "KX7-42P" in said
    assert "Served by AL" in said
    assert "1 x Beer 4.50 EUR" in said
    assert len(codes(stage)) == 1


def test_offline_the_copy_is_from_the_tills_own_memory_also_after_a_power_cut() -> None:
    stage = sold()
    receipt = codes(stage)
    stage.take(LinkDown())
    stage.press("D")
    last_from_memory(stage)
    assert codes(stage) == receipt
    stage.cut_power()
    stage.take(LinkDown())
    stage.press("D")
    last_from_memory(stage)


def test_without_an_answer_the_copy_is_from_memory_and_a_late_answer_prints_nothing() -> None:
    stage = sold()
    stage.press("D")
    sent = stage.last(AskForLastReceipt)
    stage.wait(4)
    last_from_memory(stage)
    assert Light.FAULT not in stage.lights
    slips = len(stage.slips)
    stage.answer(last_receipt(), sent)
    assert len(stage.slips) == slips


@pytest.mark.parametrize("reason", [Reason.SESSION_EXPIRED, Reason.DEVICE_QUARANTINED])
def test_a_refusal_of_the_cloud_also_gives_the_copy_from_memory(reason: Reason) -> None:
    stage = sold()
    stage.press("D")
    stage.answer(declined(reason), stage.last(AskForLastReceipt))
    last_from_memory(stage)
    is_over = reason is Reason.SESSION_EXPIRED
    assert isinstance(stage.till.phase, NobodySignedIn) == is_over


def test_strange_answers_to_d_are_ignored() -> None:
    stage = asking_receipt()
    stage.answer(last_receipt(), stage.last(AskForLastReceipt), {"request_hash": "x" * 43})
    stage.answer(approved(), stage.last(AskForLastReceipt))
    assert stage.slips == []
    assert isinstance(stage.till.phase, Inquiring)


# D held


REPORT = ShiftReport(
    currency="EUR",
    since_ms=EPOCH_MS - 3_600_000,
    sales=4,
    sales_in_cents=2000,
    offline=1,
    offline_in_cents=450,
    refunds=1,
    refunds_in_cents=300,
    net_in_cents=1700,
    products=(ProductSold(1, 3, 1350), ProductSold(88, 1, 100)),
)


def leaving() -> Stage:
    stage = sold()
    stage.hold("D")
    return stage


def test_d_held_prints_the_shift_and_the_hash_key_within_ten_seconds_signs_out() -> None:
    stage = leaving()
    stage.wait(3)
    stage.answer(REPORT, stage.last(AskForShiftReport))
    said = words(stage)
    assert "Shift of AL" in said
    assert "Sales: 4 20.00 EUR" in said
    assert "of these offline: 1 4.50 EUR" in said
    assert "Refunds: 1 -3.00 EUR" in said
    assert "Net 17.00 EUR" in said
    assert "3 x Beer 13.50 EUR" in said
    assert "1 x product 88 1.00 EUR" in said
    assert "Press #" in said
    stage.wait(9)
    slips = len(stage.slips)
    stage.press("#")
    assert isinstance(stage.till.phase, NobodySignedIn)
    assert len(stage.slips) == slips


def test_the_report_is_no_receipt_and_prints_late_as_it_is() -> None:
    stage = leaving()
    stage.answer(REPORT, stage.last(AskForShiftReport))
    assert stage.slips[-1].kind is SlipKind.NOTICE


def test_offline_the_figures_are_the_appliances_own_and_signing_out_works() -> None:
    stage = sold()
    stage.take(LinkDown())
    stage.hold("D")
    said = words(stage)
    assert "As this appliance knows it" in said
    assert "Sales: 1 6.50 EUR" in said
    assert "1 x Beer 4.50 EUR" in said
    stage.press("#")
    assert isinstance(stage.till.phase, NobodySignedIn)


def test_without_an_answer_the_figures_are_the_appliances_own() -> None:
    stage = leaving()
    sent = stage.last(AskForShiftReport)
    stage.wait(4)
    assert "As this appliance knows it" in words(stage)
    slips = len(stage.slips)
    stage.answer(REPORT, sent)
    assert len(stage.slips) == slips
    stage.press("#")
    assert len(stage.slips) == slips


def test_whoever_signs_out_before_the_answer_has_the_appliances_own_figures() -> None:
    stage = leaving()
    stage.press("#")
    assert isinstance(stage.till.phase, NobodySignedIn)
    assert "As this appliance knows it" in words(stage)
    assert "Press #" not in words(stage)


def test_a_refused_report_does_not_keep_anybody_from_signing_out() -> None:
    stage = leaving()
    stage.answer(declined(Reason.SESSION_ENDED), stage.last(AskForShiftReport))
    assert "As this appliance knows it" in words(stage)
    stage.press("#")
    assert isinstance(stage.till.phase, NobodySignedIn)


@pytest.mark.parametrize("outcome", [approved(), SignedOut("session-0123456789")])
def test_strange_answers_to_the_report_are_ignored(outcome: Outcome) -> None:
    stage = leaving()
    slips = len(stage.slips)
    stage.answer(outcome, stage.last(AskForShiftReport))
    stage.answer(REPORT, stage.last(AskForShiftReport), {"request_hash": "x" * 43})
    assert len(stage.slips) == slips
    assert isinstance(stage.till.phase, LeaveAsked)


def test_a_new_shift_begins_at_nothing() -> None:
    stage = leaving()
    stage.press("#")
    stage.show(a_badge())
    assert not isinstance(stage.till.phase, KeyingAmount)
