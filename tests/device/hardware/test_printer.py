import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest

from device.hardware import printer as printer_module
from device.hardware.escpos_bytes import compose, load_escpos
from device.hardware.printer import QUEUE_MAX, EscposPrinter, NoPrinter, connect_to
from device.hardware.settings import PrinterSettings
from device.till.receipt import Slip, Text

if TYPE_CHECKING:
    from escpos.escpos import Escpos

Until = Callable[[Callable[[], bool]], None]


@dataclass
class Cable:
    """What is at the printer's end: its bytes, its faults, and how often it was connected."""

    connect: Callable[[], "Escpos"]
    settings: PrinterSettings
    arrived: bytearray = field(default_factory=bytearray)
    faults: int = 0
    """How many writes are still to fail."""
    connected: int = 0

    def __call__(self) -> "Escpos":
        self.connected += 1
        return self.connect()

    def write(self, printed: bytes) -> None:
        if self.faults:
            self.faults -= 1
            raise TimeoutError("the printer takes no bytes")
        self.arrived += printed


@pytest.fixture
def simulated() -> Cable:
    from device.hardware.simulated_paper import SocketPrinter

    def connect() -> "Escpos":
        return SocketPrinter("TM-T20II", cable.write)

    cable = Cable(connect, PrinterSettings())
    return cable


@pytest.fixture
def network() -> Iterator[Cable]:
    """A network printer's port on loopback."""
    server = socket.create_server(("127.0.0.1", 0))
    settings = PrinterSettings(
        kind="network", host="127.0.0.1", port=server.getsockname()[1], deadline_s=2
    )
    cable = Cable(lambda: connect_to(settings), settings)

    def take() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                if cable.faults:
                    cable.faults -= 1
                    continue
                while chunk := client.recv(65536):
                    cable.arrived += chunk

    thread = Thread(target=take)
    thread.start()
    yield cable
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


@pytest.fixture(params=["simulated", "network"])
def cable(request: pytest.FixtureRequest) -> Cable:
    return request.getfixturevalue(request.param)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(printer_module, "RETRY_S", (0.01,))


def slip(text: str) -> Slip:
    return Slip((Text(text),))


def test_slips_arrive_whole_and_in_order(cable: Cable, until: Until) -> None:
    printer = EscposPrinter(cable.settings, cable)
    slips = [slip(f"receipt {number}") for number in range(5)]
    for one in slips:
        printer.print(one)
    expected = b"".join(compose(one, cable.settings) for one in slips)
    until(lambda: len(cable.arrived) == len(expected))
    printer.close()
    assert bytes(cable.arrived) == expected


def test_a_printer_that_was_away_prints_when_it_is_back(
    simulated: Cable, soon: None, until: Until
) -> None:
    simulated.faults = 3
    printer = EscposPrinter(simulated.settings, simulated)
    printer.print(slip("one"))
    printer.print(slip("two"))
    until(lambda: printer.waiting == 0)
    printer.close()
    assert simulated.connected == 4
    assert bytes(simulated.arrived) == compose(slip("one"), simulated.settings) + compose(
        slip("two"), simulated.settings
    )


def test_a_printer_that_was_never_there_holds_nobody_up(soon: None, until: Until) -> None:
    asked = list[int]()

    def connect() -> "Escpos":
        asked.append(1)
        raise OSError("no such device")

    printer = EscposPrinter(PrinterSettings(), connect)
    for number in range(QUEUE_MAX + 20):
        printer.print(slip(f"receipt {number}"))
    assert printer.waiting == QUEUE_MAX
    until(lambda: len(asked) >= 2)
    printer.close()
    assert len(asked) >= 2


def test_a_printer_that_hangs_holds_nobody_up(until: Until) -> None:
    let_go, hangs = Event(), Event()

    class Hanging:
        def open(self) -> None: ...
        def close(self) -> None: ...

        def _raw(self, printed: bytes) -> None:
            assert printed.startswith(b"\x1b@")
            hangs.set()
            let_go.wait(20)

    printer = EscposPrinter(PrinterSettings(deadline_s=0.05), Hanging)  # type: ignore[arg-type]
    printer.print(slip("one"))
    assert hangs.wait(10)
    printer.print(slip("two"))
    assert printer.waiting == 2
    printer.close()
    let_go.set()
    until(lambda: not printer._thread.is_alive())
    assert not printer._thread.is_alive()


def test_a_slip_that_cannot_be_composed_is_not_a_fault_of_the_till(
    soon: None, simulated: Cable
) -> None:
    printer = EscposPrinter(PrinterSettings(profile="default"), simulated)
    printer.print(slip("one"))
    printer.close()
    assert simulated.arrived == b""


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("usb", ("Usb", (0x04B8, 0x0E15), {"timeout": 5000, "profile": "TM-T20II"})),
        ("serial", ("Serial", ("/dev/serial0", 38_400), {"timeout": 5.0, "profile": "TM-T20II"})),
    ],
)
def test_a_cable_is_opened_with_a_deadline(
    kind: str, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_escpos()
    import escpos.printer

    opened = list[tuple[object, ...]]()

    def recorder(name: str) -> Callable[..., None]:
        def record(*at: object, **how: object) -> None:
            opened.append((name, at, how))

        return record

    for name in ("Usb", "Serial"):
        monkeypatch.setattr(escpos.printer, name, recorder(name))
    connect_to(PrinterSettings(kind="usb" if kind == "usb" else "serial"))
    assert opened == [expected]


def test_without_a_printer_slips_are_let_go() -> None:
    printer = NoPrinter()
    printer.print(slip("one"))
    printer.close()
    with pytest.raises(ValueError, match="no printer"):
        connect_to(PrinterSettings(kind="none"))
