"""Keeps policies saying what each appliance is due to run, and stops what too many came back from.

In a thread of its own: no sale and no sign-in waits for it, but for the locks of a few appliances.
"""

import threading
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from cloud.metrics import UPDATE_ANNOUNCEMENTS, UPDATE_PAUSES
from cloud.operations.till.pos import Desk
from cloud.operations.updates.announce_updates import announce_updates, who_is_behind
from cloud.operations.updates.pause_failing import pause_failing, who_fails
from cloud.store.database import CommitUnknownError

EVERY_S: Final = 5.0

_log = structlog.stdlib.get_logger("cloud.updates")


class Announcing:
    """As many workers as like do it at once."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="updates")

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        self._stopping.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_S):
            try:
                self.go_round()
            except (SQLAlchemyError, CommitUnknownError) as error:
                _log.warning("updates_not_announced", error=type(error).__name__)
            except Exception:  # noqa: BLE001  # logged; one odd policy must not end the rounds
                _log.exception("updates_not_announced")

    def go_round(self) -> None:
        """Pause first: nobody is told of what is about to be paused. Nothing is written, and
        nobody waits, while all is as it should be."""
        with self._desk.database.reading() as connection:
            is_failing = bool(who_fails(connection))
        if is_failing:
            self._pause()
        while not self._stopping.is_set():
            with self._desk.database.reading() as connection:
                if not who_is_behind(connection):
                    return
            # A few at once: every stall waits for its own lock.
            with self._desk.database.transaction() as connection:
                issued = announce_updates(connection, self._desk.keys, self._desk.now())
            UPDATE_ANNOUNCEMENTS.inc(len(issued))
            _log.info("updates_announced", policies=len(issued))

    def _pause(self) -> None:
        with self._desk.database.transaction() as connection:
            paused = pause_failing(connection, self._desk.now())
        for each in paused:
            UPDATE_PAUSES.inc()
            _log.error(
                "update_paused",
                version=each.version,
                compatible=each.compatible,
                channels=each.channels,
                rolled_back=each.rolled_back,
                tried=each.tried,
            )
