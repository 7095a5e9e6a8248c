"""The simulated printer: what it is told to be it is, to every question and every write."""

from collections.abc import Callable
from threading import Condition
from typing import Final, Literal

from device.hardware.printer_status import OFFLINE_CAUSE, PAPER, PRINTER

Paper = Literal["ok", "low", "out", "open", "hung", "away", "silent"]
"""Silent: it prints and never says how it is."""

_WELL: Final = 0x12
_ANSWERS: Final[dict[Paper, dict[bytes, int]]] = {
    "low": {PAPER: _WELL | 0x0C},
    "out": {PRINTER: _WELL | 0x08, OFFLINE_CAUSE: _WELL | 0x20, PAPER: _WELL | 0x6C},
    "open": {PRINTER: _WELL | 0x08, OFFLINE_CAUSE: _WELL | 0x04},
}


class SimulatedPaper:
    """One printer. It outlives its connections, as a printer outlives its cable."""

    def __init__(self, on_bytes: Callable[[bytes], None]) -> None:
        self._on_bytes = on_bytes
        self._changed = Condition()
        self._paper: Paper = "ok"

    def put(self, paper: Paper) -> None:
        with self._changed:
            self._paper = paper
            self._changed.notify_all()

    def connect(self) -> "SimulatedLine":
        return SimulatedLine(self)

    def open(self) -> None:
        if self._paper == "away":
            raise ConnectionRefusedError("there is no printer")

    def take(self, some: bytes) -> bytes:
        """What is printed, or said in answer."""
        with self._changed:
            paper = self._paper
            # A driver that does not come back until somebody switches the printer off and on.
            self._changed.wait_for(lambda: self._paper != "hung")
        if paper in {"away", "hung"}:
            raise ConnectionResetError("the printer is gone")
        if some in {PRINTER, OFFLINE_CAUSE, PAPER}:
            silent = paper == "silent"
            return b"" if silent else bytes([_ANSWERS.get(paper, {}).get(some, _WELL)])
        if paper in {"out", "open"}:
            raise TimeoutError("the printer takes no bytes")
        self._on_bytes(some)
        return b""


class SimulatedLine:
    """One connection to it: a slip is one write, so that the edge tells of whole slips."""

    chunk_bytes = 1 << 20

    def __init__(self, paper: SimulatedPaper) -> None:
        self._paper = paper
        self._came = Condition()
        self._answers = b""

    def open(self) -> None:
        self._paper.open()

    def write(self, some: bytes) -> None:
        answer = self._paper.take(some)
        with self._came:
            self._answers += answer
            self._came.notify()

    def read(self, patience_s: float) -> bytes:
        with self._came:
            self._came.wait_for(lambda: self._answers, patience_s)
            read, self._answers = self._answers, b""
            return read

    def close(self, *, is_broken: bool) -> None:
        """It holds nothing open."""
