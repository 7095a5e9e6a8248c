"""What is done later, outside any request: a thread a task, so that none waits for another."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from cloud.courier.post_office import PostOfficeAwayError
from cloud.payments.provider import ProviderUnreachableError
from cloud.store.database import CommitUnknownError

REST_AFTER_FAILURE_S: Final = 1.0
REST_MAX_S: Final = 30.0
_STOPS_WITHIN_S: Final = 20.0

_log = structlog.stdlib.get_logger("courier")


@dataclass(frozen=True, slots=True)
class Task:
    name: str
    run: Callable[[], int]
    """Does what is due, not much at once, and says how many that were: more than none, and it is
    asked again at once. Whatever it was at when killed, another courier does later."""
    interval_s: float | None = None
    """How long it rests when nothing was left to do; None: as long as the courier."""


class Courier:
    """Runs each task over and over. Several couriers, here and elsewhere, do no harm."""

    def __init__(self, tasks: Sequence[Task], interval_s: float, stopping: threading.Event) -> None:
        """`stopping`: also for tasks, so that a long round ends early."""
        self._interval_s = interval_s
        self._stopping = stopping
        self._threads = [
            threading.Thread(
                target=self._repeat, args=(task,), name=f"courier-{task.name}", daemon=True
            )
            for task in tasks
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def is_alive(self) -> bool:
        """For a health check: every task's thread runs."""
        return all(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Each task ends what it is at; what hangs longer is left to the next courier."""
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_STOPS_WITHIN_S)
        left = [thread.name for thread in self._threads if thread.is_alive()]
        if left:
            _log.warning("courier_left_behind", threads=left)

    def _repeat(self, task: Task) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                done = task.run()
            except (
                SQLAlchemyError,
                CommitUnknownError,
                PostOfficeAwayError,
                ProviderUnreachableError,
            ) as error:
                failures += 1
                _log.warning("task_failed", task=task.name, error=_named(error), failures=failures)
            except Exception:  # noqa: BLE001  # logged with its trace; the other tasks go on
                failures += 1
                _log.exception("task_met_a_bug", task=task.name, failures=failures)
            else:
                failures = 0
                if done:
                    continue
            interval_s = self._interval_s if task.interval_s is None else task.interval_s
            self._stopping.wait(rest_s(failures, interval_s))


def rest_s(failures: int, interval_s: float) -> float:
    """How long a task rests: its interval, or 1 s after a failure, doubling to 30 s."""
    if failures == 0:
        return interval_s
    return min(REST_AFTER_FAILURE_S * 2 ** min(failures - 1, 10), REST_MAX_S)


def _named(error: Exception) -> str:
    """Our own faults say nothing secret; a driver's may quote what was sent."""
    name = type(error).__name__
    return f"{name}: {error}" if isinstance(error, PostOfficeAwayError) else name
