"""An appliance's power: cut at a chosen flush, with what was never flushed kept or lost."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from pathlib import Path
from typing import Final

from device.journal.chain import FILE_NAME
from device.journal.journal import look_at
from device.till.entries import (
    DeniedTaken,
    PolicyTaken,
    SaleAbandoned,
    SaleAcceptedOffline,
    SaleAnswered,
    SaleCancelled,
    SaleOpened,
    Synced,
    SyncRefused,
    WalletKeysTaken,
)
from protocol.messages import Approved
from tests.journeys.bar import WITHIN_S, Bar, Guest, Watch, eventually, now
from tests.journeys.strace import Attached, Call, Traced, killing
from venue.edge import EdgeError
from venue.lights import Light, Seen
from venue.paper import plain

WAL_NAME: Final = f"{FILE_NAME}-wal"
ENOUGH: Final = 800
LEARNT: Final = (DeniedTaken, PolicyTaken, Synced, SyncRefused, WalletKeysTaken)
"""What a heartbeat's answer or a policy teaches: journaled whenever it comes, in no scene."""


def nothing(_bar: Bar, _guest: Guest) -> None:
    """Everything is as it has to be."""


class Disk(StrEnum):
    """What a power cut does to bytes that were written and not flushed: either may happen."""

    KEEPS = "keeps what was not flushed"
    LOSES = "loses what was not flushed"


@dataclass(frozen=True)
class Scene:
    """Something staff do, small enough to be played once for every flush in it."""

    name: str
    play: Callable[["Bar", Guest], None]
    """Until all of it is journaled."""
    prepare: Callable[["Bar", Guest], None] = nothing
    """What must be so before: under no knife."""
    disks: tuple[Disk, ...] = tuple(Disk)


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
    seen: tuple[Seen, ...] = field(default=(), compare=False, repr=False)
    """What the lamp said before the light went out."""

    @property
    def is_paid(self) -> bool:
        match self.word:
            case Word.PAID:
                return self.answer is not False
            case Word.NOT_PAID:
                return False
            case Word.NONE:
                return self.answer is True


@contextmanager
def knife(bar: Bar, *options: str) -> Generator[Attached]:
    """strace at the running appliance's journal, and nothing of it left behind."""
    attached = Attached(
        bar.appliance.program, bar.venue.folder / "cut.strace", *options, paths=journal_of(bar)
    )
    try:
        yield attached
    finally:
        attached.detach()


def journal_of(bar: Bar) -> tuple[Path, ...]:
    """The files whose flushes are counted: the appliance keeps others, and none decides a sale."""
    folder = bar.appliance.folder.absolute()
    return folder, folder / FILE_NAME, folder / WAL_NAME, folder / f"{FILE_NAME}-shm"


class Hit(Enum):
    """What the n-th flush since the scene began was."""

    NONE = "there were not so many"
    SCENE = "the scene's own n-th"
    OTHER = "another one: something else was journaled meanwhile"


def cut_at(bar: Bar, number: int, disk: Disk, play: Callable[[], None], watch: Watch) -> Hit:
    """Play, and cut the power at this flush from now; `watch` began just before.

    Leaves the appliance without power where it was cut.
    """
    wal = bar.appliance.folder / WAL_NAME
    was_flushed = wal.stat().st_size
    # The appliance hangs up when its power goes; that it went is asserted below.
    with knife(bar, *killing("fdatasync", number)) as attached, suppress(EdgeError):
        play()
        bar.edge.clear()
        await_settled(bar)
    calls = attached.calls()
    flushes = [call for call in calls if call.is_flush]
    assert {call.name for call in flushes} <= {"fdatasync"}, "or other calls need a loop too"
    # As a process dies, strace may note its last call once more, in the name of other threads.
    flushes = [call for call in flushes if call.thread == flushes[0].thread]
    hit = [call for call in flushes if call.result is None]
    if not hit:
        assert len(flushes) < number
        assert bar.appliance.program.running
        return Hit.NONE
    bar.appliance.program.wait(WITHIN_S)
    bar.edge.close()
    bar.appliance.network.mend()
    assert len(flushes) == number, f"the power was to go at flush {number}: {flushes}"
    # Read while all that was written is still there.
    is_other = any(isinstance(entry, LEARNT) for entry in watch.journaled())
    if disk is Disk.LOSES:
        _lose_unflushed(bar, calls, was_flushed)
    return Hit.OTHER if is_other else Hit.SCENE


def cut_start(bar: Bar, number: int, disk: Disk) -> bool:
    """Switch it on again, and cut the power at this flush; False where it was ready before."""
    program = bar.appliance.program
    bar.appliance.switch_off()
    wal = bar.appliance.folder / WAL_NAME
    assert not wal.exists(), "closed in order, the journal is one file: every life begins alike"
    traced = Traced(
        program,
        bar.venue.folder / "start.strace",
        *killing("fdatasync", number),
        paths=journal_of(bar),
    )
    bar.appliance.program = traced
    try:
        with suppress(EdgeError):
            bar.appliance.switch_on(bar.venue.rng())
            bar.await_ready(0.0)
        calls = traced.calls()
        died = any(call.is_flush and call.result is None for call in calls)
    finally:
        traced.kill()
        bar.edge.close()
        bar.appliance.program = program
    if died and disk is Disk.LOSES:
        _lose_unflushed(bar, calls, 0)
    return died


def word_of(bar: Bar, since: float = 0.0) -> Word:
    """The lamp's word since then, in this life of the appliance, from its pins."""
    if any(at > since for at in bar.edge.approvals()):
        return Word.PAID
    levels = [each for each in bar.edge.levels if each.at > since]
    is_red = any(each.red > 0 and each.green == each.blue == 0 for each in levels)
    return Word.NOT_PAID if is_red else Word.NONE


def cut_everywhere(
    bar: Bar, guest: Guest, scene: Scene, disk: Disk, check: Callable[[Watch, Cut], None]
) -> list[Cut]:
    """Play the scene until it was cut at each of its flushes, and once more without a cut.

    Where staff are asked whether the goods were handed over, the same cut again, and the other
    answer. A cut at another flush than was meant is judged like any, and made again.
    """
    cuts: list[Cut] = []
    number = 1
    kept = True
    while True:
        if guest.balance() < ENOUGH:
            guest.top_up()
        scene.prepare(bar, guest)
        watch = bar.watch()
        hit = cut_at(bar, number, disk, lambda: scene.play(bar, guest), watch)
        if hit is Hit.NONE:
            check(watch, Cut(word_of(bar, watch.since), None, bar.edge.lights(watch.since)))
            return cuts
        word, seen = word_of(bar, watch.since), bar.edge.lights(watch.since)
        bar.appliance.switch_on(bar.venue.rng())
        cut = Cut(word, settle(bar, kept=kept), seen)
        check(watch, cut)
        if hit is Hit.OTHER:
            continue
        cuts.append(cut)
        kept = cut.answer is None or not kept
        if kept:
            number += 1


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


def await_settled(bar: Bar) -> None:
    bar.edge.wait_for(lambda: is_settled(bar) or None, "all of it to be journaled", WITHIN_S)


def is_settled(bar: Bar) -> bool:
    """Nothing open; `look_at` also proves that the entries are numbered without gaps."""
    chain = look_at(bar.appliance.folder)
    return chain is not None and chain.is_settled


def check_promise(watch: Watch, *, is_paid: bool) -> None:
    """The ledger and the journal agree with what the people at the counter were told."""
    opened = {entry.key for entry in watch.journaled(SaleOpened)}
    approved = {
        entry.key for entry in watch.journaled(SaleAnswered) if isinstance(entry.outcome, Approved)
    }
    approved |= {entry.key for entry in watch.journaled(SaleAcceptedOffline)}
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
    # A fault light passes keys over while it shines.
    bar.await_ready(now())
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


def _lose_unflushed(bar: Bar, calls: Sequence[Call], was_flushed: int) -> None:
    """Leave on the disk what a flush covered, and nothing else: the write-ahead log only grows."""
    folder = bar.appliance.folder
    wal = folder / WAL_NAME
    written = flushed = was_flushed
    is_linked = was_flushed > 0
    for call in calls:
        if call.name == "pwrite64" and call.path == str(wal):
            assert call.ends_at > flushed, "what was flushed is never written over"
            written = max(written, call.ends_at)
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
