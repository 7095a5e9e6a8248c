"""Emulation only: lgpio, with the header's wires led to gpio-sim's chip and to a keypad's matrix.

Everything is done by the real lgpio through the kernel. The stage is told which rows are driven
low, and pulls the columns that a pressed key joins to one of them, as copper does.
"""

import mmap
import socket
import sys
from pathlib import Path
from threading import Lock

_STAGE = Path("/run/railtix-test")
_ROWS = (5, 6, 13, 19)
_FIRST_COLUMN = 12


def _load_real() -> None:
    here = str(Path(__file__).parent)
    module = sys.modules.pop(__name__)
    kept, sys.path[:] = sys.path[:], [each for each in sys.path if each != here]
    try:
        real = __import__(__name__)
    finally:
        sys.path[:] = kept
        sys.modules[__name__] = module
    for name, value in vars(real).items():
        if not name.startswith("__"):
            module.__dict__[name] = value


_load_real()
_open, _input, _output = gpiochip_open, gpio_claim_input, gpio_claim_output  # noqa: F821
_read, _write, _free = gpio_read, gpio_write, gpio_free  # noqa: F821


class _Copper:
    """The rows as they are driven now, told to the stage at every change."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._low: set[int] = set()
        self._stage = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._stage.connect(str(_STAGE / "matrix"))
        with (_STAGE / "looks").open("r+b") as file:
            self._looks = mmap.mmap(file.fileno(), 8)

    def drive(self, line: int, *, low: bool) -> None:
        if line not in _ROWS:
            return
        with self._lock:
            before = frozenset(self._low)
            (self._low.add if low else self._low.discard)(line)
            if before != self._low:
                mask = sum(1 << _ROWS.index(row) for row in self._low)
                self._stage.sendall(bytes([mask]))
                self._stage.recv(1)

    def looked(self) -> None:
        count = int.from_bytes(self._looks[:8], "little") + 1
        self._looks[:8] = count.to_bytes(8, "little")


_copper: _Copper | None = None


def _wired() -> _Copper:
    global _copper
    if _copper is None:
        _copper = _Copper()
    return _copper


def gpiochip_open(number: int) -> int:
    del number
    _wired()
    return _open(int((_STAGE / "chip").read_text()))


def gpio_claim_input(handle: int, line: int, flags: int = 0) -> int:
    done = _input(handle, line, flags)
    _wired().drive(line, low=False)
    return done


def gpio_claim_output(handle: int, line: int, level: int = 0, flags: int = 0) -> int:
    done = _output(handle, line, level, flags)
    _wired().drive(line, low=not level)
    return done


def gpio_write(handle: int, line: int, level: int) -> int:
    done = _write(handle, line, level)
    _wired().drive(line, low=not level)
    return done


def gpio_free(handle: int, line: int) -> int:
    done = _free(handle, line)
    _wired().drive(line, low=False)
    return done


def gpio_read(handle: int, line: int) -> int:
    if line == _FIRST_COLUMN:
        _wired().looked()
    return _read(handle, line)
