"""What staff do beside selling, by keys and codes alone: two stalls, one supervisor, real parts."""

from collections.abc import Iterator
from typing import Any, Final

import pytest
import zxingcpp

from device.till.entries import RefundAnswered, RefundOpened, RefundShown, SaleOpened
from protocol import receipt_qr
from protocol.messages import SaleName
from tests.journeys.bar import (
    BAR_DOCUMENT,
    PIN,
    TOP_UP,
    WITHIN_S,
    Bar,
    Books,
    Guest,
    Watch,
    eventually,
    now,
)
from venue.desk import IssuedBadge
from venue.edge import Paper
from venue.lights import Light
from venue.paper import plain, render
from venue.phone import badge
from venue.stack import EVENT, STAFF, STALL, Venue

pytestmark = pytest.mark.xdist_group("counter")

KITCHEN: Final = "kitchen"
SUPERVISOR: Final = "sam"
SUPERVISORS_PIN: Final = "60214873"
REFUNDED_HZ: Final = 1485

DOCUMENT: Final[dict[str, Any]] = BAR_DOCUMENT | {
    "stalls": [*BAR_DOCUMENT["stalls"], {"id": KITCHEN, "name": "Kitchen", "products": []}],
    "staff": [
        *BAR_DOCUMENT["staff"],
        {"id": SUPERVISOR, "name": "Sam Ode", "initials": "SO", "is_supervisor": True},
    ],
    "refunds": {"staff_limit_in_cents": 1000},
}


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Venue]:
    with Venue(tmp_path_factory.mktemp("counter"), document=DOCUMENT, appliances=2) as venue:
        venue.desk.move_device(venue.appliances[1].device_id, EVENT, KITCHEN)
        yield venue


@pytest.fixture(scope="module")
def books(venue: Venue) -> Iterator[Books]:
    books = Books(f"sqlite:///{venue.folder / 'cloud' / 'cloud.sqlite'}")
    yield books
    books.close()


@pytest.fixture(scope="module")
def mias(venue: Venue) -> IssuedBadge:
    return venue.desk.issue_badge(EVENT, STAFF, PIN)


@pytest.fixture(scope="module")
def supervisors(venue: Venue) -> IssuedBadge:
    return venue.desk.issue_badge(EVENT, SUPERVISOR, SUPERVISORS_PIN)


@pytest.fixture(scope="module")
def _bar(venue: Venue, books: Books, mias: IssuedBadge) -> Bar:
    return Bar(venue, books, mias)


@pytest.fixture
def bar(_bar: Bar) -> Bar:
    _bar.come_to_rest()
    return _bar


@pytest.fixture
def kitchen(venue: Venue, books: Books, mias: IssuedBadge) -> Bar:
    kitchen = Bar(venue, books, mias)
    kitchen.appliance = venue.appliances[1]
    kitchen.come_to_rest()
    return kitchen


def hold_up(bar: Bar, code: str) -> None:
    """A printed code before the camera: a receipt's."""
    bar.edge.show(badge(code, bar.venue.rng(), "easy"))


def codes_on(paper: Paper) -> list[str]:
    """What a camera reads on this slip."""
    return [each.text for each in zxingcpp.read_barcodes(render(paper.printed))]


def slips(bar: Bar, watch: Watch) -> list[str]:
    found = [paper for paper in bar.edge.papers if paper.at > watch.since]
    return [" ".join(plain(paper.printed).split()) for paper in found]


def await_slip(bar: Bar, watch: Watch, said: str) -> str:
    """The first slip since that says this."""
    return eventually(
        lambda: next((slip for slip in slips(bar, watch) if said in slip), None),
        f"a slip with {said!r}",
    )


def sell(bar: Bar, keys: str, guest: Guest) -> str:
    """A sale; what its receipt's code says."""
    watch = bar.watch()
    sale = bar.counter.sell(keys, guest.fresh_qr().digits)
    assert sale.light is Light.APPROVED
    assert sale.paper is not None
    [code] = codes_on(sale.paper)
    (opened,) = watch.journaled(SaleOpened)
    assert receipt_qr.read(code) == SaleName(bar.appliance.device_id, opened.key)
    bar.await_ready(sale.lit_at)
    return code


def refund(bar: Bar, code: str, keys: str) -> Watch:
    """`B`, the receipt, and what is keyed then; nobody waits for what comes of it."""
    watch = bar.watch()
    bar.edge.tap("B")
    watch.await_light(Light.SHOW_RECEIPT)
    hold_up(bar, code)
    watch.await_light(Light.KEY_THE_AMOUNT)
    bar.edge.clear()
    watch = bar.watch()
    bar.edge.type(keys)
    return watch


def approve(bar: Bar, supervisor: IssuedBadge, pin: str) -> Watch:
    began = now()
    bar.counter.show_badge(supervisor)
    bar.edge.wait_for_light(Light.KEY_THE_AMOUNT, since=began, timeout_s=WITHIN_S)
    bar.edge.clear()
    watch = bar.watch()
    bar.edge.type(f"{pin}#")
    return watch


def test_scan_first_then_the_amount_deducts_at_once(bar: Bar) -> None:
    guest = bar.guest()
    watch = bar.watch()
    bar.counter.show_phone(guest.fresh_qr().digits, "easy")
    watch.await_light(Light.KEY_THE_AMOUNT)
    bar.edge.clear()
    eventually(lambda: watch.audited("balance") or None, "the question about the balance")
    assert watch.posted() == []
    assert watch.journaled(SaleOpened) == []

    bar.edge.type("A1A3#")

    bar.edge.wait_for_approval(watch.since, WITHIN_S)
    assert "13.00" in watch.await_paper()
    assert guest.balance() == TOP_UP - 700
    assert watch.approvals() == 1
    assert not any(seen.light is Light.SHOW_QR for seen in bar.edge.lights(watch.since))


def test_a_code_that_was_used_is_refused_before_anything_is_keyed(bar: Bar, kitchen: Bar) -> None:
    guest = bar.guest()
    used = guest.fresh_qr().digits
    assert bar.counter.sell("100#", used).light is Light.APPROVED
    watch = kitchen.watch()
    kitchen.counter.show_phone(used, "easy")
    watch.await_light(Light.REFRESH_QR)
    kitchen.edge.clear()
    assert guest.balance() == TOP_UP - 100


def test_c_prints_a_balance_and_nothing_about_the_person(bar: Bar) -> None:
    guest = bar.guest()
    watch = bar.watch()
    bar.edge.tap("C")
    watch.await_light(Light.SHOW_QR)
    bar.counter.show_phone(guest.fresh_qr().digits, "easy")
    slip = watch.await_paper()
    bar.edge.clear()
    assert "Balance 20.00 EUR" in slip
    assert guest.email not in slip
    assert watch.posted() == []
    assert watch.audited("balance")


def test_d_prints_the_last_receipt_again_with_the_same_code(bar: Bar) -> None:
    guest = bar.guest()
    code = sell(bar, "A1A1#", guest)
    watch = bar.watch()
    bar.edge.tap("D")
    slip = watch.await_paper()
    assert "COPY" in slip
    assert "9.00 EUR" in slip
    paper = bar.edge.wait_for_paper(watch.since)
    assert codes_on(paper) == [code]


def test_a_part_is_given_back_and_then_more_than_is_left_is_not(bar: Bar) -> None:
    guest = bar.guest()
    code = sell(bar, "600#", guest)

    watch = refund(bar, code, "400#")
    watch.await_light(Light.REFUNDED)
    watch.await_tones(REFUNDED_HZ, 1)
    slip = await_slip(bar, watch, "REFUND")
    assert "Given back 4.00 EUR" in slip
    assert "Credits now 18.00 EUR" in slip
    assert "Left of this sale 2.00 EUR" in slip
    assert watch.approvals() == 0
    assert [(row.type, row.amount_in_cents) for row in watch.posted()] == [("Refund", 400)]
    assert guest.balance() == TOP_UP - 200
    assert [type(each) for each in watch.journaled()][:3] == [
        RefundOpened,
        RefundAnswered,
        RefundShown,
    ]
    bar.await_ready(now())

    watch = refund(bar, code, "300#")
    watch.await_light(Light.DECLINED)
    slip = await_slip(bar, watch, "No refund")
    assert "more than is left" in slip
    assert "Left of this sale 2.00 EUR" in slip
    bar.await_ready(now())

    watch = refund(bar, code, "#")
    watch.await_light(Light.REFUNDED)
    assert "Left of this sale 0.00 EUR" in await_slip(bar, watch, "REFUND")
    assert guest.balance() == TOP_UP


def test_another_stalls_sale_is_not_given_back_here(bar: Bar, kitchen: Bar) -> None:
    guest = bar.guest()
    code = sell(bar, "300#", guest)
    watch = refund(kitchen, code, "#")
    watch.await_light(Light.DECLINED)
    assert "another stall" in await_slip(kitchen, watch, "No refund")
    assert guest.balance() == TOP_UP - 300


def test_above_the_limit_a_supervisors_badge_and_pin_give_it_back(
    bar: Bar, supervisors: IssuedBadge
) -> None:
    guest = bar.guest()
    code = sell(bar, "1500#", guest)
    watch = refund(bar, code, "1200#")
    watch.await_light(Light.SUPERVISOR)
    assert "Supervisor?" in await_slip(bar, watch, "Refund 12.00 EUR")
    assert guest.balance() == TOP_UP - 1500

    wrong = approve(bar, supervisors, "1111")
    wrong.await_light(Light.DECLINED)
    assert "PIN was wrong" in await_slip(bar, wrong, "Not approved")

    def supervisor_again() -> bool | None:
        return bar.edge.light() is Light.SUPERVISOR or None

    eventually(supervisor_again, "the lamp to ask for a supervisor again")
    right = approve(bar, supervisors, SUPERVISORS_PIN)
    right.await_light(Light.REFUNDED)
    assert "Given back 12.00 EUR" in await_slip(bar, right, "REFUND")
    assert guest.balance() == TOP_UP - 300

    opened = [each for each in bar.journal() if isinstance(each, RefundOpened)][-2:]
    assert opened[0].key != opened[1].key
    assert (opened[0].approval_id is None, opened[1].approval_id is None) == (True, False)
    log = bar.appliance.program.log.read_bytes()
    assert SUPERVISORS_PIN.encode() not in log
    assert not any(SUPERVISORS_PIN in repr(each) for each in bar.journal())


def test_nobody_approves_what_they_ask_for(bar: Bar, mias: IssuedBadge) -> None:
    guest = bar.guest()
    code = sell(bar, "1500#", guest)
    watch = refund(bar, code, "#")
    watch.await_light(Light.SUPERVISOR)
    refused = approve(bar, mias, PIN)
    refused.await_light(Light.DECLINED)
    assert "supervisor" in await_slip(bar, refused, "Not approved")
    assert guest.balance() == TOP_UP - 1500


def test_a_refund_whose_answer_is_lost_stays_open_and_the_same_receipt_resumes_it(
    bar: Bar,
) -> None:
    guest = bar.guest()
    code = sell(bar, "500#", guest)
    watch = bar.watch()
    bar.edge.tap("B")
    watch.await_light(Light.SHOW_RECEIPT)
    hold_up(bar, code)
    watch.await_light(Light.KEY_THE_AMOUNT)
    bar.edge.clear()
    bar.appliance.network.swallow_replies()
    bar.edge.tap("#")
    watch.await_light(Light.ASKING)
    bar.edge.hold("*")
    watch.await_light(Light.FAULT)
    assert "Nobody knows yet" in await_slip(bar, watch, "Refund: wait")
    bar.appliance.network.mend()
    assert "Given back 5.00 EUR" in await_slip(bar, watch, "REFUND")
    assert [row.amount_in_cents for row in watch.posted()] == [500]
    assert len(watch.journaled(RefundOpened)) == 1


def test_a_refund_cut_off_by_the_power_is_told_after_the_restart(bar: Bar) -> None:
    guest = bar.guest()
    code = sell(bar, "450#", guest)
    watch = bar.watch()
    bar.edge.tap("B")
    watch.await_light(Light.SHOW_RECEIPT)
    hold_up(bar, code)
    watch.await_light(Light.KEY_THE_AMOUNT)
    bar.edge.clear()
    bar.appliance.network.swallow_replies()
    bar.edge.tap("#")
    eventually(lambda: watch.journaled(RefundOpened) or None, "the refund in the journal")
    bar.appliance.cut_power()
    bar.appliance.network.mend()
    bar.appliance.switch_on(bar.venue.rng())
    again = bar.watch()
    slip = eventually(
        lambda: next((each for each in slips(bar, again) if "REFUND" in each), None),
        "the refund's slip",
    )
    assert "Given back 4.50 EUR" in slip
    assert guest.balance() == TOP_UP
    assert len([row for row in watch.posted() if row.type == "Refund"]) == 1


def test_d_held_prints_the_shift_and_the_hash_key_signs_out(bar: Bar) -> None:
    bar.sign_out()
    bar.counter.sign_in(bar.badge)
    guest = bar.guest()
    code = sell(bar, "A1A3#", guest)
    refund(bar, code, "100#").await_light(Light.REFUNDED)
    bar.await_ready(now())
    watch = bar.watch()
    bar.edge.hold("D")
    slip = await_slip(bar, watch, "Shift of MB")
    assert "Sales: 1 7.00 EUR" in slip
    assert "Refunds: 1 -1.00 EUR" in slip
    assert "Net 6.00 EUR" in slip
    assert "1 x Lager 0.4 4.50 EUR" in slip
    bar.edge.tap("#")
    watch.await_light(Light.NOBODY_SIGNED_IN)


def test_offline_there_is_no_refund_and_the_copy_comes_from_memory(bar: Bar) -> None:
    guest = bar.guest()
    code = sell(bar, "300#", guest)
    bar.appliance.network.cut()
    try:
        eventually(lambda: bar.edge.light() is Light.OFFLINE_NOT_ALLOWED or None, "offline")
        watch = bar.watch()
        bar.edge.tap("B")
        watch.await_light(Light.DECLINED)
        assert "cannot be reached" in await_slip(bar, watch, "No refund")
        watch = bar.watch()
        bar.edge.tap("D")
        paper = bar.edge.wait_for_paper(watch.since, WITHIN_S)
        assert "COPY" in plain(paper.printed)
        assert codes_on(paper) == [code]
    finally:
        bar.appliance.network.mend()


def test_the_ledger_adds_up_in_the_end(bar: Bar) -> None:
    assert bar.venue.reconcile()["balanced"] is True
    assert {row.stall_id for row in bar.books.postings() if row.type == "Deduct"} <= {STALL}
