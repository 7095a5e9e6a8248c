"""What every program that runs until it is told to stop has: a signal, a ready file, a monitor."""

import json
import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, Protocol

import structlog

from cloud.clock import utc_clock
from cloud.monitoring import Monitor, Telling
from cloud.readiness import Readiness
from cloud.settings import MetricsSettings, SettingsError
from cloud.store.database import Database

_POLL_S: Final = 0.05

_log = structlog.stdlib.get_logger("cloud")


class Service(Protocol):
    """Works on threads of its own."""

    def start(self) -> None: ...
    def stop(self) -> None:
        """Return once what was begun is done."""
        ...


def run_until_told(
    service: Service,
    readiness: Readiness,
    ready_file: Path | None,
    is_ready: Callable[[], bool] = lambda: True,
) -> None:
    """Start, announce, wait for SIGTERM or SIGINT, stop in order."""
    told = threading.Event()

    def stop() -> None:
        readiness.leave()
        told.set()

    with on_signal(stop):
        service.start()
        try:
            while not told.is_set() and not is_ready():
                told.wait(_POLL_S)
            if not told.is_set():
                announce(ready_file, {"pid": os.getpid()})
            told.wait()
        finally:
            service.stop()
    _log.info("stopped")


@contextmanager
def monitored(
    settings: MetricsSettings,
    database: Database,
    readiness: Readiness,
    *,
    reads_figures: bool = True,
) -> Generator[None]:
    """A listener for those who watch, where [metrics] names a port. Raises SettingsError."""
    if settings.port is None:
        yield
        return
    telling = Telling(database, readiness, utc_clock, reads_figures=reads_figures)
    try:
        monitor = Monitor(settings.host, settings.port, telling, readiness)
    except OSError as error:
        where = f"{settings.host} port {settings.port}"
        raise SettingsError(f"metrics: cannot listen on {where}: {error.strerror}") from error
    monitor.start()
    _log.info("monitored", host=settings.host, port=monitor.port)
    try:
        yield
    finally:
        monitor.stop()


@contextmanager
def on_signal(do: Callable[[], None]) -> Generator[None]:
    """`do` on each SIGTERM and SIGINT."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        do()

    before = {each: signal.signal(each, stop) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def announce(ready_file: Path | None, said: dict[str, object]) -> None:
    """In the log, and as a file that appears whole."""
    _log.info("ready", **said)
    if ready_file is not None:
        draft = ready_file.with_name(f".{ready_file.name}.{os.getpid()}")
        draft.write_text(json.dumps(said), encoding="utf-8")
        draft.replace(ready_file)
