import pytest

from device.till.entries import SaleAbandoned, SaleAnswered, SaleCancelled, SaleOpened
from tests.journeys.bar import APPROVED_HZ, FAULT_HZ, TOP_UP, WITHIN_S, Bar, eventually, now
from venue.lights import Light
from venue.stack import EVENT, STAFF, STALL

pytestmark = pytest.mark.xdist_group("venue")


def test_a_sale_by_amount_is_deducted_once_and_lights_green_with_a_beep_and_a_receipt(
    bar: Bar,
) -> None:
    guest = bar.guest()
    watch = bar.watch()

    sale = bar.counter.sell("500#", guest.fresh_qr().digits)

    assert sale.light is Light.APPROVED
    watch.await_tones(APPROVED_HZ, 1)
    receipt = watch.await_paper()
    assert "5.00 EUR" in receipt
    assert "15.00 EUR" in receipt
    assert "Served by MB" in receipt
    assert guest.balance() == TOP_UP - 500
    [posting] = watch.posted()
    assert (posting.type, posting.amount_in_cents, posting.email) == ("Deduct", 500, guest.email)
    assert posting.reference in receipt
    place = (posting.event_id, posting.stall_id, posting.device_id, posting.staff_id)
    assert place == (EVENT, STALL, bar.appliance.device_id, STAFF)
    assert watch.approvals() == 1


def test_one_correlation_id_runs_from_the_keypad_to_the_ledger(bar: Bar) -> None:
    guest = bar.guest()
    watch = bar.watch()
    bar.counter.sell("120#", guest.fresh_qr().digits)

    [posting] = watch.posted()
    [opened] = watch.journaled(SaleOpened)
    [answered] = watch.journaled(SaleAnswered)
    [told] = watch.logged("sale_timed")
    [audited] = watch.audited("deduct")
    assert opened.correlation_id == told["correlation_id"] == posting.correlation_id
    assert opened.key == answered.key == told["key"] == posting.idempotency_key == audited.subject
    assert (audited.outcome, audited.device_id) == ("approved", bar.appliance.device_id)


def test_a_sale_by_products_is_priced_by_the_policy_and_spelled_out_on_the_receipt(
    bar: Bar,
) -> None:
    guest = bar.guest()
    watch = bar.watch()

    sale = bar.counter.sell("A1A1A3#", guest.fresh_qr().digits)

    assert sale.light is Light.APPROVED
    receipt = watch.await_paper()
    for printed in ("2 x Lager 0.4", "9.00 EUR", "1 x Water 0.5", "2.50 EUR", "11.50 EUR"):
        assert printed in receipt
    [posting] = watch.posted()
    assert posting.amount_in_cents == 1150
    assert sorted((line["product"], line["quantity"]) for line in posting.lines) == [(1, 2), (3, 1)]
    assert guest.balance() == TOP_UP - 1150


def test_a_star_while_scanning_lets_the_customer_go_and_asks_the_cloud_nothing(bar: Bar) -> None:
    guest = bar.guest()
    qr = guest.fresh_qr().digits
    watch = bar.watch()

    bar.counter.key("500#")
    bar.counter.abandon()

    [opened] = watch.journaled(SaleOpened)
    [abandoned] = watch.journaled(SaleAbandoned)
    assert abandoned.key == opened.key
    assert watch.posted() == []
    assert watch.audited("deduct") == []
    # Whoever comes next begins anew: a fresh key, and nothing of the 5.00.
    assert bar.counter.sell("200#", qr).light is Light.APPROVED
    [posting] = watch.posted()
    assert posting.idempotency_key != opened.key
    assert guest.balance() == TOP_UP - 200


def test_a_held_star_while_asking_shows_the_fault_and_gives_back_what_was_deducted(
    bar: Bar,
) -> None:
    guest = bar.guest()
    watch = bar.watch()
    qr = guest.fresh_qr().digits
    bar.counter.key("500#")
    bar.appliance.network.swallow_replies()
    began = bar.counter.show_phone(qr, "easy")
    eventually(lambda: guest.balance() == TOP_UP - 500 or None, "the cloud to deduct")

    bar.cancel_held()

    sale = bar.counter.await_result(began)
    assert sale.light is Light.FAULT
    watch.await_tones(FAULT_HZ, 1)
    [cancelled] = watch.journaled(SaleCancelled)
    mended_at = now()
    bar.appliance.network.mend()
    eventually(lambda: guest.balance() == TOP_UP or None, "what was deducted to be given back")
    deduct, refund = watch.posted()
    assert (deduct.type, refund.type) == ("Deduct", "Refund")
    assert refund.reversal_of_transaction_id == deduct.id
    assert deduct.idempotency_key == cancelled.key
    assert watch.approvals() == 0
    bar.edge.tap("*")  # the fault was seen
    bar.await_ready(mended_at)
    assert bar.counter.sell("100#", guest.fresh_qr().digits).light is Light.APPROVED


def test_a_till_at_rest_sells_again_and_again(bar: Bar) -> None:
    guest = bar.guest()
    watch = bar.watch()
    for spent in (100, 200, 300):
        assert bar.counter.sell("100#", guest.fresh_qr().digits).light is Light.APPROVED
        assert guest.balance() == TOP_UP - spent
    assert watch.approvals() == len(watch.posted()) == 3
    assert bar.venue.reconcile()["balanced"] is True


def test_once_the_lamp_is_green_the_sale_stands_in_the_ledger_and_in_the_journal(bar: Bar) -> None:
    guest = bar.guest()
    watch = bar.watch()
    bar.counter.key("150#")
    began = bar.counter.show_phone(guest.fresh_qr().digits, "easy")
    bar.edge.wait_for_approval(began, WITHIN_S)
    assert len(watch.posted()) == 1
    assert len(watch.journaled(SaleAnswered)) == 1
