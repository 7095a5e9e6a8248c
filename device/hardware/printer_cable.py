"""The way to a printer: every call has a deadline, also one that never returns."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from time import monotonic  # noqa: TID251 -- deadlines are in real time
from typing import Final, TypeVar

from device.hardware.printer_line import Line
from device.hardware.printer_status import OFFLINE_CAUSE, PAPER, PRINTER, is_status, state_of
from device.till.signals import PrinterState

ASK_S: Final = 0.5
"""How long a printer that may never answer is waited for; one that does takes milliseconds."""
STRAY_S: Final = 0.005
GRACE_S: Final = 1.0
"""A driver that keeps its deadline ends by itself, and then with a reason."""

T = TypeVar("T")


class PrinterGoneError(Exception):
    """The printer cannot be reached, takes no bytes, or fell silent."""


class Cable:
    """A connection to a printer, with a thread that makes all the calls.

    A call into a driver can hang for ever (python-escpos #143). Its thread is then left behind,
    and closes the connection should the call ever return.
    """

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._line: Line | None = None
        self._is_broken = False
        self._moved_at = 0.0
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="printer cable", daemon=True)
        self._thread.start()

    def open(self, connect: Callable[[], Line]) -> None:
        """Raises PrinterGoneError, as everything here does but `close`."""
        self._call(lambda: self._open(connect))

    @property
    def is_hung(self) -> bool:
        """Whether a call that was given up still holds its thread."""
        return self._is_broken and self._thread.is_alive()

    def write(self, composed: bytes) -> None:
        """Where it raises, how much of it was printed is unknown."""
        self._call(lambda: self._write(composed))

    def state(self, *, must_answer: bool) -> PrinterState | None:
        """How the printer says it is; None where it says nothing, unless it must answer."""
        answer = self._call(lambda: self._state(self._deadline_s if must_answer else ASK_S))
        if answer is None and must_answer:
            raise PrinterGoneError("silent")
        return answer

    def close(self) -> None:
        """Hang up. A printer that is gone may refuse even that."""
        with suppress(PrinterGoneError):
            self._call(self._close)
        self._calls.put(None)

    def _call(self, errand: Callable[[], T]) -> T:
        if self._is_broken:
            raise PrinterGoneError("closed")
        done: Future[T] = Future()

        def perform() -> None:
            try:
                done.set_result(errand())
            except Exception as fault:  # noqa: BLE001 -- drivers raise what they like
                done.set_exception(fault)

        patience_s = self._deadline_s + GRACE_S
        self._moved_at = monotonic()
        self._calls.put(perform)
        while not done.done() and (left_s := self._moved_at + patience_s - monotonic()) > 0:
            wait((done,), left_s)
        if not done.done():
            self._give_up()
            raise PrinterGoneError("hung")
        fault = done.exception()
        if fault is not None:
            self._give_up()
            # Its kind alone: its words may hold an address.
            raise PrinterGoneError(type(fault).__name__) from fault
        return done.result()

    def _give_up(self) -> None:
        self._is_broken = True
        self._calls.put(self._close)
        self._calls.put(None)

    # What follows runs in the cable's own thread.

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()

    def _open(self, connect: Callable[[], Line]) -> None:
        self._line = connect()
        self._line.open()

    def _write(self, composed: bytes) -> None:
        assert self._line is not None, "it was opened first"
        chunk_bytes = self._line.chunk_bytes
        for start in range(0, len(composed), chunk_bytes):
            self._line.write(composed[start : start + chunk_bytes])
            self._moved_at = monotonic()

    def _state(self, answer_s: float) -> PrinterState | None:
        printer = self._ask(PRINTER, answer_s)
        if printer is None:
            return None
        self._moved_at = monotonic()
        return state_of(printer, self._ask(OFFLINE_CAUSE, ASK_S), self._ask(PAPER, ASK_S))

    def _ask(self, question: bytes, answer_s: float) -> int | None:
        assert self._line is not None, "it was opened first"
        while self._line.read(STRAY_S):
            pass  # left from a question whose answer came too late
        self._line.write(question)
        until = monotonic() + answer_s
        while (left_s := until - monotonic()) > 0:
            answers = [byte for byte in self._line.read(left_s) if is_status(byte)]
            if answers:
                return answers[-1]
        return None

    def _close(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            with suppress(Exception):
                line.close(is_broken=self._is_broken)
