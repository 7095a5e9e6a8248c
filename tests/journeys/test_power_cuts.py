"""The appliance's power cut at every flush of a sale, a decline and a cancel."""

from collections.abc import Callable, Iterator

import pytest

from device.till.entries import SaleAnswered, SaleCancelled
from tests.journeys.bar import BAR_DOCUMENT, WITHIN_S, Bar, Books, Guest, eventually
from tests.journeys.power import (
    Cut,
    Disk,
    Point,
    Points,
    Scene,
    Word,
    check_next_sale,
    check_promise,
    count_points,
    cut_at,
    is_settled,
    settle,
    stand_by,
)
from venue.lights import Light
from venue.stack import Venue

pytestmark = [pytest.mark.xdist_group("power"), pytest.mark.timeout(900)]

disks = pytest.mark.parametrize("disk", Disk)


@pytest.fixture(scope="module")
def _bar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bar]:
    folder = tmp_path_factory.mktemp("power")
    with Venue(folder, document=BAR_DOCUMENT) as venue:
        books = Books(f"sqlite:///{folder / 'cloud' / 'cloud.sqlite'}")
        bar = Bar(venue, books, venue.badge)
        bar.counter.sign_in(venue.badge)
        yield bar
        books.close()
        assert venue.reconcile()["balanced"]


@pytest.fixture
def bar(_bar: Bar) -> Bar:
    """Under power, whatever the test before left."""
    stand_by(_bar)
    return _bar


@pytest.fixture
def guest(bar: Bar) -> Guest:
    return bar.guest()


def sell(bar: Bar, guest: Guest, keyed: Callable[[], None]) -> None:
    bar.counter.key("100#")
    keyed()
    began = bar.counter.show_phone(guest.fresh_qr().digits, "easy")
    bar.edge.wait_for_approval(began, WITHIN_S)
    bar.edge.wait_for_paper(began, WITHIN_S)
    _await_settled(bar)


def decline(bar: Bar, guest: Guest, keyed: Callable[[], None]) -> None:
    """More than the guest has."""
    bar.counter.key("4000#")
    keyed()
    began = bar.counter.show_phone(guest.fresh_qr().digits, "easy")
    bar.edge.wait_for_light(Light.DECLINED, since=began, timeout_s=WITHIN_S)
    _await_settled(bar)


def cancel(bar: Bar, guest: Guest, keyed: Callable[[], None]) -> None:
    """Every reply is lost, staff cancel, and the network comes back."""
    watch = bar.watch()
    bar.counter.key("100#")
    keyed()
    bar.appliance.network.swallow_replies()
    began = bar.counter.show_phone(guest.fresh_qr().digits, "easy")
    bar.edge.wait_for(lambda: watch.posted() or None, "the cloud to deduct", WITHIN_S)
    bar.edge.hold("*")
    bar.edge.wait_for_light(Light.FAULT, since=began, timeout_s=WITHIN_S)
    bar.appliance.network.mend()
    _await_settled(bar)


def _await_settled(bar: Bar) -> None:
    bar.edge.wait_for(lambda: is_settled(bar) or None, "all of it to be journaled", WITHIN_S)


@pytest.fixture(scope="module")
def flushes(_bar: Bar) -> Callable[[Scene], Points]:
    """What each scene flushes, counted once."""
    counted: dict[Scene, Points] = {}

    def count(scene: Scene) -> Points:
        if scene not in counted:
            counted[scene] = count_points(_bar, _bar.guest(), scene, lambda call: call.is_flush)
        return counted[scene]

    return count


def cut_and_check(
    bar: Bar, guest: Guest, flush: Point, disk: Disk, scene: Scene | None, *, kept: bool = True
) -> Cut:
    """Cut the power there, start again, and check the promise and the next sale."""
    watch = bar.watch()
    if guest.balance() < 500:
        guest.top_up()
    play = None if scene is None else lambda: scene(bar, guest, lambda: None)
    word = cut_at(bar, flush, disk, play)
    bar.appliance.switch_on(bar.venue.rng())
    cut = Cut(word, settle(bar, kept=kept))
    check_promise(watch, is_paid=cut.is_paid)
    check_next_sale(bar, guest)
    return cut


@disks
def test_power_cut_at_any_flush_of_a_sale_leaves_light_and_ledger_agreed(
    bar: Bar, guest: Guest, flushes: Callable[[Scene], Points], disk: Disk
) -> None:
    counted = flushes(sell)
    asked: list[Cut] = []
    for flush in (*counted.until_keyed, *counted.after):
        cut = cut_and_check(bar, guest, flush, disk, sell)
        if cut.answer is not None:
            # The same cut again, and the other answer: the goods were not handed over.
            asked += cut, cut_and_check(bar, guest, flush, disk, sell, kept=False)
    word = Word.NONE if disk is Disk.KEEPS else Word.PAID
    assert asked == [Cut(word, answer=True), Cut(word, answer=False)], (
        "staff are asked where the decision is on the disk and the light's own entry is not"
    )


@disks
def test_power_cut_at_any_flush_of_a_start_up_loses_nothing(
    bar: Bar, guest: Guest, flushes: Callable[[Scene], Points], disk: Disk
) -> None:
    cuts = [cut_and_check(bar, guest, flush, disk, None) for flush in flushes(sell).at_start]
    assert set(cuts) == {Cut(Word.NONE, None)}


@disks
def test_power_cut_in_a_decline_leaves_nothing_deducted(
    bar: Bar, guest: Guest, flushes: Callable[[Scene], Points], disk: Disk
) -> None:
    cuts = [cut_and_check(bar, guest, flush, disk, decline) for flush in flushes(decline).after]
    assert set(cuts) == {Cut(Word.NONE, None)}


@disks
def test_power_cut_in_a_cancel_after_lost_replies_leaves_nothing_deducted(
    bar: Bar, guest: Guest, flushes: Callable[[Scene], Points], disk: Disk
) -> None:
    cuts = [cut_and_check(bar, guest, flush, disk, cancel) for flush in flushes(cancel).after]
    assert set(cuts) == {Cut(Word.NONE, None), Cut(Word.NOT_PAID, None)}, (
        "before the cancel was journaled, and before the cloud's answer to it was"
    )


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
    check_next_sale(bar, guest)
