"""A full or failing disk under the appliance's journal, at every write of whatever staff do."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from enum import IntEnum

import pytest

from device.till.entries import RefundOpened
from protocol import receipt_qr
from protocol.messages import SaleName
from tests.journeys.bar import BAR_DOCUMENT, WITHIN_S, Bar, Books, Guest, Watch, now
from tests.journeys.power import (
    WAL_NAME,
    Word,
    await_settled,
    check_next_sale,
    check_promise,
    is_settled,
    settle,
    stand_by,
    word_of,
)
from tests.journeys.strace import Attached, Traced, failing
from venue.lights import Light
from venue.paper import plain
from venue.phone import badge
from venue.stack import Venue

pytestmark = [pytest.mark.xdist_group("disk-faults"), pytest.mark.timeout(900)]

# A full disk stays full; a bad block is met once.
faults = pytest.mark.parametrize(
    ("name", "error", "stays"),
    [("pwrite64", "ENOSPC", True), ("fdatasync", "EIO", False)],
    ids=["full disk", "failing flush"],
)
ROUNDS = 3
ASK: frozenset[Light] = frozenset({Light.SHOW_QR, Light.FAULT, Light.OFFLINE_NOT_ALLOWED})


@pytest.fixture(scope="module")
def _bar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bar]:
    folder = tmp_path_factory.mktemp("disk")
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
    """At rest, whatever the test before left; it sells again after whatever this one did."""
    _bar.appliance.network.mend()
    stand_by(_bar)
    come_back(_bar)
    yield _bar
    _bar.appliance.network.mend()
    stand_by(_bar)
    check_next_sale(_bar, guest)


class Fault:
    """The journal's disk, failing at one call from now on."""

    def __init__(self, bar: Bar, name: str, number: int, error: str, *, stays: bool) -> None:
        self._bar = bar
        self._name = name
        self._number = number
        self.since = now()
        self._attached = Attached(
            bar.appliance.program,
            bar.venue.folder / "fault.strace",
            *failing(name, error, f"{number}{'+' if stays else ''}", attached=True),
            paths=((bar.appliance.folder / WAL_NAME).absolute(),),
        )

    def mend(self) -> None:
        self._attached.detach()

    @property
    def is_met(self) -> bool:
        """Whether the fault came; it comes where it was to come, or not at all."""
        calls = [call for call in self._attached.calls() if call.name == self._name]
        met = [number for number, call in enumerate(calls, start=1) if call.is_injected]
        assert met[:1] in ([], [self._number])
        return bool(met)

    def await_out_of_order(self) -> None:
        """Until the till says so on paper, because of this fault."""
        self._bar.edge.wait_for(
            lambda: is_out_of_order(self._bar, self.since) or None, "the slip", WITHIN_S
        )
        assert self.is_met

    def await_it_or_settled(self) -> bool:
        """Whether the fault came before all was journaled."""
        self._bar.edge.wait_for(
            lambda: self.is_met or is_settled(self._bar) or None,
            "the rest to be journaled",
            WITHIN_S,
        )
        if self.is_met:
            self.await_out_of_order()
        return self.is_met


def is_out_of_order(bar: Bar, since: float) -> bool:
    papers = (paper for paper in bar.edge.papers if paper.at > since)
    return any("Out of order" in plain(paper.printed) for paper in papers)


@contextmanager
def failing_disk(bar: Bar, name: str, number: int, error: str, *, stays: bool) -> Generator[Fault]:
    fault = Fault(bar, name, number, error, stays=stays)
    try:
        yield fault
    finally:
        fault.mend()


class Ending(IntEnum):
    """How it ends on a failing disk, by when it fails."""

    REFUSED = 1
    """Before anything was asked of the cloud, or decided."""
    FAULT = 2
    """The cloud may have done it already: what it did is undone, or is asked for again."""
    DONE = 3
    """The light is on already; only its own entry, or an upload's answer, was not written."""
    UNHARMED = 4
    """The disk would have failed later."""


def key_amount(bar: Bar, fault: Fault) -> bool:
    """Whether the till then asks for the QR."""
    began = now()
    bar.edge.type("100#")
    first = bar.edge.wait_for_any_light(ASK, began, WITHIN_S)
    if first.light is Light.SHOW_QR:
        return True
    fault.await_out_of_order()
    return False


def sell(bar: Bar, guest: Guest, fault: Fault) -> Ending:
    if not key_amount(bar, fault):
        return Ending.REFUSED
    began = bar.counter.show_phone(guest.fresh_qr().digits, "easy")
    bar.edge.wait_for(
        lambda: None if word_of(bar, began) is Word.NONE else True, "a word", WITHIN_S
    )
    bar.edge.clear()
    if word_of(bar, began) is Word.NOT_PAID:
        fault.await_out_of_order()
        return Ending.FAULT
    bar.appliance.network.mend()
    return Ending.DONE if fault.await_it_or_settled() else Ending.UNHARMED


class Returned:
    """A sale that somebody wants back, with its receipt."""

    def __init__(self) -> None:
        self._receipt = ""

    def buy(self, bar: Bar, guest: Guest) -> None:
        watch = bar.watch()
        check_next_sale(bar, guest)
        (sale,) = watch.posted()
        self._receipt = receipt_qr.write(SaleName(sale.device_id, sale.idempotency_key))

    def give_back(self, bar: Bar, _guest: Guest, fault: Fault) -> Ending:
        edge = bar.edge
        began = now()
        edge.tap("B")
        edge.wait_for_light(Light.SHOW_RECEIPT, since=began, timeout_s=WITHIN_S)
        edge.show(badge(self._receipt, bar.venue.rng(), "easy"))
        edge.wait_for_light(Light.KEY_THE_AMOUNT, since=began, timeout_s=WITHIN_S)
        edge.clear()
        watch = bar.watch()
        edge.tap("#")
        words = frozenset({Light.REFUNDED, Light.FAULT, Light.OFFLINE_NOT_ALLOWED})
        word = edge.wait_for_any_light(words, began, WITHIN_S)
        if word.light is not Light.REFUNDED:
            fault.await_out_of_order()
            return Ending.FAULT if watch.journaled(RefundOpened) else Ending.REFUSED
        return Ending.DONE if fault.await_it_or_settled() else Ending.UNHARMED


def lose_the_network(bar: Bar) -> None:
    began = now()
    bar.appliance.network.cut()
    bar.edge.wait_for_light(Light.OFFLINE_ALLOWED, since=began, timeout_s=WITHIN_S)


def come_back(bar: Bar) -> None:
    """The disk is mended: the till opens its journal again on its own, and is ready."""
    bar.edge.wait_for(
        lambda: bar.edge.light() is Light.READY or None, "the till to be ready", WITHIN_S
    )
    await_settled(bar)


def top_up(guest: Guest) -> None:
    if guest.balance() < 800:
        guest.top_up()


def check_every_ending(bar: Bar, fault_at: Callable[[int], Ending], *, stays: bool) -> None:
    """Fail at each call in turn until nothing was harmed, and again while an ending is missing.

    Flushes are counted one by one; how many pages a commit writes depends on those before it, so
    that the last one's few may be passed over, and once in a while another's too.
    """
    wanted = {Ending.REFUSED, Ending.FAULT, Ending.UNHARMED}
    if not stays:
        wanted.add(Ending.DONE)
    endings: set[Ending] = set()
    for _ in range(ROUNDS):
        endings |= one_round(bar, fault_at)
        if endings >= wanted:
            return
    assert endings >= wanted


def one_round(bar: Bar, fault_at: Callable[[int], Ending]) -> set[Ending]:
    """Until nothing was harmed, twice."""
    endings: list[Ending] = []
    while endings[-2:] != [Ending.UNHARMED] * 2:
        endings.append(fault_at(len(endings) + 1))
        come_back(bar)
    return set(endings)


@faults
def test_a_disk_that_fails_in_a_sale_leaves_light_and_ledger_agreed(
    bar: Bar, guest: Guest, name: str, error: str, *, stays: bool
) -> None:
    def fail_at(number: int) -> Ending:
        top_up(guest)
        watch = bar.watch()
        with failing_disk(bar, name, number, error, stays=stays) as fault:
            ending = sell(bar, guest, fault)
            if ending is Ending.FAULT:
                _await_reversal(bar, watch)
            if ending is Ending.REFUSED:
                assert watch.posted() == []
        come_back(bar)
        check_promise(watch, is_paid=ending in {Ending.DONE, Ending.UNHARMED})
        return ending

    check_every_ending(bar, fail_at, stays=stays)


@faults
def test_a_disk_that_fails_in_an_offline_sale_posts_it_once_or_never(
    bar: Bar, guest: Guest, name: str, error: str, *, stays: bool
) -> None:
    def fail_at(number: int) -> Ending:
        top_up(guest)
        lose_the_network(bar)
        watch = bar.watch()
        with failing_disk(bar, name, number, error, stays=stays) as fault:
            ending = sell(bar, guest, fault)
            assert ending in {Ending.DONE, Ending.UNHARMED} or watch.posted() == []
        bar.appliance.network.mend()
        come_back(bar)
        check_promise(watch, is_paid=ending in {Ending.DONE, Ending.UNHARMED})
        return ending

    check_every_ending(bar, fail_at, stays=stays)


@faults
def test_a_disk_that_fails_in_a_refund_gives_back_once_or_never(
    bar: Bar, guest: Guest, name: str, error: str, *, stays: bool
) -> None:
    returned = Returned()

    def fail_at(number: int) -> Ending:
        top_up(guest)
        returned.buy(bar, guest)
        watch = bar.watch()
        with failing_disk(bar, name, number, error, stays=stays) as fault:
            ending = returned.give_back(bar, guest, fault)
            if ending is Ending.REFUSED:
                assert watch.posted() == []
        come_back(bar)
        opened = [entry.key for entry in watch.journaled(RefundOpened)]
        assert [row.idempotency_key for row in watch.posted()] == opened
        assert len(opened) == (ending is not Ending.REFUSED)
        return ending

    check_every_ending(bar, fail_at, stays=stays)


@faults
def test_a_disk_that_fails_at_start_up_sells_nothing_until_it_is_mended(
    bar: Bar, name: str, error: str, *, stays: bool
) -> None:
    watch = bar.watch()
    program = bar.appliance.program
    bar.appliance.switch_off()
    when = "1+" if stays else "1"
    wal = (bar.appliance.folder / WAL_NAME).absolute()
    traced = Traced(
        program, bar.venue.folder / "start.strace", *failing(name, error, when), paths=(wal,)
    )
    bar.appliance.program = traced
    try:
        bar.appliance.switch_on(bar.venue.rng())
        bar.edge.wait_for(lambda: is_out_of_order(bar, 0.0) or None, "the till to say so", WITHIN_S)
        assert any(call.is_injected for call in traced.calls())
        assert Light.READY not in {one.light for one in bar.edge.lights()}
        bar.edge.type("100#")
        bar.appliance.cut_power()
    finally:
        traced.kill()
        bar.appliance.program = program
    bar.appliance.switch_on(bar.venue.rng())
    assert settle(bar, kept=True) is None
    check_promise(watch, is_paid=False)


def _await_reversal(bar: Bar, watch: Watch) -> None:
    """The cancel from memory arrives although nothing can be journaled."""
    bar.edge.wait_for(lambda: len(watch.posted()) == 2 or None, "the reversal", WITHIN_S)
