"""A full or failing disk under the appliance's journal, at every write and flush of a sale."""

from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Self

import pytest

from tests.journeys.bar import BAR_DOCUMENT, WITHIN_S, Bar, Books, Guest, Watch, now
from tests.journeys.power import (
    WAL_NAME,
    Point,
    Points,
    Word,
    check_next_sale,
    check_promise,
    count_points,
    is_settled,
    settle,
    stand_by,
    word_of,
)
from tests.journeys.strace import Traced, failing
from venue.lights import Light
from venue.paper import plain
from venue.stack import Venue

pytestmark = [pytest.mark.xdist_group("disk-faults"), pytest.mark.timeout(900)]

# A full disk stays full; a bad block is met once.
faults = pytest.mark.parametrize(
    ("name", "error", "stays"),
    [("pwrite64", "ENOSPC", True), ("fdatasync", "EIO", False)],
    ids=["full disk", "failing flush"],
)


@pytest.fixture(scope="module")
def _bar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bar]:
    folder = tmp_path_factory.mktemp("disk")
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
    bar.edge.wait_for(lambda: is_settled(bar) or None, "all of it to be journaled", WITHIN_S)


@pytest.fixture(scope="module")
def points(_bar: Bar) -> Points:
    """Every write and flush of the journal during a sale."""
    wal = str(_bar.appliance.folder / WAL_NAME)
    return count_points(_bar, _bar.guest(), sell, lambda call: call.path == wal)


class FailingDisk:
    """One life of the appliance, in which the journal's disk fails at one point."""

    def __init__(self, bar: Bar, point: Point, error: str, *, stays: bool) -> None:
        self._bar = bar
        self._point = point
        wal = bar.appliance.folder / WAL_NAME
        self._program = bar.appliance.program
        bar.appliance.switch_off()
        assert not wal.exists(), "closed in order, the journal is one file: every life begins alike"
        when = f"{point.number}{'+' if stays else ''}"
        self._traced = Traced(
            self._program,
            bar.venue.folder / "fault.strace",
            *failing(point.name, error, when),
            paths=(wal,),
        )
        bar.appliance.program = self._traced

    def __enter__(self) -> Self:
        self._bar.appliance.switch_on(self._bar.venue.rng())
        return self

    def __exit__(self, *_: object) -> None:
        """The power goes too, and the disk is mended."""
        self._bar.appliance.cut_power()
        self._bar.appliance.program = self._program

    @property
    def is_met(self) -> bool:
        """Whether the fault came; it comes where it was to come, or not at all."""
        calls = [call for call in self._traced.calls() if call.name == self._point.name]
        met = [number for number, call in enumerate(calls, start=1) if call.is_injected]
        assert met[:1] in ([], [self._point.number])
        return bool(met)

    def await_out_of_order(self) -> None:
        """Until the till says so on paper, because of this fault."""
        edge = self._bar.edge
        edge.wait_for(
            lambda: any("Out of order" in plain(paper.printed) for paper in edge.papers) or None,
            "the slip that says so",
            WITHIN_S,
        )
        assert self.is_met


class Ending(IntEnum):
    """How a sale ends on a failing disk, by when it fails."""

    REFUSED = 1
    """Before charging: no QR is asked for."""
    FAULT = 2
    """The cloud has deducted, and gives it back."""
    PAID = 3
    """Green already; only the light's own entry was not written."""
    UNHARMED = 4
    """The disk would have failed later."""


@faults
def test_a_disk_that_fails_in_a_sale_leaves_light_and_ledger_agreed(
    bar: Bar, guest: Guest, points: Points, name: str, error: str, *, stays: bool
) -> None:
    endings: list[Ending] = []
    number = len(points.named(name).at_start)
    # How many pages a sale fills depends on those before it: go on until one is unharmed.
    while Ending.UNHARMED not in endings:
        number += 1
        watch = bar.watch()
        with FailingDisk(bar, Point(name, number), error, stays=stays) as disk:
            bar.await_ready(0.0)
            ending = _try_to_sell(bar, guest, disk)
            if ending is Ending.FAULT:
                _await_refund(bar, watch)
            if ending is Ending.REFUSED:
                assert watch.posted() == []
        endings.append(ending)
        bar.appliance.switch_on(bar.venue.rng())
        is_paid = ending in {Ending.PAID, Ending.UNHARMED}
        settle(bar, kept=is_paid)
        check_promise(watch, is_paid=is_paid)
        check_next_sale(bar, guest)
    assert endings == sorted(endings)
    assert set(endings) == set(Ending)


@faults
def test_a_disk_that_fails_at_start_up_sells_nothing_until_it_is_mended(
    bar: Bar, guest: Guest, points: Points, name: str, error: str, *, stays: bool
) -> None:
    for point in points.named(name).at_start:
        watch = bar.watch()
        with FailingDisk(bar, point, error, stays=stays) as disk:
            disk.await_out_of_order()
            seen = {one.light for one in bar.edge.lights()}
            assert Light.READY not in seen
            bar.edge.type("100#")
        bar.appliance.switch_on(bar.venue.rng())
        assert settle(bar, kept=True) is None
        check_promise(watch, is_paid=False)
        check_next_sale(bar, guest)


def test_a_till_whose_flush_failed_once_sells_again_on_its_own(
    bar: Bar, guest: Guest, points: Points
) -> None:
    watch = bar.watch()
    answered = points.named("fdatasync").after[0]
    with FailingDisk(bar, answered, "EIO", stays=False) as disk:
        bar.await_ready(0.0)
        assert _try_to_sell(bar, guest, disk) is Ending.FAULT
        bar.await_ready(now())
        bar.edge.wait_for(lambda: is_settled(bar) or None, "the cancel's answer", WITHIN_S)
        check_promise(watch, is_paid=False)
        check_next_sale(bar, guest)
    stand_by(bar)


def _try_to_sell(bar: Bar, guest: Guest, disk: FailingDisk) -> Ending:
    edge = bar.edge
    began = now()
    edge.type("100#")
    first = edge.wait_for_any_light(frozenset({Light.SHOW_QR, Light.FAULT}), began, WITHIN_S)
    if first.light is Light.FAULT:
        disk.await_out_of_order()
        return Ending.REFUSED
    bar.counter.show_phone(guest.fresh_qr().digits, "easy")
    edge.wait_for(
        lambda: None if word_of(bar) is Word.NONE else True, "a word about the sale", WITHIN_S
    )
    if word_of(bar) is Word.NOT_PAID:
        disk.await_out_of_order()
        return Ending.FAULT
    edge.wait_for(
        lambda: disk.is_met or is_settled(bar) or None, "the light to be journaled", WITHIN_S
    )
    if not disk.is_met:
        return Ending.UNHARMED
    disk.await_out_of_order()
    return Ending.PAID


def _await_refund(bar: Bar, watch: Watch) -> None:
    """The cancel from memory arrives although nothing can be journaled."""
    bar.edge.wait_for(lambda: len(watch.posted()) == 2 or None, "the refund", WITHIN_S)
