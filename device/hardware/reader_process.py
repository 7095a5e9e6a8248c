"""One reading process as its parent holds it: started lean, ended for certain."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from signal import Signals
from typing import Final

import msgspec
import structlog

from device.hardware import reports
from device.hardware.settings import CameraSettings

KILL_STEP_S: Final = 1.0

_KEPT: Final = frozenset({"PATH", "HOME", "LANG", "LD_LIBRARY_PATH"})
_KEPT_PREFIXES: Final = ("LC_", "LIBCAMERA_", "PYTHON")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ReaderCommand:
    """How a reading process is started: its words, and the descriptors among them."""

    argv: tuple[str, ...]
    descriptors: tuple[int, ...] = ()


def reader_of_pi(settings: CameraSettings) -> ReaderCommand:
    """The reading process that opens the real camera."""
    return _reader("pi", msgspec.json.encode(settings).decode())


def reader_of_stage(descriptors: tuple[int, int, int]) -> ReaderCommand:
    """The reading process that looks at a simulated camera's stage."""
    words = (str(each) for each in descriptors)
    return ReaderCommand(_reader("simulated", *words).argv, descriptors)


def _reader(*words: str) -> ReaderCommand:
    # -P: what lies in the working directory is not ours to import.
    return ReaderCommand((sys.executable, "-P", "-m", "device.hardware.reader", *words))


class ReaderProcess:
    """Runs from the moment it is made; `line` carries its reports and takes its orders.

    To be made by a thread that outlives it: Linux kills it when the thread that made it ends.
    """

    def __init__(self, command: ReaderCommand) -> None:
        self.line, theirs = reports.pair()
        self.line.setblocking(False)
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 -- its words are our own
                    (*command.argv, str(theirs.fileno()), str(os.getpid())),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(*command.descriptors, theirs.fileno()),
                    env=lean(os.environ),
                    cwd="/",
                )
        except BaseException:
            self.line.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def end(self, patience_s: float, *, gives_up: Callable[[], bool]) -> str:
        """Hang up, and kill it when it does not end in time; say how it ended.

        Returns when it is gone, so that no camera is opened twice; or, when the kernel keeps even
        a killed process (a driver that hangs), as soon as `gives_up`.
        """
        self.line.close()
        with suppress(subprocess.TimeoutExpired):
            return _how(self._process.wait(patience_s))
        self._process.kill()
        while True:
            with suppress(subprocess.TimeoutExpired):
                return _how(self._process.wait(KILL_STEP_S))
            if gives_up():
                return "not even killed"
            _log.error("reader_outlives_sigkill", pid=self._process.pid)


def lean(environment: Mapping[str, str]) -> dict[str, str]:
    """What of the environment a decoder may know; and memory that does not grow with threads.

    OpenBLAS, which numpy brings along and nothing here uses, takes 32 MiB a core when it is loaded:
    on a Pi's four that is half of what the process may have, beside the camera's.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if name in _KEPT or name.startswith(_KEPT_PREFIXES)
    }
    return {**kept, "MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1"}


def _how(code: int) -> str:
    if code >= 0:
        return f"exit {code}"
    try:
        return Signals(-code).name
    except ValueError:
        return f"signal {-code}"
