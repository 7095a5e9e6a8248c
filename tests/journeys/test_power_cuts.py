"""The appliance's power cut at every flush of whatever staff do, and of its start."""

from collections.abc import Iterator

import pytest

from device.till.entries import RefundOpened, SaleAnswered, SaleCancelled
from protocol import receipt_qr
from protocol.messages import SaleName
from tests.journeys.bar import BAR_DOCUMENT, WITHIN_S, Bar, Books, Guest, Watch, eventually, now
from tests.journeys.power import (
    Cut,
    Disk,
    Scene,
    Word,
    check_next_sale,
    check_promise,
    cut_everywhere,
    cut_start,
    settle,
    stand_by,
)
from venue.lights import Light
from venue.phone import badge
from venue.stack import Venue

pytestmark = [pytest.mark.xdist_group("power"), pytest.mark.timeout(900)]

disks = pytest.mark.parametrize("disk", Disk)


@pytest.fixture(scope="module")
def _bar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bar]:
    folder = tmp_path_factory.mktemp("power")
    with Venue(folder, document=BAR_DOCUMENT | {"offline": {"allowed": True}}) as venue:
        books = Books(f"sqlite:///{folder / 'cloud' / 'cloud.sqlite'}")
        bar = Bar(venue, books, venue.badge)
        bar.counter.sign_in(venue.badge)
        yield bar
        books.close()
        assert venue.reconcile()["balanced"]


@pytest.fixture(scope="module")
def guest(_bar: Bar) -> Guest:
    return _bar.guest()


@pytest.fixture
def bar(_bar: Bar, guest: Guest) -> Iterator[Bar]:
    """Under power, whatever the test before left; it sells again after whatever this one did."""
    stand_by(_bar)
    yield _bar
    stand_by(_bar)
    check_next_sale(_bar, guest)


def sell(bar: Bar, guest: Guest) -> None:
    bar.counter.key("100#")
    began = bar.counter.show_phone(guest.fresh_qr().digits, "easy")
    bar.edge.wait_for_approval(began, WITHIN_S)
    bar.edge.wait_for_paper(began, WITHIN_S)


def decline(bar: Bar, guest: Guest) -> None:
    """More than the guest has."""
    bar.counter.key("4000#")
    began = bar.counter.show_phone(guest.fresh_qr().digits, "easy")
    bar.edge.wait_for_light(Light.DECLINED, since=began, timeout_s=WITHIN_S)


def cancel(bar: Bar, guest: Guest) -> None:
    """Every reply is lost, staff cancel, and the network comes back."""
    watch = bar.watch()
    bar.counter.key("100#")
    bar.appliance.network.swallow_replies()
    began = bar.counter.show_phone(guest.fresh_qr().digits, "easy")
    bar.edge.wait_for(lambda: watch.posted() or None, "the cloud to deduct", WITHIN_S)
    bar.edge.hold("*")
    bar.edge.wait_for_light(Light.FAULT, since=began, timeout_s=WITHIN_S)
    bar.appliance.network.mend()


def lose_the_network(bar: Bar, _guest: Guest) -> None:
    began = now()
    bar.appliance.network.cut()
    bar.edge.wait_for_light(Light.OFFLINE_ALLOWED, since=began, timeout_s=WITHIN_S)


def sell_offline_and_upload(bar: Bar, guest: Guest) -> None:
    bar.counter.key("100#")
    began = bar.counter.show_phone(guest.fresh_qr().digits, "easy")
    bar.edge.wait_for_approval(began, WITHIN_S)
    bar.edge.wait_for_paper(began, WITHIN_S)
    bar.edge.clear()
    bar.appliance.network.mend()


class Returned:
    """A sale that somebody wants back, with its receipt."""

    def __init__(self) -> None:
        self._receipt = ""

    def buy(self, bar: Bar, guest: Guest) -> None:
        watch = bar.watch()
        check_next_sale(bar, guest)
        (sale,) = watch.posted()
        self._receipt = receipt_qr.write(SaleName(sale.device_id, sale.idempotency_key))

    def give_back(self, bar: Bar, _guest: Guest) -> None:
        edge = bar.edge
        began = now()
        edge.tap("B")
        edge.wait_for_light(Light.SHOW_RECEIPT, since=began, timeout_s=WITHIN_S)
        edge.show(badge(self._receipt, bar.venue.rng(), "easy"))
        edge.wait_for_light(Light.KEY_THE_AMOUNT, since=began, timeout_s=WITHIN_S)
        edge.clear()
        edge.tap("#")
        edge.wait_for_light(Light.REFUNDED, since=began, timeout_s=WITHIN_S)
        edge.wait_for_paper(began, WITHIN_S)


def check_refund(watch: Watch, cut: Cut) -> None:
    """What the journal opened is given back, once, however often it was asked for."""
    opened = [entry.key for entry in watch.journaled(RefundOpened)]
    assert [row.idempotency_key for row in watch.posted()] == opened
    assert {row.type for row in watch.posted()} <= {"Refund"}
    was_shown = any(one.light is Light.REFUNDED for one in cut.seen)
    assert len(opened) == 1 if was_shown else len(opened) <= 1


def check_sale(watch: Watch, cut: Cut) -> None:
    check_promise(watch, is_paid=cut.is_paid)


@disks
def test_power_cut_at_any_flush_of_a_sale_leaves_light_and_ledger_agreed(
    bar: Bar, guest: Guest, disk: Disk
) -> None:
    cuts = cut_everywhere(bar, guest, Scene("a sale", sell), disk, check_sale)
    word = Word.NONE if disk is Disk.KEEPS else Word.PAID
    assert [cut for cut in cuts if cut.answer is not None] == [
        Cut(word, answer=True),
        Cut(word, answer=False),
    ], "staff are asked where the decision is on the disk and the light's own entry is not"


def test_power_cut_at_any_flush_of_a_start_up_loses_nothing(bar: Bar) -> None:
    number = 1
    watch = bar.watch()
    while cut_start(bar, number, Disk.LOSES):
        bar.appliance.switch_on(bar.venue.rng())
        assert settle(bar, kept=True) is None
        number += 1
    assert number > 1
    check_promise(watch, is_paid=False)


def test_power_cut_in_a_decline_leaves_nothing_deducted(bar: Bar, guest: Guest) -> None:
    cuts = cut_everywhere(bar, guest, Scene("a decline", decline), Disk.LOSES, check_sale)
    assert set(cuts) == {Cut(Word.NONE, None)}


@disks
def test_power_cut_in_a_cancel_after_lost_replies_leaves_nothing_deducted(
    bar: Bar, guest: Guest, disk: Disk
) -> None:
    cuts = cut_everywhere(bar, guest, Scene("a cancel", cancel), disk, check_sale)
    assert set(cuts) == {Cut(Word.NONE, None), Cut(Word.NOT_PAID, None)}, (
        "before the cancel was journaled, and before the cloud's answer to it was"
    )


@disks
def test_power_cut_in_an_offline_sale_and_its_upload_posts_it_once_or_never(
    bar: Bar, guest: Guest, disk: Disk
) -> None:
    scene = Scene("an offline sale", sell_offline_and_upload, lose_the_network)
    cuts = cut_everywhere(bar, guest, scene, disk, check_sale)
    answered = [cut for cut in cuts if cut.answer is not None]
    word = Word.NONE if disk is Disk.KEEPS else Word.PAID
    assert answered == [Cut(word, answer=True), Cut(word, answer=False)]
    assert cuts[-1] == Cut(Word.PAID, None), "the upload's answer is journaled too"


@disks
def test_power_cut_in_a_refund_gives_back_once_or_never(bar: Bar, guest: Guest, disk: Disk) -> None:
    returned = Returned()
    scene = Scene("a refund", returned.give_back, returned.buy)
    cuts = cut_everywhere(bar, guest, scene, disk, check_refund)
    assert len(cuts) >= 3, "opened, answered and shown each have a flush"


def test_power_cut_between_publish_and_reply_gives_the_credits_back(bar: Bar, guest: Guest) -> None:
    watch = bar.watch()
    bar.counter.key("100#")
    bar.appliance.network.swallow_replies()
    bar.counter.show_phone(guest.fresh_qr().digits, "easy")
    eventually(lambda: watch.posted() or None, "the cloud to deduct")
    assert watch.approvals() == 0
    assert watch.journaled(SaleAnswered) == []
    bar.appliance.cut_power()
    bar.appliance.network.mend()
    bar.appliance.switch_on(bar.venue.rng())
    assert settle(bar, kept=True) is None
    check_promise(watch, is_paid=False)
    assert len(watch.journaled(SaleCancelled)) == 1
