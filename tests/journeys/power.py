"""An appliance's power: cut at a chosen flush, with what was never flushed kept or lost."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from device.chain import FILE_NAME
from device.journal import look_at
from device.till.entries import SaleAbandoned, SaleAnswered, SaleCancelled, SaleOpened
from protocol.messages import Approved
from tests.journeys.bar import WITHIN_S, Bar, Guest, Watch, eventually
from tests.journeys.strace import Call, Traced, killing
from venue.edge import EdgeError
from venue.lights import Light
from venue.paper import plain

WAL_NAME: Final = f"{FILE_NAME}-wal"


class Disk(StrEnum):
    """What a power cut does to bytes that were written and not flushed: either may happen."""

    KEEPS = "keeps what was not flushed"
    LOSES = "loses what was not flushed"


@dataclass(frozen=True)
class Point:
    """One system call of the journal's thread, by strace's count."""

    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.name} {self.number}"


@dataclass(frozen=True)
class Points:
    """The points of one life of the appliance, in their order."""

    at_start: tuple[Point, ...]
    until_keyed: tuple[Point, ...]
    """From the first key to the question for the QR."""
    after: tuple[Point, ...]

    def named(self, name: str) -> "Points":
        """Only these calls."""
        parts = (self.at_start, self.until_keyed, self.after)
        return Points(*(tuple(each for each in part if each.name == name) for part in parts))


class Scene(Protocol):
    """One sale, played until all of it is journaled; says when the till asks for the QR."""

    def __call__(self, bar: Bar, guest: Guest, keyed: Callable[[], None]) -> None: ...


def count_points(
    bar: Bar, guest: Guest, scene: Scene, counts_as_point: Callable[[Call], bool]
) -> Points:
    """Play a scene with nothing wrong and read its points from the trace; then be ready again."""
    program = bar.appliance.program
    bar.appliance.switch_off()
    traced = Traced(program, bar.venue.folder / "count.strace", paths=_journal(bar))
    bar.appliance.program = traced
    counts: list[int] = []

    def points() -> tuple[Point, ...]:
        done = (call for call in traced.calls() if call.result is not None)
        return _numbered(call for call in done if counts_as_point(call))

    try:
        bar.appliance.switch_on(bar.venue.rng())
        bar.await_ready(0.0)
        counts.append(len(points()))
        scene(bar, guest, lambda: counts.append(len(points())))
        bar.appliance.cut_power()
    finally:
        traced.kill()
        bar.appliance.program = program
    threads = {call.thread for call in traced.calls() if call.is_flush and call.result == 0}
    assert len(threads) == 1, "strace counts by thread: more than one would need more loops"
    found = points()
    at_start, until_keyed = counts
    assert at_start < until_keyed < len(found), "a sale is journaled before and after the scan"
    bar.appliance.switch_on(bar.venue.rng())
    settle(bar, kept=True)
    return Points(found[:at_start], found[at_start:until_keyed], found[until_keyed:])


def _journal(bar: Bar) -> tuple[Path, ...]:
    """The files whose flushes are counted: the appliance keeps others, and none decides a sale."""
    folder = bar.appliance.folder.absolute()
    return folder, folder / FILE_NAME, folder / WAL_NAME, folder / f"{FILE_NAME}-shm"


class Word(StrEnum):
    """What the lamp's pins had said about the sale when the light went out."""

    PAID = "green"
    NOT_PAID = "red"
    NONE = "dark"


@dataclass(frozen=True)
class Cut:
    """What people know of a sale after a power cut."""

    word: Word
    answer: bool | None
    """Staff's, where the slip asked them whether the goods were handed over."""

    @property
    def is_paid(self) -> bool:
        match self.word:
            case Word.PAID:
                return self.answer is not False
            case Word.NOT_PAID:
                return False
            case Word.NONE:
                return self.answer is True


def cut_at(bar: Bar, flush: Point, disk: Disk, scene: Callable[[], None] | None) -> Word:
    """Start the appliance, play, and cut its power at this flush.

    No scene: it never gets as far as being ready. Leaves the appliance without power.
    """
    program = bar.appliance.program
    bar.appliance.switch_off()
    wal = bar.appliance.folder / WAL_NAME
    assert not wal.exists(), "closed in order, the journal is one file: every life begins alike"
    trace = bar.venue.folder / "cut.strace"
    traced = Traced(program, trace, *killing(flush.name, flush.number), paths=_journal(bar))
    bar.appliance.program = traced
    try:
        if scene is None:
            traced.start()
        else:
            bar.appliance.switch_on(bar.venue.rng())
            # The appliance hangs up when its power goes; that it went is asserted below.
            with suppress(EdgeError):
                bar.await_ready(0.0)
                scene()
        traced.wait(WITHIN_S)
        bar.edge.close()
    finally:
        traced.kill()
        bar.appliance.program = program
        bar.appliance.network.mend()
    calls = traced.calls()
    # As a process dies, strace may note its last call once more, in the name of other threads.
    journaling = next(call.thread for call in calls if call.is_flush)
    hit = [call for call in calls if (call.thread, call.name) == (journaling, flush.name)]
    assert len(hit) == flush.number, f"the power was to go at {flush}: {hit}"
    assert hit[-1].result is None, "this flush was not carried out"
    if disk is Disk.LOSES:
        _lose_unflushed(bar, calls)
    return Word.NONE if scene is None else word_of(bar)


def word_of(bar: Bar) -> Word:
    """The lamp's word in this life of the appliance, from its pins."""
    if bar.edge.approvals():
        return Word.PAID
    is_red = any(each.red > 0 and each.green == each.blue == 0 for each in bar.edge.levels)
    return Word.NOT_PAID if is_red else Word.NONE


def stand_by(bar: Bar) -> None:
    """Give the appliance power if it has none, and let it settle."""
    bar.appliance.network.mend()
    if not bar.appliance.program.running:
        bar.appliance.switch_on(bar.venue.rng())
        settle(bar, kept=True)


def settle(bar: Bar, *, kept: bool) -> bool | None:
    """Until the appliance is ready and its journal has nothing open; staff's answer, if asked."""
    edge = bar.edge
    began = 0.0
    asked = edge.wait_for(lambda: _is_asked(bar), "the till to be ready or to ask", WITHIN_S)
    if asked:
        began = edge.papers[-1].at
        if kept:
            edge.tap("#")
        else:
            edge.hold("*")
    edge.wait_for_light(Light.READY, since=began, timeout_s=WITHIN_S)
    eventually(lambda: is_settled(bar) or None, "the journal to be settled")
    assert edge.approvals() == (), "green never lights for a past sale"
    return kept if asked else None


def is_settled(bar: Bar) -> bool:
    """Nothing open; `look_at` also proves that the entries are numbered without gaps."""
    chain = look_at(bar.appliance.folder)
    return chain is not None and chain.standing.sales == ()


def check_promise(watch: Watch, *, is_paid: bool) -> None:
    """The ledger and the journal agree with what the people at the counter were told."""
    opened = {entry.key for entry in watch.journaled(SaleOpened)}
    approved = {
        entry.key for entry in watch.journaled(SaleAnswered) if isinstance(entry.outcome, Approved)
    }
    ended = {entry.key for entry in watch.journaled(SaleCancelled)}
    ended |= {entry.key for entry in watch.journaled(SaleAbandoned)}
    deducted: dict[str, object] = {}
    reversed_: set[str] = set()
    for row in watch.posted():
        if row.device_id is None:
            continue
        key = row.idempotency_key
        assert key in opened, "a posting for a sale that nobody began"
        if row.type == "Deduct":
            assert key not in deducted, "one key, posted twice"
            deducted[key] = row.id
        else:
            assert key not in reversed_, "one key, paid back twice"
            assert row.reversal_of_transaction_id == deducted[key]
            reversed_.add(key)
    standing = deducted.keys() - reversed_
    assert len(standing) == is_paid, "the light's word against the ledger's"
    assert standing == approved - ended, "the journal's word against the ledger's"


def check_next_sale(bar: Bar, guest: Guest) -> None:
    """The appliance sells: one green light, one deduct."""
    watch = bar.watch()
    before = len(bar.edge.approvals())
    sale = bar.counter.sell("100#", guest.fresh_qr().digits, "easy")
    assert sale.light is Light.APPROVED
    bar.edge.wait_for(lambda: is_settled(bar) or None, "the light to be journaled", WITHIN_S)
    assert len(bar.edge.approvals()) == before + 1
    check_promise(watch, is_paid=True)


def _is_asked(bar: Bar) -> bool | None:
    if any("Handed over?" in plain(paper.printed) for paper in bar.edge.papers):
        return True
    return False if bar.edge.light() is Light.READY else None


def _numbered(calls: Iterable[Call]) -> tuple[Point, ...]:
    counts = Counter[str]()
    points: list[Point] = []
    for call in calls:
        counts[call.name] += 1
        points.append(Point(call.name, counts[call.name]))
    return tuple(points)


def _lose_unflushed(bar: Bar, calls: Sequence[Call]) -> None:
    """Leave on the disk what a flush covered, and nothing else: the write-ahead log only grows."""
    folder = bar.appliance.folder
    wal = folder / WAL_NAME
    written = flushed = 0
    is_linked = False
    for call in calls:
        if call.name == "pwrite64" and call.path == str(wal):
            assert call.ends_at > written, "what was flushed is never written over"
            written = call.ends_at
        elif call.name == "pwrite64":
            assert call.path.endswith("-shm"), f"nothing else is written: {call}"
        elif call.path == str(wal) and call.result == 0:
            flushed = written
        elif call.path == str(folder) and call.result == 0:
            is_linked = True
    assert flushed < written or not is_linked, "something is lost"
    if is_linked:
        with wal.open("r+b") as file:
            file.truncate(flushed)
    else:
        # A new file whose folder was not flushed is gone altogether.
        wal.unlink()
    # The index of the log is memory, not disk.
    (folder / f"{FILE_NAME}-shm").unlink()
