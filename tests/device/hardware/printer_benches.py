"""A printer that can be asked, hung, unplugged and run dry, at the far end of each kind of line."""

import errno
import os
import select
import socket
import tty
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable
from pathlib import Path
from threading import Condition, Event, Thread
from types import SimpleNamespace
from typing import Any

import usb.core

from device.hardware.printer_line import Line, connect_to
from device.hardware.printer_status import OFFLINE_CAUSE, PAPER, PRINTER
from device.hardware.settings import PrinterSettings
from device.hardware.simulated_paper import Paper, SimulatedPaper

ANSWERS: dict[Paper, dict[bytes, int]] = {
    "low": {PAPER: 0x1E},
    "out": {PRINTER: 0x1A, OFFLINE_CAUSE: 0x32, PAPER: 0x7E},
    "open": {PRINTER: 0x1A, OFFLINE_CAUSE: 0x16},
}


class Bench(ABC):
    """One printer on a table. What it is told to be, it is, until told otherwise."""

    settings: PrinterSettings

    def __init__(self) -> None:
        self.arrived = bytearray()
        """What would be ink: all but the questions."""
        self.opened = 0
        self._paper: Paper = "ok"
        self._breaks_after: int | None = None
        self._runs_out_after: int | None = None

    @abstractmethod
    def connect(self) -> Line: ...

    @abstractmethod
    def switch_off(self) -> None: ...

    @abstractmethod
    def switch_on(self) -> None: ...

    def put(self, paper: Paper) -> None:
        self._paper = paper

    def break_after(self, count: int) -> None:
        """Unplug it when so many more bytes of a slip have come."""
        self._breaks_after = len(self.arrived) + count

    def run_out_after(self, count: int) -> None:
        self._runs_out_after = len(self.arrived) + count

    def mend(self) -> None:
        """Nothing more is to happen to it."""
        self._breaks_after = self._runs_out_after = None
        self.switch_on()

    def close(self) -> None:
        self.switch_off()

    def take(self, some: bytes) -> bytes:
        """What the printer says to these bytes."""
        answers = b""
        for question in (PRINTER, OFFLINE_CAUSE, PAPER):
            for _ in range(some.count(question)):
                if self._paper != "silent":
                    answers += bytes([ANSWERS.get(self._paper, {}).get(question, 0x12)])
            some = some.replace(question, b"")
        self.arrived += some
        if self._runs_out_after is not None and len(self.arrived) >= self._runs_out_after:
            self._runs_out_after = None
            self.put("out")
        return answers

    def is_to_break(self, some: bytes) -> bool:
        """Whether the cable is pulled out within these; what came before that is on paper."""
        if self._breaks_after is None or len(self.arrived) + len(some) < self._breaks_after:
            return False
        self.arrived += some[: self._breaks_after - len(self.arrived)]
        self._breaks_after = None
        return True


class SimulatedBench(Bench):
    """The printer of the simulated edge."""

    def __init__(self, tmp_path: Path) -> None:
        super().__init__()
        del tmp_path
        self.settings = PrinterSettings(deadline_s=3)
        self._simulated = SimulatedPaper(self._print)

    def connect(self) -> Line:
        self.opened += 1
        return self._simulated.connect()

    def put(self, paper: Paper) -> None:
        self._simulated.put(paper)

    def switch_off(self) -> None:
        self._simulated.put("away")

    def switch_on(self) -> None:
        self._simulated.put("ok")

    def _print(self, some: bytes) -> None:
        if self.is_to_break(some):
            self.switch_off()
            raise ConnectionResetError
        self.take(some)


class SerialBench(Bench):
    """A pseudo-terminal: the path stays, what is behind it is new after each power cycle."""

    def __init__(self, tmp_path: Path) -> None:
        super().__init__()
        self._path = tmp_path / "port"
        self.settings = PrinterSettings(kind="serial", serial_path=str(self._path), deadline_s=3)
        self._off = Event()
        self._thread: Thread | None = None
        self.switch_on()

    def connect(self) -> Line:
        self.opened += 1
        return connect_to(self.settings)

    def switch_on(self) -> None:
        ours, theirs = os.openpty()
        tty.setraw(theirs)
        self._path.unlink(missing_ok=True)
        self._path.symlink_to(os.ttyname(theirs))
        self._paper = "ok"
        self._off = Event()
        self._thread = Thread(target=self._serve, args=(ours, theirs, self._off))
        self._thread.start()

    def switch_off(self) -> None:
        self._off.set()
        if self._thread is not None:
            self._thread.join()
        self._path.unlink(missing_ok=True)

    def _serve(self, ours: int, theirs: int, off: Event) -> None:
        try:
            while not off.is_set():
                if self._paper == "hung" or not select.select([ours], [], [], 0.02)[0]:
                    off.wait(0.005)
                    continue
                some = os.read(ours, 4096)
                if self.is_to_break(some):
                    return
                if answers := self.take(some):
                    os.write(ours, answers)
        finally:
            os.close(theirs)
            os.close(ours)
            if not off.is_set():
                self._path.unlink(missing_ok=True)


class NetworkBench(Bench):
    """A port on loopback that takes one caller at a time."""

    def __init__(self, tmp_path: Path) -> None:
        super().__init__()
        del tmp_path
        self._server: socket.socket | None = None
        self._port = 0
        self._off = Event()
        self._thread: Thread | None = None
        self.switch_on()
        self.settings = PrinterSettings(
            kind="network", host="127.0.0.1", port=self._port, deadline_s=3
        )

    def connect(self) -> Line:
        self.opened += 1
        return connect_to(self.settings)

    def switch_on(self) -> None:
        self.switch_off()
        server = socket.create_server(("127.0.0.1", self._port))
        server.settimeout(0.02)
        self._port = server.getsockname()[1]
        self._paper = "ok"
        self._off = Event()
        self._thread = Thread(target=self._serve, args=(server, self._off))
        self._thread.start()

    def switch_off(self) -> None:
        self._off.set()
        if self._thread is not None:
            self._thread.join()

    def _serve(self, server: socket.socket, off: Event) -> None:
        with server:
            while not off.is_set():
                try:
                    client, _ = server.accept()
                except TimeoutError:
                    continue
                with client:
                    client.settimeout(0.02)
                    if not self._talk(client, off):
                        return

    def _talk(self, client: socket.socket, off: Event) -> bool:
        while not off.is_set():
            if self._paper == "hung":
                off.wait(0.005)
                continue
            try:
                some = client.recv(4096)
                if not some:
                    return True
                if self.is_to_break(some):
                    # Reset, not closed: whoever writes on is told.
                    client.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
                    )
                    return False
                if answers := self.take(some):
                    client.sendall(answers)
            except TimeoutError:
                continue
            except OSError:
                return True
        return False


class UsbBench(Bench):
    """A bus with one printer, below pyusb; a power cycle gives it another address."""

    OUT, IN = 0x03, 0x81
    """Not those that python-escpos takes for granted."""

    def __init__(self, tmp_path: Path) -> None:
        super().__init__()
        del tmp_path
        self.settings = PrinterSettings(kind="usb", deadline_s=3)
        self._changed = Condition()
        self._address: int | None = 5
        self._next_address = 6
        self._answers = bytearray()
        self.backend = _Bus(self)

    def connect(self) -> Line:
        self.opened += 1
        return connect_to(self.settings)

    def put(self, paper: Paper) -> None:
        with self._changed:
            self._paper = paper
            self._changed.notify_all()

    def switch_off(self) -> None:
        with self._changed:
            self._address = None
            self._paper = "ok"
            self._answers.clear()
            self._changed.notify_all()

    def switch_on(self) -> None:
        with self._changed:
            self._address = self._next_address
            self._next_address += 1
            self._paper = "ok"

    def addresses(self) -> list[int]:
        return [] if self._address is None else [self._address]

    def write(self, address: int, some: bytes) -> int:
        with self._changed:
            # libusb was seen to ignore its own deadline: only a power cycle ends this.
            self._changed.wait_for(lambda: self._paper != "hung" or self._address != address)
            self._must_be(address)
            if self.is_to_break(some):
                self._address = None
                self._changed.notify_all()
                raise usb.core.USBError("no such device", errno=errno.ENODEV)
            self._answers += self.take(some)
            return len(some)

    def read(self, address: int, room: int, timeout_ms: int) -> bytes:
        with self._changed:
            self._must_be(address)
            if not self._changed.wait_for(lambda: self._answers, timeout_ms / 1000):
                raise usb.core.USBTimeoutError("timed out", errno=errno.ETIMEDOUT)
            read = bytes(self._answers[:room])
            del self._answers[:room]
            return read

    def _must_be(self, address: int) -> None:
        if self._address != address:
            raise usb.core.USBError("no such device", errno=errno.ENODEV)


class _Bus:
    """What pyusb asks of libusb (usb.backend.IBackend), for one bulk printer."""

    # Looked up and never called: the printer's endpoints are bulk.
    intr_write = intr_read = iso_write = iso_read = None

    def __init__(self, bench: UsbBench) -> None:
        self._bench = bench

    def enumerate_devices(self) -> list[int]:
        return self._bench.addresses()

    def get_device_descriptor(self, dev: int) -> Any:
        return SimpleNamespace(
            bLength=18, bDescriptorType=1, bcdUSB=0x200, bDeviceClass=0, bDeviceSubClass=0,
            bDeviceProtocol=0, bMaxPacketSize0=64, idVendor=0x04B8, idProduct=0x0E15,
            bcdDevice=0x100, iManufacturer=0, iProduct=0, iSerialNumber=0, bNumConfigurations=1,
            bus=1, address=dev, port_number=1, port_numbers=(1,), speed=2,
        )  # fmt: skip

    def get_configuration_descriptor(self, _dev: int, config: int) -> Any:
        if config:
            raise IndexError
        return SimpleNamespace(
            bLength=9, bDescriptorType=2, wTotalLength=32, bNumInterfaces=1, bConfigurationValue=1,
            iConfiguration=0, bmAttributes=0xC0, bMaxPower=1, extra_descriptors=[],
        )  # fmt: skip

    def get_interface_descriptor(self, _dev: int, intf: int, alt: int, _config: int) -> Any:
        if intf or alt:
            raise IndexError
        return SimpleNamespace(
            bLength=9, bDescriptorType=4, bInterfaceNumber=0, bAlternateSetting=0, bNumEndpoints=2,
            bInterfaceClass=7, bInterfaceSubClass=1, bInterfaceProtocol=2, iInterface=0,
            extra_descriptors=[],
        )  # fmt: skip

    def get_endpoint_descriptor(
        self, _dev: int, ep: int, _intf: int, _alt: int, _config: int
    ) -> Any:
        return SimpleNamespace(
            bLength=7, bDescriptorType=5, bEndpointAddress=(UsbBench.OUT, UsbBench.IN)[ep],
            bmAttributes=2, wMaxPacketSize=64, bInterval=0, bRefresh=0, bSynchAddress=0,
            extra_descriptors=[],
        )  # fmt: skip

    def open_device(self, dev: int) -> int:
        return dev

    def close_device(self, _handle: int) -> None: ...
    def set_configuration(self, _handle: int, _value: int) -> None: ...

    def get_configuration(self, _handle: int) -> int:
        return 1

    def claim_interface(self, _handle: int, _intf: int) -> None: ...
    def release_interface(self, _handle: int, _intf: int) -> None: ...
    def reset_device(self, _handle: int) -> None: ...

    def is_kernel_driver_active(self, _handle: int, _intf: int) -> bool:
        return False

    def detach_kernel_driver(self, _handle: int, _intf: int) -> None: ...

    def bulk_write(self, handle: int, ep: int, _intf: int, data: Any, _timeout: int) -> int:
        assert ep == UsbBench.OUT
        return self._bench.write(handle, bytes(data))

    def bulk_read(self, handle: int, ep: int, _intf: int, buff: Any, timeout: int) -> int:
        assert ep == UsbBench.IN
        read = array("B", self._bench.read(handle, len(buff), timeout))
        buff[: len(read)] = read
        return len(read)


BENCHES: dict[str, Callable[[Path], Bench]] = {
    "simulated": SimulatedBench,
    "serial": SerialBench,
    "network": NetworkBench,
    "usb": UsbBench,
}
