"""The scanner: keeps one reading process alive, and reports what it reads while somebody looks."""

import os
import select
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from threading import Lock, Thread
from time import monotonic  # noqa: TID251 -- the scanner is an edge: it times each frame
from typing import Final, assert_never

import structlog

from device.hardware import reports
from device.hardware.reader_process import ReaderCommand, ReaderProcess
from device.hardware.reports import Faulted, Look, Looked, NonsenseError, Ready, Report
from device.hardware.settings import CameraSettings
from device.hardware.sightings import Sightings

FRAME_LIMIT_S: Final = 2.0
"""Without a frame for this long, while it should be looking, the process is started anew."""

START_S: Final = CameraSettings().start_s

HANG_UP_LIMIT_S: Final = 1.0
"""How long the process may take to close the camera when the appliance hangs up."""

BACK_OFF_S: Final = (0.0, 0.25, 0.5, 1.0, 2.0)
"""Before the next process, after each death in a row; then always the last."""

SOUND_AFTER_S: Final = 10.0
"""The death of a process that lived this long is the first in a row."""

REPORTS_A_SECOND_MAX: Final = 250
"""No camera gives more frames: whoever says more is broken, and would keep the till busy."""

FAULT_LOG_S: Final = 10.0
"""The same fault is told again after this long: a scene may cause it in every frame."""

OnQr = Callable[[str, float, float], None]
"""Called with the text, and when its frame was captured and decoded (monotonic seconds)."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ScannerHealth:
    """How the scanner has fared since it was opened (monotonic seconds)."""

    frames: int
    last_frame_at: float | None
    is_looking: bool
    restarts: int
    """Reading processes that ended before their time."""
    faults: int
    """Captures, decodes and whole processes that failed."""
    misses: int = 0
    """Frames in which no code was read."""
    looking_since: float | None = None
    reader_pid: int | None = None
    """The reading process; None while there is none."""
    sharpness: float | None = None
    """Of a frame of the last half second: higher is sharper."""


class Ending(StrEnum):
    """Why a reading process is no more."""

    CLOSED = "closed"
    DIED = "died"
    HUNG = "hung"
    NONSENSE = "nonsense"


class Scanner:
    """Supervises the reading process from a thread of its own, and reports each code once."""

    def __init__(
        self,
        command: ReaderCommand,
        on_qr: OnQr,
        *,
        start_s: float = START_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`start_s`: how long a process may take to be ready. `clock` must be the one that all
        processes of the machine share."""
        self._command = command
        self._on_qr = on_qr
        self._start_s = start_s
        self._clock = clock
        self._lock = Lock()
        self._look = Look(0, is_looking=False)
        self._sightings = Sightings()
        self._health = ScannerHealth(0, None, is_looking=False, restarts=0, faults=0)
        self._logged = ("", 0.0)
        self._is_closing = False
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = Thread(target=self._run, name="scanner", daemon=True)
        self._thread.start()

    def health(self) -> ScannerHealth:
        return self._health  # frozen, and exchanged whole

    def look(self, looking: bool) -> None:
        """Start or stop; stopped, it takes no frames and no CPU. A start forgets what was seen."""
        with self._lock:
            if looking == self._look.is_looking or self._is_closing:
                return
            self._look = Look(self._look.number + 1, looking)
            self._sightings.forget()
            self._note(is_looking=looking, looking_since=self._clock() if looking else None)
            os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """End the reading process, which closes the camera."""
        with self._lock:
            if self._is_closing:
                return
            self._is_closing = True
            os.eventfd_write(self._bell, 1)
        self._thread.join()
        os.close(self._bell)

    def _run(self) -> None:
        deaths = 0
        while not self._is_closing:
            began_at = self._clock()
            try:
                ending, how = self._live_one_life()
            except Exception:  # noqa: BLE001 -- no memory for a process now: later, perhaps
                _log.exception("reader_lost")
                ending, how = Ending.DIED, "unknown"
            if ending is Ending.CLOSED:
                return
            deaths = 1 if self._clock() - began_at > SOUND_AFTER_S else deaths + 1
            with self._lock:
                self._note(restarts=self._health.restarts + 1, faults=self._health.faults + 1)
            _log.error(
                "reader_ended",
                why=ending.value,
                how=how,
                in_a_row=deaths,
                restarts=self._health.restarts,
            )
            self._back_off(BACK_OFF_S[min(deaths, len(BACK_OFF_S)) - 1])

    def _live_one_life(self) -> tuple[Ending, str]:
        reader = ReaderProcess(self._command)
        ending = Ending.DIED
        with self._lock:
            self._note(reader_pid=reader.pid)
        try:
            ending = self._attend(reader)
        finally:
            # Whoever died or means well goes by itself; whoever hangs or babbles is not asked.
            patience_s = HANG_UP_LIMIT_S if ending in {Ending.CLOSED, Ending.DIED} else 0.0
            how = reader.end(patience_s, gives_up=lambda: self._is_closing)
            with self._lock:
                self._note(reader_pid=None)
        return ending, how

    def _attend(self, reader: ReaderProcess) -> Ending:
        """Pass orders on and take reports, until there is a reason to end it."""
        waiting = select.poll()
        waiting.register(reader.line, select.POLLIN)
        waiting.register(self._bell, select.POLLIN)
        ordered = Look(-1, is_looking=False)
        is_ready = False
        progress_at = started_at = self._clock()
        recent: deque[float] = deque(maxlen=REPORTS_A_SECOND_MAX)
        while not self._is_closing:
            look = self._look
            if look != ordered:
                try:
                    reports.send(reader.line, look)
                except BlockingIOError:
                    return Ending.HUNG
                except ConnectionError:
                    return Ending.DIED
                ordered, progress_at = look, self._clock()
            limit_s = FRAME_LIMIT_S if is_ready else self._start_s
            left_s = progress_at + limit_s - self._clock()
            is_timed = look.is_looking or not is_ready
            ready = waiting.poll(max(0.0, left_s) * 1000 if is_timed else None)
            if any(descriptor == self._bell for descriptor, _ in ready):
                os.eventfd_read(self._bell)
            if not any(descriptor == reader.line.fileno() for descriptor, _ in ready):
                # Only after a look at the line: this thread, too, may have been kept waiting.
                if is_timed and self._clock() - progress_at >= limit_s:
                    return Ending.HUNG
                continue
            now = self._clock()
            try:
                report = reports.receive_report(reader.line)
                if report is None:
                    return Ending.DIED
                self._check_pace(recent, now)
                is_progress = self._take(report, started_at, now)
            except NonsenseError as error:
                _log.warning("reader_nonsense", what=str(error))
                return Ending.NONSENSE
            is_ready = is_ready or isinstance(report, Ready)
            progress_at = now if is_progress else progress_at
        return Ending.CLOSED

    def _take(self, report: Report, started_at: float, now: float) -> bool:
        """Believe a report as far as a camera would be believed; whether it shows progress."""
        match report:
            case Ready():
                return True
            case Faulted(has_frame=has_frame, what=what):
                health = self._health
                with self._lock:
                    self._note(
                        faults=health.faults + 1,
                        frames=health.frames + has_frame,
                        last_frame_at=now if has_frame else health.last_frame_at,
                    )
                last, logged_at = self._logged
                if what != last or now - logged_at > FAULT_LOG_S:
                    _log.warning("frame_lost" if has_frame else "reader_fault", what=what)
                    self._logged = what, now
                return has_frame
            case Looked():
                self._judge(report, started_at, now)
                return True
            case _:
                assert_never(report)

    def _judge(self, looked: Looked, started_at: float, now: float) -> None:
        if not started_at <= looked.captured_at <= looked.decoded_at <= now:
            raise NonsenseError("a frame from another time")
        with self._lock:
            if looked.number > self._look.number:
                raise NonsenseError("a frame that nobody asked for")
            self._note(
                frames=self._health.frames + 1,
                misses=self._health.misses + (looked.text is None),
                last_frame_at=looked.captured_at,
            )
            if looked.sharpness is not None:
                self._note(sharpness=looked.sharpness)
            if looked.number != self._look.number or not self._look.is_looking:
                return  # this frame is from before the switch
            text = looked.text
            is_news = self._sightings.is_news(text, looked.decoded_at)
            if text is None or not is_news:
                return
        self._on_qr(text, looked.captured_at, looked.decoded_at)

    def _check_pace(self, recent: deque[float], now: float) -> None:
        if len(recent) == recent.maxlen and now - recent[0] < 1.0:
            raise NonsenseError("more reports than a camera has frames")
        recent.append(now)

    def _back_off(self, seconds: float) -> None:
        until = self._clock() + seconds
        waiting = select.poll()
        waiting.register(self._bell, select.POLLIN)
        while not self._is_closing and (left_s := until - self._clock()) > 0:
            # A look that comes meanwhile is passed on to the next process.
            if waiting.poll(left_s * 1000 + 1):
                os.eventfd_read(self._bell)

    def _note(self, **changed: object) -> None:
        self._health = replace(self._health, **changed)  # pyright: ignore[reportArgumentType]
