"""The loop between a till and an installation: one lock, and whoever has it goes first."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec import structs

from device.sale_lock import SaleLock
from device.till.signals import Light, Sound
from device.till.states import Asking, JournalBroken, KeyingAmount, NobodySignedIn, Ready
from device.updating.facts import AtTheTill
from protocol.messages import Heartbeat, HeartbeatAnswered
from protocol.updates import System, Update
from tests.device.stage import EPOCH_MS, a_badge, a_policy, a_wallet_qr
from tests.device.test_runtime import Appliance, approve, bring_up

UPDATE = Update(
    version="0.2.0",
    sha256="a" * 64,
    size=7,
    compatible="railtix-pos-debian",
    channel="stable",
    rollout_percent=10,
)
SYSTEM = System(image="0.1.0", compatible="railtix-pos-debian", slot="A")


@dataclass
class Updater:
    """Says what the test wants, and remembers what it was told."""

    is_updating: bool = False
    told: list[AtTheTill] = field(default_factory=list[AtTheTill])
    heard_times: int = 0
    is_held: bool = False

    def look(self, till: AtTheTill) -> bool:
        self.told.append(till)
        return self.is_updating

    def heard(self) -> None:
        self.heard_times += 1

    def hold(self, *, is_waiting: bool) -> None:
        self.is_held = is_waiting

    def system(self) -> System | None:
        return SYSTEM


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "sale.lock"
    path.touch()
    return path


@pytest.fixture
def updater() -> Updater:
    return Updater()


@pytest.fixture
def selling(state: Path, lock: Path, updater: Updater) -> Iterator[Appliance]:
    made = Appliance(state)
    made.runtime._updates = updater
    made.runtime._lock = SaleLock(lock)
    bring_up(made)
    assert made.phase == Ready()
    yield made
    made.journal.close()


def is_free(path: Path) -> bool:
    """Whether an installation could begin."""
    other = SaleLock(path)
    taken = other.take()
    other.let_go()
    return taken


def test_the_lock_is_the_tills_from_the_first_key_to_the_last_light(
    selling: Appliance, lock: Path, updater: Updater
) -> None:
    assert is_free(lock)
    selling.press("5")
    assert isinstance(selling.phase, KeyingAmount)
    assert not is_free(lock)
    selling.press("00#")
    selling.scan(a_wallet_qr())
    assert isinstance(selling.phase, Asking)
    assert updater.is_held, "nothing is fetched while a customer waits"
    assert not is_free(lock)
    approve(selling)
    assert not is_free(lock), "the light shines still"
    selling.wait(3)
    assert selling.phase == Ready()
    assert is_free(lock)
    assert not updater.is_held


def test_no_sale_begins_while_something_is_installed(selling: Appliance, lock: Path) -> None:
    installation = SaleLock(lock)
    assert installation.take()
    position = selling.journal.position
    selling.press("500#")
    selling.scan(a_wallet_qr())
    assert selling.phase == Ready()
    assert selling.light is Light.UPDATING
    assert Sound.DECLINED in selling.history
    assert selling.journal.position == position
    selling.runtime._mind_updates()
    assert selling.light is Light.UPDATING
    installation.let_go()
    selling.runtime._mind_updates()
    assert selling.light is Light.READY
    selling.wait(5)
    selling.press("500#")
    selling.scan(a_wallet_qr())
    approve(selling)
    assert Light.APPROVED in selling.lights


def test_an_installation_that_was_asked_for_shows_before_it_begins(
    selling: Appliance, updater: Updater
) -> None:
    updater.is_updating = True
    selling.runtime._mind_updates()
    assert selling.light is Light.UPDATING
    selling.press("5")
    assert selling.phase == Ready()
    updater.is_updating = False
    selling.runtime._mind_updates()
    assert selling.light is Light.READY


def test_in_the_middle_of_something_nobody_is_asked_about_updates(
    selling: Appliance, updater: Updater
) -> None:
    selling.press("500#")
    asked = len(updater.told)
    updater.is_updating = True
    selling.runtime._mind_updates()
    assert len(updater.told) == asked
    assert selling.light is Light.SHOW_QR


def test_what_is_told_of_the_till(selling: Appliance, updater: Updater) -> None:
    selling.send_policy(structs.replace(a_policy(2), update=UPDATE))
    selling.now_s += 400
    selling.runtime._mind_updates()
    told = updater.told[-1]
    assert told.announced == UPDATE
    assert (told.use.is_at_rest, told.use.is_signed_in) == (True, True)
    assert told.use.untouched_s == 400
    assert (told.link_is_up, told.is_journal_open) == (True, True)
    selling.press("*")
    selling.runtime._mind_updates()
    assert updater.told[-1].use.untouched_s == 0


def test_a_code_that_lies_before_the_camera_all_night_is_nobody_at_the_till(
    selling: Appliance, updater: Updater
) -> None:
    for _ in range(5):
        selling.now_s += 300
        selling.scan("https://a-poster.example/")
    selling.runtime._mind_updates()
    assert updater.told[-1].use.untouched_s == 1200


def test_a_heartbeats_signed_answer_proves_this_run_and_the_next_one_tells_of_the_image(
    selling: Appliance, updater: Updater
) -> None:
    assert updater.heard_times == 1
    beat, _ = selling.requests(Heartbeat)[-1]
    assert isinstance(beat, Heartbeat)
    assert beat.system == SYSTEM
    selling.wait(60)
    selling.answer(Heartbeat, HeartbeatAnswered(EPOCH_MS, 1))
    assert updater.heard_times == 2


def test_a_lock_that_nobody_made_keeps_nobody_from_selling(selling: Appliance, lock: Path) -> None:
    """Then `railtix-slots` installs nothing either."""
    lock.unlink()
    selling.runtime._mind_updates()
    selling.press("500#")
    selling.scan(a_wallet_qr())
    approve(selling)
    assert Light.APPROVED in selling.lights


def test_a_lock_that_failed_once_is_taken_at_the_next_key(
    selling: Appliance, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_files(_: SaleLock) -> bool:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(SaleLock, "take", out_of_files)
        selling.press("5")
    assert is_free(lock)
    selling.press("0")
    assert not is_free(lock)


def test_a_journal_that_cannot_be_opened_keeps_no_update_away(
    selling: Appliance, lock: Path, updater: Updater
) -> None:
    """The next version may be what mends it."""
    selling.journal.close()
    selling.press("500#")
    assert isinstance(selling.phase, JournalBroken)
    assert is_free(lock)
    asked = len(updater.told)
    selling.runtime._mind_updates()
    assert len(updater.told) == asked + 1
    assert not updater.told[-1].is_journal_open
    assert updater.told[-1].use.is_at_rest


def test_a_program_that_ends_in_a_sale_lets_go_of_the_lock(selling: Appliance, lock: Path) -> None:
    selling.press("5")
    assert not is_free(lock)
    held = selling.runtime._lock
    assert held is not None
    held.let_go()  # as the kernel does, however it ends
    assert is_free(lock)


def test_a_badge_takes_the_lock_too(state: Path, lock: Path, updater: Updater) -> None:
    made = Appliance(state)
    made.runtime._updates, made.runtime._lock = updater, SaleLock(lock)
    made.boot()
    made.connect()
    made.send_policy()
    assert isinstance(made.phase, NobodySignedIn)
    assert is_free(lock)
    made.scan(a_badge())
    assert not is_free(lock)
    made.wait(120)
    assert is_free(lock)
    made.journal.close()
