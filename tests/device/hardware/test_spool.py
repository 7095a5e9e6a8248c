import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from device.__main__ import app
from device.hardware import printer as printer_module
from device.hardware.escpos_bytes import compose, load_escpos
from device.hardware.printer import QUEUE_MAX, EscposPrinter
from device.hardware.printer_line import Line
from device.hardware.settings import PrinterSettings
from device.hardware.simulated_paper import SimulatedPaper
from device.hardware.spool import Spool, drop, look
from device.till.receipt import Columns, Qr, Rule, Slip, SlipKind, Text, copy_of

Until = Callable[[Callable[[], bool]], None]

RECEIPT = Slip(
    (
        Text("Summer Fair", bold=True, centred=True),
        Rule(),
        Columns("2 x Käse", "9.00 EUR", bold=True),
        Text("KX7-42P", large=True),
        Qr("https://a.example/r#1", "Scan me"),
    ),
    SlipKind.RECEIPT,
)
NOTICE = Slip((Text("Shift report"),))
QUESTION = Slip((Text("Handed over?"),), SlipKind.QUESTION)

load_escpos()  # not within anybody's deadline


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(printer_module, "RETRY_S", (0.02,))
    monkeypatch.setattr(printer_module, "LOOK_S", 0.05)
    monkeypatch.setattr(printer_module, "FOLDER_S", 0.02)
    monkeypatch.setattr(printer_module, "SETTLE_S", 0.02)


class Desk:
    """A simulated printer, what it printed, and the program that comes and goes."""

    def __init__(self, state: Path) -> None:
        self.arrived = bytearray()
        self.paper = SimulatedPaper(self.arrived.extend)
        self.state = state
        self.settings = PrinterSettings()
        self.told: list[int] = []
        self._running: list[EscposPrinter] = []

    def start(self, connect: Callable[[], Line] | None = None) -> EscposPrinter:
        driver = EscposPrinter(
            self.settings,
            connect or self.paper.connect,
            spool=self.state,
            on_change=lambda _state, waiting: self.told.append(waiting),
        )
        self._running.append(driver)
        return driver

    def stop(self) -> None:
        for driver in self._running:
            driver.close()
        self._running.clear()

    def files(self) -> list[str]:
        folder = self.state / "slips"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "state")
    made.state.mkdir()
    yield made
    made.stop()


def test_slips_wait_over_a_restart_and_print_as_what_they_are_worth_by_then(
    desk: Desk, until: Until
) -> None:
    desk.paper.put("out")
    before = desk.start()
    for slip in (RECEIPT, QUESTION, NOTICE):
        before.print(slip)
    until(lambda: len(desk.files()) == 2 and before.waiting == 2)
    desk.stop()
    assert desk.files() == ["00000001.slip", "00000002.slip"]
    desk.paper.put("ok")
    after = desk.start()
    until(lambda: bool(desk.arrived) and after.waiting == 0)
    expected = compose(copy_of(RECEIPT), desk.settings) + compose(NOTICE, desk.settings)
    assert bytes(desk.arrived) == expected
    assert desk.files() == []


def test_a_slip_that_printed_at_once_leaves_nothing_behind(desk: Desk, until: Until) -> None:
    driver = desk.start()
    driver.print(RECEIPT)
    until(lambda: bool(desk.arrived) and driver.waiting == 0)
    assert bytes(desk.arrived) == compose(RECEIPT, desk.settings)
    assert desk.files() == []


def test_a_receipt_is_on_the_disk_before_the_till_goes_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose light was seen is written next: after a power cut nobody is asked about that one."""
    flushed: list[list[str]] = []
    fsync = os.fsync

    def flush(descriptor: int) -> None:
        fsync(descriptor)
        flushed.append(desk.files())

    desk.paper.put("out")
    driver = desk.start()
    monkeypatch.setattr("os.fsync", flush)
    driver.print(QUESTION)
    assert flushed == []
    driver.print(RECEIPT)
    # The file's bytes under another name, and then the name it is found by.
    assert flushed == [[".00000001.slip.new"], ["00000001.slip"]]


def test_slips_are_seen_and_dropped_by_hand_while_the_program_runs(
    desk: Desk, until: Until, tmp_path: Path
) -> None:
    desk.paper.put("open")
    driver = desk.start()
    driver.print(RECEIPT)
    driver.print(NOTICE)
    until(lambda: len(desk.files()) == 2)
    assert oct((desk.state / "slips").stat().st_mode & 0o777) == "0o700"
    settings = tmp_path / "pos.toml"
    settings.write_text('[broker]\nhost = "mq.example"\n')
    arguments = ["receipts", "--config", str(settings), "--state", str(desk.state)]
    seen = CliRunner().invoke(app, arguments)
    assert seen.exit_code == 0
    assert "receipt  Summer Fair | 2 x Käse  9.00 EUR | KX7-42P | Scan me" in seen.stdout
    assert seen.stdout.splitlines()[-1] == "2 slips wait for the printer"
    dropped = CliRunner().invoke(app, [*arguments, "--drop"])
    assert (dropped.exit_code, dropped.stdout.splitlines()[-1]) == (0, "2 dropped")
    until(lambda: driver.waiting == 0)
    desk.paper.put("ok")
    until(lambda: desk.told[-1] == 0)
    assert (driver.waiting, bytes(desk.arrived), desk.told[-1]) == (0, b"", 0)
    none = CliRunner().invoke(app, arguments)
    assert none.stdout == "0 slips wait for the printer\n"


def test_the_queue_is_bounded_and_the_oldest_go(desk: Desk, until: Until) -> None:
    desk.paper.put("away")
    driver = desk.start()
    for number in range(QUEUE_MAX + 7):
        driver.print(Slip((Text(f"receipt {number}"),), SlipKind.RECEIPT))
    assert driver.waiting == QUEUE_MAX
    until(lambda: len(look(desk.state)) == QUEUE_MAX)
    desk.stop()
    kept = [each.slip.lines[0] for each in look(desk.state)]
    assert kept[0] == Text("receipt 0")
    assert kept[1:] == [Text(f"receipt {number}") for number in range(8, QUEUE_MAX + 7)]


def test_what_a_power_cut_left_damaged_is_skipped_and_removed(desk: Desk, until: Until) -> None:
    spool = Spool(desk.state)
    sound = spool.put(RECEIPT)
    assert sound is not None
    whole = sound.read_bytes()
    folder = desk.state / "slips"
    (folder / "00000002.slip").write_bytes(b"")
    (folder / "00000003.slip").write_bytes(whole[: len(whole) // 2])
    (folder / "00000004.slip").write_bytes(b"\x00" * 200)
    (folder / "00000005.slip").write_bytes(whole + b" " * 70_000)
    (folder / "00000006.slip").write_bytes(whole.replace(b'"version":1', b'"version":2'))
    (folder / "stranger.slip").write_bytes(b"\xff")
    (folder / ".00000007.slip.new").write_bytes(whole)
    driver = desk.start()
    until(lambda: bool(desk.arrived) and driver.waiting == 0)
    assert bytes(desk.arrived) == compose(copy_of(RECEIPT), desk.settings)
    assert desk.files() == []


def test_looking_removes_nothing(desk: Desk) -> None:
    Spool(desk.state).put(NOTICE)
    (desk.state / "slips" / "00000002.slip").write_bytes(b"{")
    assert [each.slip for each in look(desk.state)] == [NOTICE]
    assert len(desk.files()) == 2
    assert look(desk.state / "elsewhere") == ()


def test_a_full_disk_costs_no_slip_of_this_run(
    desk: Desk, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = list[int]()

    def refuse(descriptor: int) -> None:
        refusals.append(descriptor)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    desk.paper.put("out")
    driver = desk.start()
    driver.print(RECEIPT)
    until(lambda: len(refusals) > 1 and desk.told[-1:] == [1])
    assert (driver.waiting, desk.files()) == (1, [])
    desk.paper.put("ok")
    until(lambda: driver.waiting == 0)
    assert bytes(desk.arrived) == compose(copy_of(RECEIPT), desk.settings)


def test_a_slip_that_cannot_be_composed_holds_up_no_other(desk: Desk, until: Until) -> None:
    desk.settings = PrinterSettings(profile="default")  # it has no paper width
    driver = desk.start()
    driver.print(RECEIPT)
    until(lambda: driver.waiting == 0)
    assert (driver.waiting, bytes(desk.arrived), desk.files()) == (0, b"", [])


def test_calls_that_never_return_cost_a_bounded_number_of_threads(
    desk: Desk, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(printer_module, "HUNG_MAX", 2)
    monkeypatch.setattr("device.hardware.printer_cable.GRACE_S", 0.05)
    desk.settings = PrinterSettings(deadline_s=0.05)
    opened = list[int]()

    class Hanging:
        chunk_bytes = 1024

        def open(self) -> None:
            opened.append(1)
            desk.paper.put("hung")
            desk.paper.take(b"")

        def write(self, some: bytes) -> None: ...
        def read(self, patience_s: float) -> bytes:
            del patience_s
            return b""

        def close(self, *, is_broken: bool) -> None: ...

    driver = desk.start(Hanging)
    driver.print(RECEIPT)
    until(lambda: len(opened) >= 2 and driver._failures > 4)
    assert (len(opened), driver.waiting) == (2, 1)
    desk.paper.put("ok")  # somebody pulled the plug: the calls return
    until(lambda: len(opened) > 2)
    assert len(opened) > 2
    desk.paper.put("ok")


def test_the_spools_numbers_go_on_after_a_restart(desk: Desk) -> None:
    first = Spool(desk.state).put(RECEIPT)
    assert first is not None
    second = Spool(desk.state).put(NOTICE)
    assert second is not None
    assert [each.slip for each in look(desk.state)] == [RECEIPT, NOTICE]
    assert (drop(first), drop(first), second.exists()) == (True, False, True)
