import pytest

from tests.journeys.bar import APPROVED_HZ, DECLINED_HZ, REFRESH_HZ, TOP_UP, Bar
from venue.lights import Light

pytestmark = pytest.mark.xdist_group("venue")


def test_a_sale_beyond_the_balance_is_declined_and_the_slip_says_what_is_left(bar: Bar) -> None:
    guest = bar.guest()
    watch = bar.watch()

    sale = bar.counter.sell("2001#", guest.fresh_qr().digits)

    assert (sale.light, sale.outcome) == (Light.DECLINED, "insufficient_funds")
    watch.await_tones(DECLINED_HZ, 2)
    slip = watch.await_paper()
    assert "Not enough Credits" in slip
    assert "Asked 20.01 EUR" in slip
    assert "Credits left 20.00 EUR" in slip
    assert [row.outcome for row in watch.audited("deduct")] == ["insufficient_funds"]
    assert watch.posted() == []
    assert guest.balance() == TOP_UP


def test_the_last_cent_can_be_spent_and_then_none(bar: Bar) -> None:
    guest = bar.guest()
    assert bar.counter.sell("2000#", guest.fresh_qr().digits).light is Light.APPROVED
    assert guest.balance() == 0
    sale = bar.counter.sell("1#", guest.fresh_qr().digits)
    assert (sale.light, sale.outcome) == (Light.DECLINED, "insufficient_funds")
    assert guest.balance() == 0


def test_whoever_tops_up_after_a_decline_pays_with_the_same_qr(bar: Bar) -> None:
    """A declined QR is not used up: only an approval spends it."""
    guest = bar.guest()
    qr = guest.fresh_qr().digits
    assert bar.counter.sell("3000#", qr).light is Light.DECLINED
    guest.top_up()
    watch = bar.watch()
    assert bar.counter.sell("3000#", qr).light is Light.APPROVED
    watch.await_tones(APPROVED_HZ, 1)
    assert guest.balance() == 2 * TOP_UP - 3000


def test_a_screenshot_of_a_qr_that_has_paid_pays_for_nothing_more(bar: Bar) -> None:
    guest = bar.guest()
    used = guest.fresh_qr().digits
    assert bar.counter.sell("100#", used).light is Light.APPROVED
    watch = bar.watch()

    sale = bar.counter.sell("100#", used)

    assert (sale.light, sale.outcome) == (Light.REFRESH_QR, "token_already_used")
    watch.await_tones(REFRESH_HZ, 3)
    assert [row.outcome for row in watch.audited("deduct")] == ["token_already_used"]
    assert watch.posted() == []
    assert watch.approvals() == 0
    assert guest.balance() == TOP_UP - 100


def test_who_never_topped_up_has_nothing_and_is_told_so(bar: Bar) -> None:
    guest = bar.guest(with_credits=False)
    watch = bar.watch()
    sale = bar.counter.sell("100#", guest.fresh_qr().digits)
    assert (sale.light, sale.outcome) == (Light.DECLINED, "insufficient_funds")
    assert "Credits left 0.00 EUR" in watch.await_paper()
    assert watch.posted() == []


def test_each_pays_from_their_own_wallet(bar: Bar) -> None:
    first, second = bar.guest(), bar.guest()
    watch = bar.watch()
    assert bar.counter.sell("300#", first.fresh_qr().digits).light is Light.APPROVED
    assert bar.counter.sell("400#", second.fresh_qr().digits).light is Light.APPROVED
    assert [(row.email, row.amount_in_cents) for row in watch.posted()] == [
        (first.email, 300),
        (second.email, 400),
    ]
    assert (first.balance(), second.balance()) == (TOP_UP - 300, TOP_UP - 400)
    assert bar.venue.reconcile()["balanced"] is True
