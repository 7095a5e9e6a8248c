"""The receipt printer: slips go into a queue; neither paper nor cable ever reaches the till."""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Condition, Thread
from typing import TYPE_CHECKING, Final, Protocol, assert_never

import structlog

from device.hardware.escpos_bytes import compose, load_escpos
from device.hardware.settings import PrinterSettings
from device.till.receipt import Slip

if TYPE_CHECKING:
    from escpos.escpos import Escpos

QUEUE_MAX: Final = 50
RETRY_S: Final = (1.0, 2.0, 5.0, 15.0)
_log = structlog.get_logger(__name__)


class Printer(Protocol):
    """Prints slips when it can."""

    def print(self, slip: Slip) -> None:
        """Queue a slip; returns at once and raises nothing."""
        ...

    def close(self) -> None: ...


class EscposPrinter:
    """A real printer behind python-escpos, in a thread of its own.

    A slip that could not be written is kept and tried again; while the printer is away the oldest
    slips beyond QUEUE_MAX are dropped. A write that fails in the middle of a slip prints its
    beginning twice: paper is never the record of a sale.
    """

    def __init__(self, settings: PrinterSettings, connect: Callable[[], "Escpos"]) -> None:
        """`connect` makes a printer object; it is called again after every failure."""
        self._settings = settings
        self._connect = connect
        self._changed = Condition()
        self._slips: deque[Slip] = deque()
        self._device: Escpos | None = None
        self._is_closing = False
        self._thread = Thread(target=self._run, name="printer", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Slips not printed yet."""
        with self._changed:
            return len(self._slips)

    def print(self, slip: Slip) -> None:
        with self._changed:
            if len(self._slips) >= QUEUE_MAX:
                # The one being written is the first: it stays, the next oldest goes.
                del self._slips[1]
                _log.warning("a slip was dropped: the printer's queue is full")
            self._slips.append(slip)
            self._changed.notify()

    def close(self) -> None:
        """Stop after the slip being printed; what waits is lost."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(timeout=self._settings.deadline_s)

    def _run(self) -> None:
        # python-escpos takes half a second to load: now rather than at the first receipt.
        with suppress(ImportError):  # said by the first slip that needs it
            load_escpos()
        failures = 0
        while (slip := self._next_slip()) is not None:
            try:
                self._write(compose(slip, self._settings))
            except Exception as fault:  # noqa: BLE001 -- no fault of paper may end the thread
                self._disconnect()
                wait_s = RETRY_S[min(failures, len(RETRY_S) - 1)]
                failures += 1
                _log.warning("printing failed", fault=type(fault).__name__, again_in_s=wait_s)
                with self._changed:
                    self._changed.wait_for(lambda: self._is_closing, wait_s)
                continue
            failures = 0
            if self._settings.kind == "network":
                # A connection the printer dropped takes one more slip without a word (#253).
                self._disconnect()
            with self._changed:
                self._slips.popleft()
        self._disconnect()

    def _next_slip(self) -> Slip | None:
        with self._changed:
            self._changed.wait_for(lambda: self._slips or self._is_closing)
            if self._is_closing:
                if self._slips:
                    _log.warning("slips left unprinted", slips=len(self._slips))
                return None
            return self._slips[0]

    def _write(self, composed: bytes) -> None:
        if self._device is None:
            device = self._connect()
            device.open()
            self._device = device
        # python-escpos has no public call for bytes that are already commands.
        self._device._raw(composed)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]

    def _disconnect(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            # A printer that is gone may refuse to be closed too; the next one is opened afresh.
            with suppress(Exception):
                device.close()


class NoPrinter:
    """An appliance without a printer: slips are let go."""

    def print(self, slip: Slip) -> None:
        del slip

    def close(self) -> None:
        """Nothing is open."""


def connect_to(settings: PrinterSettings) -> "Escpos":
    """The attached printer, not opened yet."""
    load_escpos()
    from escpos.printer import Network, Serial, Usb  # noqa: PLC0415

    match settings.kind:
        case "usb":
            return Usb(
                settings.usb_vendor,
                settings.usb_product,
                timeout=int(settings.deadline_s * 1000),
                profile=settings.profile,
            )
        case "serial":
            return Serial(
                settings.serial_path,
                settings.serial_baud,
                timeout=settings.deadline_s,
                profile=settings.profile,
            )
        case "network":
            return Network(
                settings.host, settings.port, settings.deadline_s, profile=settings.profile
            )
        case "none":
            raise ValueError("no printer is attached")
        case _:
            assert_never(settings.kind)
