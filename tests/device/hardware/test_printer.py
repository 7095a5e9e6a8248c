import errno
import random  # noqa: TID251 -- seeded: what happened once happens again
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest
import usb.backend.libusb1
from msgspec import structs

from device.hardware import printer as printer_module
from device.hardware import printer_cable
from device.hardware.escpos_bytes import compose, load_escpos
from device.hardware.printer import EscposPrinter, NoPrinter
from device.hardware.printer_line import connect_to
from device.hardware.settings import PrinterSettings
from device.hardware.spool import Spool, is_gone, look
from device.till.receipt import Slip, SlipKind, Text, copy_of
from device.till.signals import PrinterState
from tests.device.hardware.printer_benches import BENCHES, Bench, UsbBench

Until = Callable[[Callable[[], bool]], None]
Told = list[tuple[PrinterState, int]]

load_escpos()  # not within anybody's deadline


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses shortened; what is waited for in vain stays long, for slow machines."""
    monkeypatch.setattr(printer_module, "RETRY_S", (0.02,))
    monkeypatch.setattr(printer_module, "LOOK_S", 0.05)
    monkeypatch.setattr(printer_module, "FOLDER_S", 0.02)
    monkeypatch.setattr(printer_module, "SETTLE_S", 0.02)
    monkeypatch.setattr(printer_cable, "ASK_S", 3.0)


@pytest.fixture(params=BENCHES)
def bench(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    made = BENCHES[request.param](tmp_path)
    if isinstance(made, UsbBench):
        bus = made.backend
        monkeypatch.setattr(usb.backend.libusb1, "get_backend", lambda: bus)
    yield made
    made.close()


class Desk:
    """A printer's driver, and what it told of its printer."""

    def __init__(self, bench: Bench, **changes: object) -> None:
        self.told: Told = []
        self.settings = structs.replace(bench.settings, **changes)
        self.driver = EscposPrinter(
            self.settings,
            bench.connect,
            on_change=lambda state, waiting: self.told.append((state, waiting)),
        )

    @property
    def state(self) -> PrinterState | None:
        return self.told[-1][0] if self.told else None

    def bytes_of(self, *slips: Slip) -> bytes:
        return b"".join(compose(slip, self.settings) for slip in slips)


@pytest.fixture
def desk(bench: Bench) -> Iterator[Desk]:
    made = Desk(bench)
    yield made
    made.driver.close()


@pytest.fixture
def impatient(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """For printers that hang: nobody waits long for those."""
    monkeypatch.setattr(printer_cable, "GRACE_S", 0.2)
    made = Desk(bench, deadline_s=0.4)
    yield made
    bench.switch_off()
    made.driver.close()


def slip(text: str, kind: SlipKind = SlipKind.RECEIPT) -> Slip:
    return Slip((Text(text),), kind)


ONE, TWO = slip("receipt one"), slip("receipt two")


def test_slips_arrive_whole_and_in_order(bench: Bench, desk: Desk, until: Until) -> None:
    slips = [slip(f"receipt {number}") for number in range(5)]
    for one in slips:
        desk.driver.print(one)
    until(lambda: desk.driver.waiting == 0)
    assert bytes(bench.arrived) == desk.bytes_of(*slips)


def test_the_till_is_told_how_the_printer_is(bench: Bench, desk: Desk, until: Until) -> None:
    expected = {
        "low": PrinterState.PAPER_LOW,
        "out": PrinterState.NO_PAPER,
        "open": PrinterState.COVER_OPEN,
        "ok": PrinterState.OK,
    }
    for paper, state in expected.items():
        bench.put(paper)  # type: ignore[arg-type]
        until(lambda state=state: desk.state is state)  # type: ignore[misc]
        assert desk.told[-1] == (state, 0)
    bench.switch_off()
    until(lambda: desk.state is PrinterState.AWAY)
    assert desk.state is PrinterState.AWAY
    bench.switch_on()
    until(lambda: desk.state is PrinterState.OK)
    assert desk.state is PrinterState.OK


@pytest.mark.parametrize("trouble", ["out", "open", "off"])
def test_late_receipts_are_copies_late_notices_are_not_and_late_questions_are_not_printed(
    trouble: str, bench: Bench, desk: Desk, until: Until
) -> None:
    if trouble == "off":
        bench.switch_off()
    else:
        bench.put("out" if trouble == "out" else "open")
    until(lambda: desk.state is not None and desk.state.holds_slips_back)
    notice = slip("shift report", SlipKind.NOTICE)
    for each in (ONE, notice, slip("sign out?", SlipKind.QUESTION), TWO):
        desk.driver.print(each)
    until(lambda: bool(desk.told) and desk.told[-1][1] == 3)
    assert bench.arrived == b""
    if trouble == "off":
        bench.switch_on()
    else:
        bench.put("ok")
    until(lambda: desk.driver.waiting == 0)
    assert bytes(bench.arrived) == desk.bytes_of(copy_of(ONE), notice, copy_of(TWO))
    until(lambda: desk.told[-1] == (PrinterState.OK, 0))
    assert desk.told[-1] == (PrinterState.OK, 0)


def test_a_printer_unplugged_within_a_slip_prints_it_again_as_a_copy(
    bench: Bench, desk: Desk, until: Until
) -> None:
    until(lambda: desk.state is PrinterState.OK)
    bench.break_after(7)
    desk.driver.print(ONE)
    until(lambda: desk.state is PrinterState.AWAY)
    assert desk.driver.waiting == 1
    bench.switch_on()
    until(lambda: desk.driver.waiting == 0)
    assert bytes(bench.arrived).endswith(desk.bytes_of(copy_of(ONE)))
    assert bytes(bench.arrived).count(b"receipt one") <= 2


def test_paper_that_ends_within_a_slip_brings_a_copy_on_the_next_roll(
    bench: Bench, desk: Desk, until: Until
) -> None:
    until(lambda: desk.state is PrinterState.OK)
    bench.run_out_after(10)
    desk.driver.print(ONE)
    until(lambda: desk.state is PrinterState.NO_PAPER)
    assert desk.told[-1] == (PrinterState.NO_PAPER, 1)
    bench.put("ok")
    until(lambda: desk.driver.waiting == 0)
    assert bytes(bench.arrived) == desk.bytes_of(ONE, copy_of(ONE))


def test_a_power_cycle_that_nobody_noticed_costs_no_slip_and_makes_no_copy(
    bench: Bench, desk: Desk, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(printer_module, "LOOK_S", 60.0)
    desk.driver.print(ONE)
    until(lambda: desk.driver.waiting == 0)
    bench.switch_off()
    bench.switch_on()
    desk.driver.print(TWO)
    until(lambda: desk.driver.waiting == 0)
    assert bytes(bench.arrived) == desk.bytes_of(ONE, TWO)


def test_a_printer_that_hangs_holds_nobody_up_and_prints_after_a_power_cycle(
    bench: Bench, impatient: Desk, until: Until
) -> None:
    impatient.driver.print(ONE)
    until(lambda: impatient.driver.waiting == 0)
    bench.put("hung")
    impatient.driver.print(TWO)
    until(lambda: impatient.state is PrinterState.AWAY)
    assert impatient.told[-1] == (PrinterState.AWAY, 1)
    bench.switch_off()
    bench.switch_on()
    until(lambda: impatient.driver.waiting == 0)
    assert bytes(bench.arrived).startswith(impatient.bytes_of(ONE))
    assert bytes(bench.arrived).endswith(impatient.bytes_of(copy_of(TWO)))


def test_a_printer_that_never_answers_prints_all_the_same(
    bench: Bench, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(printer_cable, "ASK_S", 0.02)
    bench.put("silent")
    desk = Desk(bench)
    slips = [slip(f"receipt {number}") for number in range(5)]
    for one in slips:
        desk.driver.print(one)
    until(lambda: desk.driver.waiting == 0)
    desk.driver.close()
    until(lambda: bytes(bench.arrived) == desk.bytes_of(*slips))
    assert bytes(bench.arrived) == desk.bytes_of(*slips)
    assert {state for state, _ in desk.told} == {PrinterState.OK}


def test_a_printer_that_must_answer_and_does_not_is_away(
    bench: Bench, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(printer_cable, "GRACE_S", 0.2)
    bench.put("silent")
    desk = Desk(bench, answers="always", deadline_s=0.1)
    desk.driver.print(ONE)
    until(lambda: desk.told[-1:] == [(PrinterState.AWAY, 1)])
    desk.driver.close()
    assert (bytes(bench.arrived), desk.driver.waiting) == (b"", 1)


def test_a_printer_that_must_not_be_asked_is_not(bench: Bench, until: Until) -> None:
    bench.put("silent")
    desk = Desk(bench, answers="never")
    desk.driver.print(ONE)
    until(lambda: bytes(bench.arrived) == desk.bytes_of(ONE))
    desk.driver.close()
    assert bytes(bench.arrived) == desk.bytes_of(ONE)


def test_without_a_printer_slips_are_let_go_and_the_till_knows_why() -> None:
    told: Told = []
    printer = NoPrinter(lambda state, waiting: told.append((state, waiting)))
    printer.print(ONE)
    printer.close()
    assert told == [(PrinterState.NONE, 0)]
    with pytest.raises(ValueError, match="no printer"):
        connect_to(PrinterSettings(kind="none"))


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_printer_does_every_receipt_comes_and_at_most_once_unmarked(
    seed: int, tmp_path: Path, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(printer_cable, "GRACE_S", 0.1)
    chance = random.Random(seed)
    bench = BENCHES["simulated"](tmp_path)
    desk = Desk(bench, deadline_s=0.2)
    count = 30
    for number in range(count):
        desk.driver.print(slip(f"receipt {number:02d}."))
        match chance.choice(("ok", "ok", "out", "open", "off", "hung", "break", "run out")):
            case "off":
                bench.switch_off()
            case "break":
                bench.break_after(chance.randrange(60))
            case "run out":
                bench.run_out_after(chance.randrange(60))
            case "hung":
                bench.put("hung")
            case "out":
                bench.put("out")
            case "open":
                bench.put("open")
            case _:
                bench.switch_on()
        Event().wait(chance.random() * 0.05)
    bench.mend()
    until(lambda: desk.driver.waiting == 0)
    desk.driver.close()
    assert desk.driver.waiting == 0
    for number in range(count):
        one = slip(f"receipt {number:02d}.")
        unmarked = bytes(bench.arrived).count(desk.bytes_of(one))
        copies = bytes(bench.arrived).count(desk.bytes_of(copy_of(one)))
        assert unmarked <= 1 <= unmarked + copies


def test_a_printers_thread_that_stumbles_waits_before_its_next_try_and_keeps_what_waits(
    monkeypatch: pytest.MonkeyPatch, until: Until, tmp_path: Path
) -> None:
    tries: list[float] = []
    monkeypatch.setattr(printer_module, "RETRY_S", (3600.0,))

    def no_more_threads(deadline_s: float) -> None:
        tries.append(deadline_s)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(printer_module, "Cable", no_more_threads)
    settings = PrinterSettings(kind="serial", answers="never")
    driver = EscposPrinter(settings, lambda: connect_to(settings), spool=tmp_path)
    try:
        until(lambda: bool(tries))
        for number in range(1, 11):
            driver.print(slip(f"slip {number}"))
            # Its file is written each time the thread comes round.
            until(lambda number=number: len(look(tmp_path)) == number)
        assert len(tries) == 1
        assert driver.waiting == 10
    finally:
        driver.close()


def test_a_full_disk_at_the_start_costs_no_slip(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """python-escpos is loaded by way of a file in the temporary folder."""

    def load() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(printer_module, "load_escpos", load)
    desk = Desk(bench)
    try:
        desk.driver.print(slip("first"))
        until(lambda: bytes(bench.arrived) == desk.bytes_of(slip("first")))
    finally:
        desk.driver.close()


@pytest.mark.parametrize(("fault", "waits"), [(FileNotFoundError, False), (PermissionError, True)])
def test_a_disk_that_does_not_say_whether_a_slip_is_there_loses_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: type[OSError], waits: bool
) -> None:
    path = Spool(tmp_path).put(slip("first"))
    assert path is not None

    def stat(_: Path) -> None:
        raise fault(5, "Input/output error")

    assert not is_gone(path)
    with monkeypatch.context() as disk:
        disk.setattr(Path, "stat", stat)
        assert is_gone(path) is not waits
