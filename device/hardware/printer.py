"""The receipt printer: slips go into a queue; neither paper nor cable ever reaches the till."""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Thread
from time import monotonic  # noqa: TID251 -- the printer is an edge: it is asked as time passes
from typing import Final, Protocol

import structlog

from device.hardware.escpos_bytes import compose, load_escpos
from device.hardware.printer_cable import Cable, PrinterGoneError
from device.hardware.printer_line import Line
from device.hardware.settings import PrinterSettings
from device.hardware.spool import Spool, drop, is_gone
from device.till.receipt import Slip, SlipKind, copy_of
from device.till.signals import PrinterState

QUEUE_MAX: Final = 50
RETRY_S: Final = (1.0, 2.0, 5.0)
LOOK_S: Final = 10.0
"""How often a printer that is well and idle is asked how it is."""
FOLDER_S: Final = 2.0
"""How soon slips that were dropped by hand are missed."""
SETTLE_S: Final = 1.0
"""Paper that ends within a slip is seen a moment after the last byte was taken."""
SILENCES_MAX: Final = 3
"""After these no slip waits for an answer; only a printer with nothing to do is still asked."""
HUNG_MAX: Final = 3
"""Connections whose calls never returned; with so many, no new one is tried until one does."""

OnChange = Callable[[PrinterState, int], None]

_log = structlog.get_logger(__name__)


class Printer(Protocol):
    """Prints slips when it can."""

    def print(self, slip: Slip) -> None:
        """Queue a slip; returns at once and raises nothing."""
        ...

    def close(self) -> None: ...


@dataclass(eq=False)
class _Queued:
    """A slip, its file once it has one, and whether its moment has passed."""

    slip: Slip
    path: Path | None = None
    is_late: bool = False


class EscposPrinter:
    """A real printer behind python-escpos, in a thread of its own.

    A slip leaves the queue when it was written and the printer, where it can be asked, said that it
    is well. Before that it is kept and tried again, a receipt then as a copy; a question is
    dropped. While the printer is away the oldest slips beyond QUEUE_MAX go. A write that fails in
    the middle of a slip prints its beginning twice: paper is never the record of a sale.
    """

    def __init__(
        self,
        settings: PrinterSettings,
        connect: Callable[[], Line],
        *,
        spool: Path | None = None,
        on_change: OnChange = lambda _state, _waiting: None,
    ) -> None:
        """`connect` makes a plug; it is called again after every failure.

        `spool`: the state folder in which slips wait over a restart. `on_change` is called by the
        printer's thread.
        """
        self._settings = settings
        self._connect = connect
        self._on_change = on_change
        self._changed = Condition()
        self._slips: deque[_Queued] = deque()
        self._spool = None if spool is None else Spool(spool)
        self._cable: Cable | None = None
        self._hung: list[Cable] = []
        self._state = PrinterState.OK
        self._told: tuple[PrinterState, int] | None = None
        self._has_answered = settings.answers == "always"
        self._silences = 0
        self._failures = 0
        self._is_closing = False
        self._thread = Thread(target=self._run, name="printer", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Slips not printed yet."""
        with self._changed:
            return len(self._slips)

    def print(self, slip: Slip) -> None:
        """Hand one over. Where there is a spool it is on the disk when this returns, or the disk
        refused; nobody waits for the printer."""
        queued = _Queued(slip, self._put(slip))
        with self._changed:
            self._slips.append(queued)
            if len(self._slips) > QUEUE_MAX:
                # The one being written is the first: it stays, the next oldest goes.
                gone = self._slips[1]
                del self._slips[1]
                if gone.path is not None:
                    drop(gone.path)
                _log.warning("a slip was dropped: the printer's queue is full")
            self._changed.notify()

    def close(self) -> None:
        """Stop after the slip being printed; what waits is in the spool."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(timeout=self._settings.deadline_s)

    def _run(self) -> None:
        # python-escpos takes a while to load: now rather than at the first receipt.
        with suppress(ImportError, OSError):  # said by the first slip that needs it
            load_escpos()
        self._take_up()
        look_at = monotonic()
        while not self._is_closing:
            try:
                self._keep()
                if self._state.holds_slips_back:
                    self._put_off()
                if self._next() is not None or monotonic() >= look_at:
                    look_at = monotonic() + self._attend()
                self._tell()
            except Exception:  # noqa: BLE001 -- no fault of paper may end the thread
                self._hang_up()
                # Or what waits would bring it here again at once, and for ever.
                self._failures = max(1, self._failures)
                look_at = monotonic() + RETRY_S[-1]
                _log.exception("the printer's thread stumbled")
            self._wait(look_at)
        self._keep()
        if self._slips:
            _log.warning("slips left unprinted", slips=len(self._slips))
        self._hang_up()

    def _take_up(self) -> None:
        """What the last run left is late by now."""
        if self._spool is None:
            return
        left = [_Queued(each.slip, each.path, is_late=True) for each in self._spool.left()]
        for each in left[:-QUEUE_MAX]:
            self._forget(each)
        with self._changed:
            self._slips.extendleft(reversed(left[-QUEUE_MAX:]))

    def _keep(self) -> None:
        """Give a file to each slip that the disk refused; miss those that were dropped."""
        if self._spool is None:
            return
        with self._changed:
            slips = tuple(self._slips)
        for each in slips:
            if each.path is None:
                each.path = self._put(each.slip)
                if each.path is not None and not self._has(each):
                    drop(each.path)  # the queue was full meanwhile
        gone = {id(each) for each in slips if each.path is not None and is_gone(each.path)}
        if gone:
            with self._changed:
                self._slips = deque(each for each in self._slips if id(each) not in gone)

    def _put(self, slip: Slip) -> Path | None:
        """Its file, if it is worth something later."""
        if self._spool is None or slip.kind is SlipKind.QUESTION:
            return None
        return self._spool.put(slip)

    def _has(self, queued: _Queued) -> bool:
        with self._changed:
            return any(each is queued for each in self._slips)

    def _next(self) -> _Queued | None:
        """The slip to print now; None also while the printer has to be seen to first."""
        with self._changed:
            return self._slips[0] if self._slips and not self._failures else None

    def _attend(self) -> float:
        """Print what waits, or ask how the printer is; the seconds until it is to be done again."""
        try:
            if self._cable is not None:
                try:
                    self._print_next()
                except PrinterGoneError as fault:
                    # A power cycle leaves a connection that no longer leads anywhere.
                    _log.info("printer_reconnected", reason=str(fault))
                    self._hang_up()
                    self._print_next()
            else:
                self._print_next()
        except PrinterGoneError as fault:
            self._hang_up()
            if self._state is not PrinterState.AWAY:
                _log.warning("printer_gone", reason=str(fault))
            self._state = PrinterState.AWAY
        if not self._state.holds_slips_back:
            self._failures = 0
            return LOOK_S
        self._put_off()
        wait_s = RETRY_S[min(self._failures, len(RETRY_S) - 1)]
        self._failures += 1
        return wait_s

    def _print_next(self) -> None:
        cable = self._plug_in()
        self._state = self._ask(cable)
        with self._changed:
            queued = self._slips[0] if self._slips else None
        if queued is not None and not self._state.holds_slips_back:
            self._print_one(cable, queued)
        if self._settings.kind == "network":
            # A connection that the printer dropped takes one more slip without a word (#253), and
            # most printers serve one caller at a time.
            self._hang_up()

    def _print_one(self, cable: Cable, queued: _Queued) -> None:
        try:
            composed = compose(
                copy_of(queued.slip) if queued.is_late else queued.slip, self._settings
            )
        except Exception:  # noqa: BLE001 -- it would hold up all the others for ever
            _log.exception("a slip that cannot be printed was dropped")
            self._forget(queued)
            return
        # Until all is well its beginning may be on paper: the next try is a copy.
        queued.is_late = True
        cable.write(composed)
        if self._has_answered:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closing, SETTLE_S)
            self._state = self._ask(cable)
            if self._state.holds_slips_back:
                return
        self._forget(queued)

    def _plug_in(self) -> Cable:
        if self._cable is None:
            self._hung = [cable for cable in self._hung if cable.is_hung]
            if len(self._hung) >= HUNG_MAX:
                raise PrinterGoneError("hung")
            self._cable = Cable(self._settings.deadline_s)
            self._cable.open(self._connect)
        return self._cable

    def _ask(self, cable: Cable) -> PrinterState:
        """How the printer is; one that says nothing is well as long as it takes bytes."""
        is_mute = not self._has_answered and self._silences >= SILENCES_MAX
        if self._settings.answers == "never" or (is_mute and self.waiting):
            return PrinterState.OK
        state = cable.state(must_answer=self._has_answered)
        if state is None:
            self._silences += 1
            return PrinterState.OK
        self._has_answered = True
        return state

    def _put_off(self) -> None:
        """The printer has to be seen to: what waits is late, and a question is worth nothing."""
        with self._changed:
            self._slips = deque(
                each for each in self._slips if each.slip.kind is not SlipKind.QUESTION
            )
            for each in self._slips:
                each.is_late = True

    def _forget(self, queued: _Queued) -> None:
        with self._changed:
            self._slips = deque(each for each in self._slips if each is not queued)
        if queued.path is not None:
            drop(queued.path)

    def _tell(self) -> None:
        now = (self._state, self.waiting)
        if now != self._told:
            self._told = now
            self._on_change(*now)

    def _wait(self, look_at: float) -> None:
        """Until there is something to do: a slip to print, the next look, or the end."""
        with self._changed:
            may_print = not self._failures
            known = len(self._slips)
            limit_s = look_at - monotonic()
            if self._slips and not may_print:
                limit_s = min(limit_s, FOLDER_S)
            self._changed.wait_for(
                lambda: (
                    self._is_closing
                    or (may_print and bool(self._slips))
                    or len(self._slips) > known
                ),
                max(0.0, limit_s),
            )

    def _hang_up(self) -> None:
        cable, self._cable = self._cable, None
        if cable is not None:
            cable.close()
            self._hung.append(cable)


class NoPrinter:
    """An appliance without a printer: slips are let go."""

    def __init__(self, on_change: OnChange = lambda _state, _waiting: None) -> None:
        on_change(PrinterState.NONE, 0)

    def print(self, slip: Slip) -> None:
        del slip

    def close(self) -> None:
        """Nothing is open."""
