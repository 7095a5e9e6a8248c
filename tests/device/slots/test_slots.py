import os
import socket
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep  # noqa: TID251 -- threads are waited for

import pytest

from device.sale_lock import SaleLock
from device.slots import handing
from device.slots.client import SlotsClient
from device.slots.keeper import Keeper
from device.slots.rauc import Fault
from device.slots.wire import (
    Answer,
    Ask,
    AskInstall,
    AskMarkGood,
    AskReboot,
    AskStatus,
    AskStay,
    Done,
    Refusal,
    Refused,
    Told,
)
from device.updating.slots import Failure, Installation, Slots
from tests.device.slots.machine import COMPATIBLE, NEW, OLD, Machine, a_bundle, sha256_of


def eventually(holds: Callable[[], bool]) -> None:
    until = monotonic() + 60
    while not holds():
        assert monotonic() < until, "it never came to that"
        sleep(0.01)


def told(answer: Answer | str) -> Slots:
    assert isinstance(answer, Told), answer
    return answer.slots


def install(machine: Machine, content: bytes, version: str = NEW) -> AskInstall:
    digest = machine.put(content)
    return AskInstall(f"{digest}.raucb", digest, version)


def outcome(keeper: Keeper, ask: Ask) -> Installation:
    assert keeper.answer(ask) == Done()
    keeper.wait()
    installation = told(keeper.answer(AskStatus())).installation
    assert installation is not None
    assert installation.is_over
    return installation


def test_the_slots_are_told_of_over_the_socket(machine: Machine) -> None:
    with machine.serving() as client:
        assert client.is_there
        assert told(client.ask(AskStatus())) == Slots(
            compatible=COMPATIBLE, booted="A", primary="A", other_version="", is_good=False
        )


def test_a_good_bundle_gets_into_the_other_slot_and_the_next_start_tries_it(
    machine: Machine,
) -> None:
    keeper = machine.keeper()
    with machine.serving(keeper) as client:
        assert client.ask(install(machine, a_bundle())) == Done()
        eventually(lambda: not told(client.ask(AskStatus())).is_installing)
        slots = told(client.ask(AskStatus()))
    assert slots.installation is not None
    assert (slots.installation.failure, slots.installation.percent) == (None, 100)
    assert (slots.starts_other, slots.other_version) == (True, NEW)
    assert machine.restart() == NEW
    assert not (machine.places.hold / handing.COPY).exists()


def test_how_far_it_is_is_told_while_rauc_itself_answers_nobody(machine: Machine) -> None:
    machine.hold_installation()
    keeper = machine.keeper()
    with machine.serving(keeper) as client:
        assert client.ask(install(machine, a_bundle())) == Done()

        def has_come_to(percent: int) -> bool:
            installation = told(client.ask(AskStatus())).installation
            return installation is not None and installation.percent == percent

        eventually(lambda: has_come_to(40))
        asked = len(machine.asked)
        slots = told(client.ask(AskStatus()))
        assert len(machine.asked) == asked, "rauc was asked while it installs"
        assert (slots.booted, slots.is_installing) == ("A", True)
        assert client.ask(install(machine, a_bundle())) == Refused(Refusal.BUSY)
        assert client.ask(AskMarkGood()) == Refused(Refusal.BUSY)
        assert client.ask(AskReboot()) == Refused(Refusal.BUSY)
        machine.go_on()


@pytest.mark.parametrize(
    ("content", "failure", "said"),
    [
        (a_bundle(signed_by="somebody"), Failure.SIGNATURE, "self-signed certificate"),
        (a_bundle(compatible="railtix-pos-rpios"), Failure.COMPATIBLE, "it is for railtix-pos-rp"),
        (a_bundle(version="9.9"), Failure.OTHER_VERSION, "it is version 9.9, announced was"),
        (a_bundle(payload="bent"), Failure.CORRUPTED, "Input/output error"),
        (
            a_bundle(signed_by="us, and then a bit was turned"),
            Failure.CORRUPTED,
            "CMS routines::verification failure",
        ),
        (b"rubbish, and no bundle at all", Failure.CORRUPTED, "Invalid bundle format"),
    ],
)
def test_a_bundle_that_must_not_be_installed_is_not_and_it_is_said_why(
    machine: Machine, content: bytes, failure: Failure, said: str
) -> None:
    keeper = machine.keeper()
    over = outcome(keeper, install(machine, content))
    assert over.failure is failure
    assert said in over.detail
    assert machine.restart() == OLD
    lock = SaleLock(machine.places.lock)
    assert lock.take(), "the till may go on selling"
    lock.let_go()


@pytest.mark.parametrize(
    ("words", "failure"),
    [
        ("LastError: Failed updating slot: No space left on device", Failure.SPACE),
        ("LastError: Compatible mismatch: Expected 'a' but bundle has 'b'", Failure.COMPATIBLE),
        (
            "signature verification failed: Verify error: certificate is not yet valid",
            Failure.CLOCK,
        ),
        ("something new", Failure.OTHER),
        ("die", Failure.OTHER),
    ],
)
def test_what_rauc_says_is_told_plainly(machine: Machine, words: str, failure: Failure) -> None:
    machine.change(moods={"install": words})
    keeper = machine.keeper()
    over = outcome(keeper, install(machine, a_bundle()))
    assert over.failure is failure
    assert over.detail


def test_a_rauc_that_hangs_is_ended_at_its_deadline(machine: Machine) -> None:
    machine.change(moods={"install": "hang"})
    fault = machine.rauc().install(machine.updates / "any", lambda _: None, deadline_s=0.3)
    assert isinstance(fault, Fault)
    assert fault.failure is Failure.TIMED_OUT


def test_a_rauc_that_is_not_there_or_talks_rubbish_is_no_slot(
    machine: Machine, tmp_path: Path
) -> None:
    machine.change(moods={"status": "rubbish", "info": "rubbish"})
    keeper = machine.keeper()
    assert told(keeper.answer(AskStatus())) == Slots()
    assert isinstance(machine.rauc().manifest(tmp_path), Fault)
    ask = install(machine, a_bundle())
    assert keeper.answer(ask) == Refused(Refusal.RAUC, "it does not say which slot runs")
    assert SaleLock(machine.places.lock).take()


@pytest.mark.parametrize(
    "name",
    ["../../etc/shadow", "/etc/shadow", "x.raucb", "", ".", "a" * 64, f"{'a' * 64}.raucb\n"],
)
def test_a_name_that_is_no_bundles_is_refused(machine: Machine, name: str) -> None:
    answer = machine.keeper().answer(AskInstall(name, "a" * 64, NEW))
    assert isinstance(answer, Refused)
    assert answer.why is Refusal.NAME
    assert machine.asked == []


def test_what_is_no_plain_file_of_the_appliances_own_is_refused(machine: Machine) -> None:
    keeper = machine.keeper()
    path = machine.updates / f"{'a' * 64}.raucb"
    elsewhere = machine.folder / "elsewhere"
    elsewhere.write_bytes(a_bundle())

    def answer() -> Answer:
        return keeper.answer(AskInstall(path.name, "a" * 64, NEW))

    def refused(said: str) -> None:
        found = answer()
        assert isinstance(found, Refused)
        assert found.why is Refusal.NO_BUNDLE
        assert said in found.detail
        path.unlink(missing_ok=True)

    refused("No such file")
    path.symlink_to(elsewhere)
    refused("symbolic links")
    path.hardlink_to(elsewhere)
    refused("another name elsewhere")
    os.mkfifo(path)
    refused("no plain file")
    path.touch()
    refused("0 bytes are no bundle")
    path.mkdir()
    found = answer()
    assert isinstance(found, Refused)
    path.rmdir()
    path.write_bytes(a_bundle())
    stranger = machine.keeper()
    stranger._owners = frozenset({os.geteuid() + 1})
    assert stranger.answer(AskInstall(path.name, "a" * 64, NEW)) == Refused(
        Refusal.NO_BUNDLE, "it is somebody else's"
    )
    assert machine.asked == []


def test_a_folder_that_is_a_link_leads_nowhere(machine: Machine) -> None:
    digest = machine.put(a_bundle())
    machine.updates.rename(machine.folder / "moved")
    machine.updates.symlink_to(machine.folder / "moved")
    answer = machine.keeper().answer(AskInstall(f"{digest}.raucb", digest, NEW))
    assert isinstance(answer, Refused)
    assert answer.why is Refusal.NO_BUNDLE


def test_a_bundle_that_is_swapped_once_it_was_looked_at_is_not_the_one_installed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is the appliance's user may hold the file open, and write into it at any moment."""
    good, bad = a_bundle(), a_bundle(version="0.0.1", padding=20)
    digest = machine.put(good)
    path = machine.updates / f"{digest}.raucb"
    at_work = handing._copy

    def swap_then_copy(source: int, target: Path, size: int) -> str:
        path.write_bytes(bad)
        return at_work(source, target, size)

    monkeypatch.setattr(handing, "_copy", swap_then_copy)
    keeper = machine.keeper()
    over = outcome(keeper, AskInstall(path.name, digest, NEW))
    assert over.failure is Failure.CHANGED
    assert ["install"] not in [each[:1] for each in machine.asked]
    assert machine.restart() == OLD


def test_what_is_swapped_after_the_copy_changes_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = machine.put(a_bundle())
    path = machine.updates / f"{digest}.raucb"
    at_work = handing._copy

    def copy_then_swap(source: int, target: Path, size: int) -> str:
        copied = at_work(source, target, size)
        path.write_bytes(a_bundle(version="0.0.1"))
        return copied

    monkeypatch.setattr(handing, "_copy", copy_then_swap)
    assert outcome(machine.keeper(), AskInstall(path.name, digest, NEW)).failure is None
    assert machine.restart() == NEW


def test_a_bundle_that_grows_while_it_is_copied_fills_no_disk(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 100)
    with source.open("rb") as file:
        source.write_bytes(b"x" * 5000)
        digest = handing._copy(file.fileno(), tmp_path / "copy", 100)
    assert digest == sha256_of(b"x" * 100)
    assert (tmp_path / "copy").stat().st_size == 100


def test_without_room_for_a_copy_beside_the_journal_nothing_is_copied(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def little(_folder: Path) -> int:
        return handing.ROOM

    monkeypatch.setattr(handing, "_free", little)
    over = outcome(machine.keeper(), install(machine, a_bundle()))
    assert over.failure is Failure.SPACE
    assert not (machine.places.hold / handing.COPY).exists()


def test_a_disk_that_refuses_the_copy_leaves_none(machine: Machine) -> None:
    machine.places.hold.write_text("a file where the folder should be")
    over = outcome(machine.keeper(), install(machine, a_bundle()))
    assert over.failure is Failure.OTHER
    assert "could not be copied" in over.detail


def test_nothing_is_installed_and_nothing_restarted_into_an_open_sale(machine: Machine) -> None:
    till = SaleLock(machine.places.lock)
    assert till.take()
    keeper = machine.keeper()
    assert keeper.answer(install(machine, a_bundle())) == Refused(Refusal.IN_USE)
    assert keeper.answer(AskReboot()) == Refused(Refusal.IN_USE)
    assert not machine.was_rebooted
    till.let_go()
    assert keeper.answer(AskReboot()) == Done()
    assert machine.was_rebooted


def test_no_sale_begins_from_the_first_byte_of_an_installation_to_its_last(
    machine: Machine,
) -> None:
    machine.hold_installation()
    keeper = machine.keeper()
    till = SaleLock(machine.places.lock)
    assert keeper.answer(install(machine, a_bundle())) == Done()
    assert not till.take()
    machine.go_on()
    keeper.wait()
    eventually(till.take)


def test_no_sale_begins_once_the_machine_was_asked_to_start_again(machine: Machine) -> None:
    keeper = machine.keeper()
    assert keeper.answer(AskReboot()) == Done()
    assert not SaleLock(machine.places.lock).take()
    assert keeper.answer(install(machine, a_bundle())) == Refused(Refusal.BUSY)


def test_a_restart_that_does_not_come_about_gives_the_till_back(machine: Machine) -> None:
    keeper = machine.keeper(reboot=("false",))
    answer = keeper.answer(AskReboot())
    assert isinstance(answer, Refused)
    assert answer.why is Refusal.RAUC
    assert SaleLock(machine.places.lock).take()


def test_a_lock_that_nobody_made_means_that_nothing_is_installed(machine: Machine) -> None:
    machine.places.lock.unlink()
    answer = machine.keeper().answer(install(machine, a_bundle()))
    assert isinstance(answer, Refused)
    assert answer.why is Refusal.IN_USE


def test_the_lock_is_waited_for_a_moment(machine: Machine) -> None:
    """The till tries it now and then; that must not cost an installation."""
    till = SaleLock(machine.places.lock)
    assert till.take()
    keeper = machine.keeper(lock_wait_s=5.0)
    ticks = iter(range(100))

    def clock() -> float:
        tick = next(ticks)
        if tick == 3:
            till.let_go()
        return float(tick)

    keeper._clock = clock
    assert keeper.answer(AskReboot()) == Done()


def test_the_slot_that_runs_is_marked_good(machine: Machine) -> None:
    keeper = machine.keeper()
    machine.restart()
    assert machine.state["left"]["A"] == 2
    assert keeper.answer(AskMarkGood()) == Done()
    assert machine.state["left"]["A"] == 3
    assert told(keeper.answer(AskStatus())).is_good
    machine.change(moods={"mark-good": "no such slot"})
    assert keeper.answer(AskMarkGood()) == Refused(Refusal.RAUC, "no such slot")


def test_the_slot_that_runs_is_the_next_starts_again(machine: Machine) -> None:
    keeper = machine.keeper()
    machine.change(order=["B", "A"])
    assert told(keeper.answer(AskStatus())).starts_other
    assert keeper.answer(AskStay()) == Done()
    assert not told(keeper.answer(AskStatus())).starts_other
    machine.change(moods={"mark-active": "no such slot"})
    assert keeper.answer(AskStay()) == Refused(Refusal.RAUC, "no such slot")


def test_a_start_that_nobody_calls_good_is_ended_after_half_an_hour(machine: Machine) -> None:
    keeper = machine.keeper()
    machine.uptime_s = 1799.0
    keeper.mind()
    assert not machine.was_rebooted
    machine.uptime_s = 1800.0
    till = SaleLock(machine.places.lock)
    assert till.take()
    keeper.mind()
    assert not machine.was_rebooted, "a sale is open"
    till.let_go()
    keeper.mind()
    assert not machine.was_rebooted, "it looks again only after some seconds"
    machine.uptime_s = 1811.0
    keeper.mind()
    assert machine.was_rebooted


def test_a_start_that_was_called_good_is_left_alone_by_the_next_railtix_slots_too(
    machine: Machine,
) -> None:
    assert machine.keeper().answer(AskMarkGood()) == Done()
    machine.uptime_s = 9000.0
    machine.keeper().mind()
    assert not machine.was_rebooted


def test_a_machine_that_was_started_from_no_slot_is_never_restarted(machine: Machine) -> None:
    machine.change(booted="")
    machine.uptime_s = 9000.0
    machine.keeper().mind()
    assert not machine.was_rebooted


def test_three_starts_that_nobody_calls_good_lead_back(machine: Machine) -> None:
    keeper = machine.keeper()
    assert outcome(keeper, install(machine, a_bundle())).failure is None
    ran = [machine.restart() for _ in range(4)]
    assert ran == [NEW, NEW, NEW, OLD]


def test_an_installation_that_is_cut_off_leaves_the_slot_that_runs_alone(
    machine: Machine,
) -> None:
    machine.change(moods={"install": "die"})
    outcome(machine.keeper(), install(machine, a_bundle()))
    assert [machine.restart() for _ in range(3)] == [OLD, OLD, OLD]
    assert machine.state["left"] != {"A": 0, "B": 0}


def test_a_copy_that_a_power_cut_left_is_thrown_away(machine: Machine) -> None:
    machine.places.hold.mkdir()
    (machine.places.hold / handing.COPY).write_bytes(b"half")
    machine.keeper()
    assert not (machine.places.hold / handing.COPY).exists()


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{}\n",
        b"[1]\n",
        b'{"ask":"format"}\n',
        b'{"ask":"install"}\n',
        b'{"ask":"install","name":7,"sha256":"x","version":"1"}\n',
        b'{"ask":"install","name":"a","sha256":"A","version":"1"}\n',
        b"\xff\xfe\n",
        b"x" * 20_000,
    ],
)
def test_rubbish_is_answered_as_rubbish_and_the_next_one_is_served(
    machine: Machine, line: bytes
) -> None:
    with machine.serving() as client:
        with socket.socket(socket.AF_UNIX) as wire:
            wire.settimeout(60)
            wire.connect(str(machine.socket))
            wire.sendall(line)
            assert b'"malformed"' in wire.recv(4096)
        assert told(client.ask(AskStatus())).booted == "A"
    assert machine.asked == [["status", "--detailed", "--output-format=json"]]


def test_many_who_connect_and_go_keep_nobody_out(machine: Machine) -> None:
    with machine.serving() as client:
        for _ in range(50):
            with socket.socket(socket.AF_UNIX) as wire:
                wire.connect(str(machine.socket))
        assert told(client.ask(AskStatus())).booted == "A"


def test_a_stranger_hears_nothing(machine: Machine) -> None:
    with machine.serving(users=frozenset({os.geteuid() + 1})) as client:
        assert isinstance(client.ask(AskMarkGood()), str)
    assert machine.state["good"] == []


def test_others_cannot_so_much_as_connect(machine: Machine) -> None:
    with machine.serving():
        assert machine.socket.stat().st_mode & 0o777 == 0o660


def test_where_nobody_listens_the_answer_says_so(tmp_path: Path) -> None:
    client = SlotsClient(tmp_path / "nothing")
    assert not client.is_there
    assert client.ask(AskStatus()) == "No such file or directory"
