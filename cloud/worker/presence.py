"""Who the broker says is connected: gathered in memory at once, written apart from sales.

Each worker hears every status, in the broker's order, and writes what it heard last, so whoever
writes last has written what is so. Nothing here can hold a sale up, or be trusted to be true: an
appliance says what it likes of itself, and of nobody else (the broker's access list).
"""

from collections.abc import Iterable
from datetime import datetime
from threading import Lock
from typing import Final

import msgspec
import structlog

from cloud.store.database import Database
from cloud.store.presence import keep_presence, note_watch, read_presence
from cloud.worker.mqtt5 import Message
from protocol import topics
from protocol.ids import DeviceId

KEEP_EVERY_S: Final = 1.0
"""However often an appliance comes and goes, it is written no more often."""
WATCH_EVERY_S: Final = 10.0
COMPARE_EVERY_S: Final = 60.0
"""By then every appliance that lost a broker is back: they wait at most 15 s between tries."""
STATUS_BYTES_MAX: Final = 1024
KNOWN_MAX: Final = 100_000

_log = structlog.stdlib.get_logger("cloud.worker")


class _Said(msgspec.Struct, frozen=True):
    """What an appliance says of itself, or the broker for it; what else it says is not read."""

    online: bool
    connection: str = ""
    """Which of its connections; its last will carries the same."""


_SAID: Final = msgspec.json.Decoder(_Said)


class Presence:
    """`hear` and `forget` are for the connection's thread, `keep` for one that may wait."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._said: dict[DeviceId, _Said] = {}
        self._unwritten: set[DeviceId] = set()
        self._forgot = 0
        """How often; what was heard before it counts no more."""
        self._watched_at: float | None = None
        self._compare_at: float | None = None

    def hear(self, messages: Iterable[Message]) -> None:
        """Statuses as they came. What cannot be read, or is of nobody, changes nothing."""
        with self._lock:
            for message in messages:
                device_id = topics.device_of(message.topic)
                said = _read(message.payload)
                if device_id is None or said is None:
                    continue
                before = self._said.get(device_id)
                if before is None and len(self._said) >= KNOWN_MAX:
                    continue
                if before is not None and _is_late_will(before, said):
                    continue
                self._said[device_id] = said
                if before is None or before.online is not said.online:
                    self._unwritten.add(device_id)

    def forget(self) -> None:
        """The broker is gone: who comes back, it says by itself."""
        with self._lock:
            self._said.clear()
            self._unwritten.clear()
            self._forgot += 1
            self._watched_at = self._compare_at = None

    def keep(self, database: Database, now: datetime, now_s: float) -> None:
        """Write what changed, and now and then all of it; while the broker is there.

        Raises SQLAlchemyError and CommitUnknownError: the next time makes up for it.
        """
        with self._lock:
            if self._compare_at is None:
                self._compare_at = now_s + COMPARE_EVERY_S
            is_whole = now_s >= self._compare_at
            is_watch_due = self._watched_at is None or now_s - self._watched_at >= WATCH_EVERY_S
            wanted = self._said if is_whole else self._unwritten
            said = {each: self._said[each].online for each in wanted}
            forgot = self._forgot
            self._unwritten = set()
        if not (said or is_watch_due or is_whole):
            return
        try:
            with database.transaction() as connection:
                if is_whole:
                    # Connected when the broker was last here, and not since.
                    gone = [each for each, was in read_presence(connection).items() if was]
                    said = dict.fromkeys(gone, False) | said
                changed = keep_presence(connection, said, now)
                if is_watch_due:
                    note_watch(connection, now)
        except BaseException:
            with self._lock:
                if forgot == self._forgot:
                    self._unwritten |= said.keys() & self._said.keys()
            raise
        with self._lock:
            if forgot != self._forgot:
                return
            if is_watch_due:
                self._watched_at = now_s
            if is_whole:
                self._compare_at = now_s + COMPARE_EVERY_S
        if changed:
            _log.info("presence", changed=changed, online=sum(said.values()))


def _read(payload: bytes) -> _Said | None:
    if len(payload) > STATUS_BYTES_MAX:
        return None
    try:
        return _SAID.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _is_late_will(before: _Said, said: _Said) -> bool:
    """The end of a connection that another has followed already."""
    is_of_another = bool(before.connection and said.connection != before.connection)
    return before.online and not said.online and is_of_another and bool(said.connection)
