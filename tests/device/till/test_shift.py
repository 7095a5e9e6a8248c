"""What a journal knows of the last sale and of the shift, entry by entry."""

from device.till.contents import AskToDeduct, AskToRefund
from device.till.entries import CancelReason, RefundAnswered, SaleAnswered, SaleCancelled
from device.till.shift import Sold
from device.till.standing import Standing
from protocol.messages import Refunded, SaleName
from protocol.money import Money
from protocol.receipt_qr import write
from tests.device.stage import EPOCH_MS, Stage, a_wallet_qr, approved, ready


def sell(stage: Stage, keys: str, cents: int, number: int) -> str:
    stage.wait(6)
    stage.press(keys)
    stage.show(a_wallet_qr(number))
    sent = stage.last(AskToDeduct)
    stage.answer(approved(cents), sent)
    stage.wait(3)
    return sent.content.key


def refund(stage: Stage, key: str, cents: int, left: int) -> None:
    stage.press("B")
    stage.show(write(SaleName("till-1", key)))
    stage.press(f"{cents}#")
    given = Refunded(
        "0198c0df", Money(cents, "EUR"), left, Money(1800, "EUR"), "RF7-42P1", EPOCH_MS
    )
    stage.answer(given, stage.last(AskToRefund))
    stage.wait(6)


def test_sales_and_refunds_add_up_by_product() -> None:
    stage = ready()
    sell(stage, "A1A1A3#", 1100, 1)
    key = sell(stage, "300#", 300, 2)
    refund(stage, key, 100, 200)
    shift = stage.standing.shift
    assert (shift.sales, shift.sales_in_cents) == (2, 1400)
    assert (shift.refunds, shift.refunds_in_cents, shift.net_in_cents) == (1, 100, 1300)
    assert shift.products == (Sold(1, "Beer", 2, 900), Sold(3, "Water", 1, 200))


def test_what_was_given_back_of_the_last_sale_is_known() -> None:
    stage = ready()
    first = sell(stage, "500#", 500, 1)
    last = sell(stage, "300#", 300, 2)
    refund(stage, first, 500, 0)
    assert stage.standing.last_sale is not None
    assert stage.standing.last_sale.left_in_cents == 300
    refund(stage, last, 100, 200)
    assert stage.standing.last_sale.left_in_cents == 200


def test_a_sale_taken_back_after_a_power_cut_counts_no_more() -> None:
    stage = ready()
    key = sell(stage, "A1#", 450, 1)
    stage.journal.pop()  # whether the light was seen is not known
    stage.journal.append(SaleCancelled(key, CancelReason.NOT_HANDED_OVER))
    standing = stage.standing
    assert standing.last_sale is None
    assert (standing.shift.sales, standing.shift.sales_in_cents) == (0, 0)
    assert standing.shift.products == ()


def test_the_sale_before_stays_the_last_one_when_another_is_taken_back() -> None:
    stage = ready()
    first = sell(stage, "A1#", 450, 1)
    stage.journal.pop()
    second = sell(stage, "300#", 300, 2)
    stage.journal.append(SaleCancelled(first, CancelReason.NOT_HANDED_OVER))
    assert stage.standing.last_sale is not None
    assert stage.standing.last_sale.sale.key == second


def test_answers_about_what_this_journal_does_not_know_change_nothing() -> None:
    given = Refunded("t", Money(1, "EUR"), 0, Money(1, "EUR"), "c", EPOCH_MS)
    standing = Standing().after(1, RefundAnswered("unknown-key-000000", given, "token"))
    standing = standing.after(2, SaleAnswered("unknown-key-000000", approved(), "token"))
    assert (standing.shift, standing.last_sale) == (Standing().shift, None)
