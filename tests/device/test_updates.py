"""The whole of an update with the real keeper of the slots: to its end, and cut off anywhere."""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from device import updates as updating
from device.bundles.fetch import Failure, Pace, Trouble, Way
from device.bundles.folder import BundleFolder
from device.bundles.record import KeptRecord
from device.identity.exchange import Address
from device.sale_lock import SaleLock
from device.slots import keeper as keeping
from device.slots.keeper import Keeper
from device.slots.rauc import Fault, Manifest, Rauc, State
from device.slots.wire import Answer, Ask, AskMarkGood, line_of, read_answer, read_ask
from device.updates import Updates
from device.updating.deciding import Wait, Why
from device.updating.facts import LOST, AtTheTill, Record, Stage, Trying, Use
from device.updating.slots import Failure as WhyNot
from protocol.updates import System, Update, UpdateState
from tests.device.slots.machine import COMPATIBLE, NEW, OLD, Machine, a_bundle, sha256_of

CONTENT = a_bundle()
UPDATE = Update(
    version=NEW,
    sha256=sha256_of(CONTENT),
    size=len(CONTENT),
    compatible=COMPATIBLE,
    channel="stable",
    rollout_percent=100,
)
QUIET = Use(is_at_rest=True, is_signed_in=False, untouched_s=100.0)
BUSY = Use(is_at_rest=False, is_signed_in=True, untouched_s=0.0)


class PowerCut(BaseException):
    """Nothing catches it, as nothing catches a power cut."""


class Inline:
    """A thread that is over when `start` returns: a cut in it is a cut of everything."""

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...] = (), **_: Any) -> None:
        self._target, self._args = target, args

    def start(self) -> None:
        self._target(*self._args)

    def join(self, timeout: float | None = None) -> None:
        assert timeout is None or timeout > 0


class RaucOfMachine(Rauc):
    """What the simulated program does, without a process; `moment` is where the power may go."""

    def __init__(self, machine: Machine, moment: Callable[[str], None]) -> None:
        super().__init__(("false",))
        self._machine = machine
        self._moment = moment
        self.failure: WhyNot | None = None
        self.is_silent = False

    def state(self) -> State | Fault:
        if self.is_silent:
            return Fault(WhyNot.OTHER, "no answer")
        said = self._machine.state
        primary = next((each for each in said["order"] if said["left"][each]), "")
        other = said["slots"][_other(said["booted"])]
        version = "" if other is None else other["version"]
        return State(COMPATIBLE, said["booted"], primary, version)

    def manifest(self, bundle: Path) -> Manifest | Fault:
        return Manifest(COMPATIBLE, NEW) if bundle.read_bytes() == CONTENT else Manifest("", "")

    def install(
        self, bundle: Path, on_percent: Callable[[int], None], deadline_s: float = 1.0
    ) -> Fault | None:
        assert bundle.exists()
        assert deadline_s > 0
        if self.failure is not None:
            return Fault(self.failure, "as the test wants it")
        said = self._machine.state
        other = _other(said["booted"])
        self._moment("nothing written")
        self._machine.change(slots=said["slots"] | {other: None}, left=said["left"] | {other: 0})
        on_percent(50)
        self._moment("half written")
        whole = {"compatible": COMPATIBLE, "version": NEW}
        self._machine.change(slots=said["slots"] | {other: whole})
        self._moment("written, not chosen")
        self._machine.change(left=said["left"] | {other: 3}, order=[other, said["booted"]])
        self._moment("chosen")
        return None

    def mark_good(self) -> Fault | None:
        said = self._machine.state
        self._moment("not marked")
        self._machine.change(left=said["left"] | {said["booted"]: 3})
        self._moment("marked")
        return None

    def stay(self) -> Fault | None:
        said = self._machine.state
        booted = said["booted"]
        self._moment("not stayed")
        self._machine.change(order=[booted, _other(booted)], left=said["left"] | {booted: 3})
        self._moment("stayed")
        return None


def _other(slot: str) -> str:
    return "B" if slot == "A" else "A"


class Direct:
    """The socket, without one: what is asked and answered goes through its bytes all the same."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def ask(self, what: Ask) -> Answer | str:
        ask = read_ask(line_of(what))
        assert ask is not None
        answer = read_answer(line_of(self._keeper.answer(ask)))
        assert answer is not None
        return answer


class World:
    """One appliance over many starts; `cut_at`: the moment at which the power goes, once."""

    def __init__(self, folder: Path, cut_at: int | None = None) -> None:
        self.machine = Machine(folder)
        self.state = folder / "data"
        self.cut_at = cut_at
        self.moments: list[str] = []
        self.announced: Update | None = UPDATE
        self.use = QUIET
        self.is_answered = True
        self.is_sound = True
        self.link_is_up = True
        self.has_policy = True
        self.fetched = 0
        self.fetch_failure: Failure | None = None
        self.ran: list[str] = [OLD]
        self.saw_updating = False
        self.now_s = 0.0
        self.begin()

    def moment(self, name: str) -> None:
        self.moments.append(name)
        if len(self.moments) == self.cut_at:
            raise PowerCut(name)

    def begin(self) -> None:
        self.rauc = RaucOfMachine(self.machine, self.moment)
        self.keeper = Keeper(
            self.rauc,
            self.machine.places,
            owners={os.geteuid()},
            reboot=(str(self.machine.folder / "reboot"),),
            clock=lambda: self.machine.uptime_s,
            lock_wait_s=0.0,
        )
        self.updates = Updates(
            self.state,
            Direct(self.keeper),  # pyright: ignore[reportArgumentType] -- it asks the same way
            lambda: Way(Address("cloud.example", 443), None),  # pyright: ignore[reportArgumentType]
            running=self.machine.running,
            boot=f"boot-{self.machine.reboots}",
            is_sound=lambda: self.is_sound,
        )

    def boot(self) -> None:
        self.keeper._lock.let_go()
        self.ran.append(self.machine.restart())
        self.begin()

    def turn(self, seconds: float = 5.0) -> bool:
        self.now_s += seconds
        self.machine.uptime_s += seconds
        is_updating = False
        try:
            if self.is_answered:
                self.updates.heard()
            is_updating = self.updates.look(
                AtTheTill(
                    now_s=self.now_s,
                    use=self.use,
                    announced=self.announced,
                    has_policy=self.has_policy,
                    link_is_up=self.link_is_up,
                    is_journal_open=True,
                )
            )
            self.saw_updating = self.saw_updating or is_updating
            self.keeper.mind()
        except PowerCut:
            self.boot()
            return False
        if self.machine.was_rebooted:
            self.boot()
        return is_updating

    def go_on(self, turns: int = 200, seconds: float = 5.0) -> None:
        for _ in range(turns):
            self.turn(seconds)

    @property
    def record(self) -> Record:
        return KeptRecord(self.state).read()

    @property
    def said(self) -> UpdateState | None:
        system = self.updates.system()
        return None if system is None or system.update is None else system.update.state


@pytest.fixture
def worlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    monkeypatch.setattr(updating, "Thread", Inline)
    monkeypatch.setattr(keeping, "Thread", Inline)
    made: list[World] = []

    def fetch(_: Way, update: Update, folder: BundleFolder, __: Pace) -> Failure | None:
        world = made[-1]
        if world.fetch_failure is not None:
            return world.fetch_failure
        world.fetched += 1
        folder.path.mkdir(exist_ok=True)
        world.moment("nothing fetched")
        folder.part(update.sha256).write_bytes(CONTENT[: len(CONTENT) // 2])
        world.moment("half fetched")
        folder.part(update.sha256).write_bytes(CONTENT)
        world.moment("fetched")
        folder.call_whole(update.sha256)
        return None

    monkeypatch.setattr(updating, "fetch", fetch)
    at_work = (os.fsync, Path.replace)

    def fsync(descriptor: int) -> None:
        made[-1].moment("before an fsync")
        at_work[0](descriptor)

    def replace(path: Path, target: Path) -> Path:
        if path.name.startswith(".record"):
            made[-1].moment("before the rename")
        moved = at_work[1](path, target)
        if path.name.startswith(".record"):
            made[-1].moment("after the rename")
        return moved

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)

    def make(cut_at: int | None = None) -> World:
        made.append(World.__new__(World))
        made[-1].__init__(tmp_path / f"world-{len(made)}", cut_at)
        return made[-1]

    return make


@contextmanager
def sale_open(world: World) -> Generator[None]:
    lock = SaleLock(world.machine.places.lock)
    assert lock.take()
    yield
    lock.let_go()


Worlds = Callable[..., World]


def test_an_update_comes_by_itself_and_is_proved_before_it_is_called_good(worlds: Worlds) -> None:
    world = worlds()
    world.is_answered = False
    world.go_on(40)
    assert world.ran == [OLD, NEW]
    assert world.said is UpdateState.TRYING
    assert world.machine.state["left"]["B"] == 2, "nobody has called it good"
    world.is_answered, world.is_sound = True, False
    world.go_on(5)
    assert world.said is UpdateState.TRYING
    world.is_sound = True
    world.go_on(5)
    assert world.said is UpdateState.CONFIRMED
    assert world.machine.state["left"]["B"] == 3
    assert world.record.trying is None
    assert world.saw_updating
    assert not list(world.machine.updates.glob("*.raucb")), "the old bundle is let go"
    world.go_on(50)
    assert world.ran == [OLD, NEW]
    assert world.fetched == 1


def test_once_confirmed_a_bar_without_network_never_flips_back(worlds: Worlds) -> None:
    world = worlds()
    world.go_on(60)
    world.is_answered = world.link_is_up = False
    for _ in range(5):
        world.boot()
        world.go_on(20, seconds=200.0)
    assert set(world.ran[1:]) == {NEW}


def test_a_version_that_never_proves_itself_is_left_after_three_starts_and_stays_away(
    worlds: Worlds,
) -> None:
    world = worlds()
    world.is_answered = False
    world.go_on(60)
    world.go_on(200, seconds=60.0)
    assert world.ran == [OLD, NEW, NEW, NEW, OLD]
    assert world.said is UpdateState.ROLLED_BACK
    assert world.machine.state["left"]["A"] == 3
    world.is_answered = True
    world.go_on(100, seconds=600.0)
    world.boot()
    world.go_on(100, seconds=600.0)
    assert world.ran[-2:] == [OLD, OLD], "never again by itself"
    KeptRecord(world.state).ask_again()
    world.go_on(60)
    assert world.ran[-1] == NEW
    assert world.said is UpdateState.CONFIRMED


def test_wherever_the_power_goes_the_update_comes_to_its_end(worlds: Worlds) -> None:
    world = worlds()
    world.go_on(60)
    moments = list(world.moments)
    assert len(moments) > 20
    for at in range(1, len(moments) + 1):
        world = worlds(at)
        world.go_on(90)
        told = f"cut at {at}, {moments[at - 1]}: {world.ran}, {world.record}"
        assert world.machine.running == NEW, told
        assert world.said is UpdateState.CONFIRMED, told
        assert world.record.trying is None, told
        left = world.machine.state["left"]
        assert left[world.machine.state["booted"]] == 3, told
        assert not (world.machine.places.hold / "bundle.raucb").exists(), told


def test_a_sale_that_begins_as_the_installation_does_wins_and_costs_no_attempt(
    worlds: Worlds,
) -> None:
    world = worlds()
    world.use = BUSY
    world.go_on(10)
    assert world.said is UpdateState.FETCHED
    world.use = QUIET
    with sale_open(world):
        world.go_on(100)
        assert world.ran == [OLD]
        assert world.record.trying is None
        assert not world.turn(), "the till is given back each time"
    world.go_on(60)
    assert world.ran == [OLD, NEW]


def test_people_at_the_till_are_never_interrupted(worlds: Worlds) -> None:
    world = worlds()
    world.use = BUSY
    world.go_on(300)
    assert (world.ran, world.saw_updating) == ([OLD], False)


def test_an_installation_that_fails_gives_the_till_back_and_is_tried_thrice(
    worlds: Worlds,
) -> None:
    world = worlds()
    world.rauc.failure = WhyNot.SPACE
    world.go_on(20)
    assert world.record.trying is not None
    assert world.record.trying.attempts == 1, "not at once again"
    assert not world.turn()
    world.go_on(300)
    given_up = world.record.has_given_up(UPDATE.sha256)
    assert given_up is not None
    assert given_up.why == "space: as the test wants it"
    assert world.said is UpdateState.REFUSED


def test_a_signer_that_is_not_valid_yet_is_tried_again_for_ever_and_rarely(worlds: Worlds) -> None:
    """Each try copies the bundle to the card once more."""
    world = worlds()
    tried: list[float] = []
    install = world.rauc.install

    def by_the_clock(*given: Any) -> Fault | None:
        tried.append(world.now_s)
        return install(*given)

    world.rauc.install = by_the_clock  # pyright: ignore[reportAttributeAccessIssue]
    world.rauc.failure = WhyNot.CLOCK
    world.go_on(5 * 720)
    assert len(tried) == 5, "once an hour"
    world.rauc.failure = None
    world.go_on(1000)
    assert world.ran[-1] == NEW


def written_and_not_started(worlds: Worlds) -> World:
    world = worlds()
    for _ in range(200):
        world.turn()
        trying = world.record.trying
        if trying is not None and trying.stage is Stage.INSTALLED:
            break
        world.use = QUIET if trying is None else BUSY
    assert world.machine.state["order"][0] == "B"
    assert world.ran == [OLD]
    return world


def test_what_is_paused_once_it_is_written_is_started_by_no_power_cut(worlds: Worlds) -> None:
    world = written_and_not_started(worlds)
    world.announced = None
    world.go_on(20)
    world.boot()
    assert world.ran == [OLD, OLD]
    world.go_on(20)
    assert (world.record.trying, world.record.given_up) == (None, ())
    world.announced, world.use = UPDATE, QUIET
    world.go_on(200)
    assert world.ran == [OLD, OLD, NEW]
    assert world.said is UpdateState.CONFIRMED


def test_without_a_policy_nothing_was_paused(worlds: Worlds) -> None:
    world = written_and_not_started(worlds)
    world.announced, world.has_policy = None, False
    world.go_on(20)
    assert world.machine.state["order"][0] == "B"


def test_a_bundle_that_changed_on_the_disk_is_fetched_anew(worlds: Worlds) -> None:
    world = worlds()
    world.use = BUSY
    world.go_on(10)
    world.updates.folder.whole(UPDATE.sha256).write_bytes(b"?" * UPDATE.size)
    world.use = QUIET
    world.go_on(200)
    assert world.fetched == 2
    assert world.ran == [OLD, NEW]


@pytest.mark.parametrize("trouble", [Trouble.REFUSED, Trouble.GONE, Trouble.BUSY, Trouble.NO_WAY])
def test_what_cannot_be_fetched_is_asked_for_ever_more_rarely(
    worlds: Worlds, trouble: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = worlds()
    asked: list[float] = []

    def refuse(*_: object) -> Failure:
        asked.append(world.now_s)
        return Failure(trouble, "as the test wants it")

    monkeypatch.setattr(updating, "fetch", refuse)
    world.go_on(720)
    assert 1 <= len(asked) <= 9, "in an hour"
    assert world.updates.trouble == f"{trouble.value}: as the test wants it"
    assert "as the test wants it" in world.updates.said
    assert world.ran == [OLD]


def test_without_a_link_nothing_is_fetched(worlds: Worlds) -> None:
    world = worlds()
    world.link_is_up = False
    world.go_on(50)
    assert world.fetched == 0


def test_a_policy_that_is_replaced_meanwhile_is_the_one_that_counts(worlds: Worlds) -> None:
    world = worlds()
    world.use = BUSY
    world.go_on(10)
    old = world.updates.folder.whole(UPDATE.sha256)
    assert old.exists()
    other = Update(
        version=NEW,
        sha256="f" * 64,
        size=UPDATE.size,
        compatible=COMPATIBLE,
        channel="stable",
        rollout_percent=100,
    )
    world.announced = None
    world.go_on(20)
    assert old.exists(), "paused: it may be asked for again"
    world.announced = other
    world.go_on(20)
    assert not old.exists()


def test_a_slots_program_that_is_silent_stops_nothing_but_updates(worlds: Worlds) -> None:
    world = worlds()
    world.rauc.is_silent = True
    assert world.updates.system() is None
    world.go_on(50)
    assert world.updates._step == Wait(Why.NO_SLOTS)
    assert world.updates.system() is None
    world.rauc.is_silent = False
    world.go_on(100)
    assert world.updates.system() == System(
        image=NEW, compatible=COMPATIBLE, slot="B", update=world.record.newest
    )


def test_a_disk_that_refuses_the_record_refuses_the_installation(
    worlds: Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = worlds()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(KeptRecord, "write", full)
    world.go_on(100)
    assert (world.ran, world.saw_updating) == ([OLD], False)
    monkeypatch.undo()


def test_an_appliance_that_was_reset_on_trial_is_called_good_where_nobody_can_answer(
    worlds: Worlds,
) -> None:
    world = worlds()
    world.is_answered = False
    world.go_on(40)
    assert world.ran == [OLD, NEW]
    world.updates.call_good(world.now_s)
    assert world.machine.state["left"]["B"] == 2, "not while it is on trial"
    KeptRecord(world.state).forget()
    world.begin()
    world.updates.call_good(world.now_s)
    assert world.machine.state["left"]["B"] == 3


def test_who_is_to_be_enrolled_asks_until_its_slot_is_called_good(
    worlds: Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = worlds()
    asked: list[Ask] = []
    keeper = world.keeper.answer

    def slow_to_start(ask: Ask) -> Answer:
        asked.append(ask)
        if len(asked) < 4:
            raise ConnectionRefusedError
        return keeper(ask)

    monkeypatch.setattr(world.keeper, "answer", slow_to_start)
    for now_s in range(200):
        world.updates.call_good(float(now_s))
    assert sum(isinstance(each, AskMarkGood) for each in asked) == 4
    assert world.keeper._is_good()


def test_a_version_that_no_record_speaks_for_has_to_prove_itself(worlds: Worlds) -> None:
    """Something lost the record while a new version was on trial."""
    world = worlds()
    world.is_answered = False
    world.go_on(40)
    assert world.ran == [OLD, NEW]
    (world.machine.updates / "record.json").write_bytes(b"{")
    world.begin()
    world.go_on(10)
    world.updates.call_good(world.now_s)
    assert world.machine.state["left"]["B"] == 2
    world.is_answered = True
    world.go_on(10)
    assert world.machine.state["left"]["B"] == 3
    assert world.record.confirmed[-1] == NEW


def test_a_record_that_cannot_be_read_is_lost_and_one_of_a_later_release_is_read(
    worlds: Worlds,
) -> None:
    world = worlds()
    kept = KeptRecord(world.state)
    kept.write(Record(trying=Trying(version=NEW, sha256=UPDATE.sha256, stage=Stage.INSTALLED)))
    path = world.machine.updates / "record.json"
    later = path.read_text().replace('"version"', '"of_a_later_release":[1],"version"')
    path.write_text(later)
    assert kept.read().trying is not None
    path.write_bytes(b"\xff{")
    assert kept.read() == LOST


def test_an_image_of_ours_says_its_version_and_nothing_else_does(tmp_path: Path) -> None:
    path = tmp_path / "os-release"
    assert updating.image_version(path) == ""
    path.write_text('ID=debian\nIMAGE_ID="railtix-pos"\nIMAGE_VERSION="0.2.0+202611230300"\n')
    assert updating.image_version(path) == "0.2.0+202611230300"
    path.write_text("IMAGE_ID=other\nIMAGE_VERSION=1\n")
    assert updating.image_version(path) == ""
    assert updating.boot_id(tmp_path / "nothing") == ""
    assert updating.boot_id() != ""
