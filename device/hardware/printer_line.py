"""A printer's plug: USB, serial and network through python-escpos, with what it leaves out."""

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol, assert_never

from device.hardware.escpos_bytes import load_escpos, our_own_log
from device.hardware.settings import PrinterSettings

if TYPE_CHECKING:
    from escpos.escpos import Escpos
    from escpos.printer import Network, Serial, Usb

CHUNK_BYTES: Final = 1024
"""A second at 9600 baud: a slip with a QR takes a slow line longer than any one deadline."""
READ_MAX: Final = 64
_PRINTER_CLASS: Final = 7
_BULK: Final = 2
_INWARDS: Final = 0x80


class Line(Protocol):
    """Bytes to a printer and back. Any call may raise, and any may hang; see Cable."""

    @property
    def chunk_bytes(self) -> int:
        """How much one `write` should be given."""
        ...

    def open(self) -> None: ...

    def write(self, some: bytes) -> None: ...

    def read(self, patience_s: float) -> bytes:
        """What comes by then; nothing where nothing came."""
        ...

    def close(self, *, is_broken: bool) -> None: ...


class UsbLine:
    """Found by vendor and product at every opening: a power cycle gives it a new address."""

    chunk_bytes = CHUNK_BYTES

    def __init__(self, printer: "Usb") -> None:
        self._printer = printer
        self._can_answer = False

    def open(self) -> None:
        with our_own_log():
            self._printer.open()
        # python-escpos takes 0x01 and 0x82 for granted; many printers have others.
        interfaces = [
            each
            for each in self._printer.device.get_active_configuration()
            if each.bAlternateSetting == 0
        ]
        interfaces.sort(key=lambda each: each.bInterfaceClass != _PRINTER_CLASS)
        bulk = [
            endpoint.bEndpointAddress
            for endpoint in interfaces[0]
            if endpoint.bmAttributes & 3 == _BULK
        ]
        outwards = [address for address in bulk if not address & _INWARDS]
        inwards = [address for address in bulk if address & _INWARDS]
        self._can_answer = bool(inwards)
        self._printer.out_ep = outwards[0] if outwards else self._printer.out_ep
        self._printer.in_ep = inwards[0] if inwards else self._printer.in_ep

    def write(self, some: bytes) -> None:
        _raw(self._printer, some)

    def read(self, patience_s: float) -> bytes:
        from usb.core import USBTimeoutError  # noqa: PLC0415 -- loaded with python-escpos

        if not self._can_answer:
            return b""
        try:
            patience_ms = max(1, int(patience_s * 1000))
            return bytes(self._printer.device.read(self._printer.in_ep, READ_MAX, patience_ms))
        except USBTimeoutError:
            return b""

    def close(self, *, is_broken: bool) -> None:
        del is_broken
        _hang_up(self._printer)


class SerialLine:
    """A port by its path; an adapter that was pulled out comes back under the same one."""

    chunk_bytes = CHUNK_BYTES

    def __init__(self, printer: "Serial", settings: PrinterSettings) -> None:
        self._printer = printer
        self._settings = settings

    def open(self) -> None:
        with our_own_log():
            self._printer.open()
        port = self._printer.device
        # python-escpos leaves these out, and without the first a write waits for ever.
        port.write_timeout = self._settings.deadline_s
        port.xonxoff = self._settings.serial_flow == "xonxoff"
        port.rtscts = self._settings.serial_flow == "rtscts"

    def write(self, some: bytes) -> None:
        _raw(self._printer, some)

    def read(self, patience_s: float) -> bytes:
        port = self._printer.device
        port.timeout = patience_s
        return bytes(port.read(max(1, port.in_waiting)))

    def close(self, *, is_broken: bool) -> None:
        if is_broken:
            # Else closing waits until all is sent: for ever, where nothing can be.
            port = self._printer.device
            self._printer.device = None
            with suppress(Exception):
                port.reset_output_buffer()
            port.close()
        _hang_up(self._printer)


class NetworkLine:
    """A printer's port 9100, or whatever forwards to one."""

    chunk_bytes = CHUNK_BYTES

    def __init__(self, printer: "Network") -> None:
        self._printer = printer

    def open(self) -> None:
        # python-escpos knows IPv4 alone, and leaves the socket of a failed try lying about.
        address = (self._printer.host, self._printer.port)
        self._printer.device = socket.create_connection(address, self._printer.timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def write(self, some: bytes) -> None:
        self._socket.settimeout(self._printer.timeout)
        _raw(self._printer, some)

    def read(self, patience_s: float) -> bytes:
        self._socket.settimeout(patience_s)
        try:
            read = self._socket.recv(READ_MAX)
        except TimeoutError:
            return b""
        if not read:
            raise ConnectionResetError("the printer hung up")
        return read

    def close(self, *, is_broken: bool) -> None:
        del is_broken
        _hang_up(self._printer)

    @property
    def _socket(self) -> socket.socket:
        return self._printer.device


def connect_to(settings: PrinterSettings) -> Line:
    """The attached printer, not opened yet."""
    load_escpos()
    from escpos.printer import Network, Serial, Usb  # noqa: PLC0415

    deadline_s, profile = settings.deadline_s, settings.profile
    match settings.kind:
        case "usb":
            deadline_ms = int(deadline_s * 1000)
            return UsbLine(
                Usb(settings.usb_vendor, settings.usb_product, timeout=deadline_ms, profile=profile)
            )
        case "serial":
            path, baud = settings.serial_path, settings.serial_baud
            return SerialLine(Serial(path, baud, timeout=deadline_s, profile=profile), settings)
        case "network":
            return NetworkLine(Network(settings.host, settings.port, deadline_s, profile=profile))
        case "none":
            raise ValueError("no printer is attached")
        case _:
            assert_never(settings.kind)


def _raw(printer: "Escpos", some: bytes) -> None:
    # python-escpos has no public call for bytes that are already commands.
    printer._raw(some)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


def _hang_up(printer: "Escpos") -> None:
    try:
        with our_own_log():
            printer.close()
    finally:
        # Its destructor would close once more, and could hang whichever thread comes by.
        printer._device = False  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
