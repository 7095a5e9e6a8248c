"""The watchdog: systemd is told that all is well only while every part makes progress."""

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event, Thread
from typing import Final

import structlog

INTERVAL_MAX_S: Final = 5.0
START_EXTENSION_US: Final = 60_000_000

LIMITS_S: Final = {"till": 20.0, "link": 90.0, "scanner": 90.0}
"""How long each part may stand still. A link may wait that long for a name server and a handshake;
a scanner is given time to start its camera anew, which may take half a minute, several times."""
STARTS: Final = 3
"""Of the camera, at least, before its scanner counts as stuck."""

_log = structlog.get_logger(__name__)


def limits_for(camera_start_s: float) -> Mapping[str, float]:
    """LIMITS_S, with room for a camera that is slow to start."""
    return {**LIMITS_S, "scanner": max(LIMITS_S["scanner"], STARTS * camera_start_s)}


@dataclass(frozen=True)
class Sign:
    """How far a part has come. One that `rests` has nothing to do, and cannot be stuck."""

    count: int
    rests: bool = False


@dataclass(frozen=True)
class Stuck:
    part: str
    for_s: float


class Watch:
    """Judges parts by what they do, not by what they say: no clock, no thread."""

    def __init__(self, limits_s: Mapping[str, float]) -> None:
        self._limits_s = limits_s
        self._moved: dict[str, tuple[int, float]] = {}

    def judge(self, signs: Mapping[str, Sign], now: float) -> tuple[Stuck, ...]:
        """Which parts have not moved for longer than they may (monotonic seconds)."""
        stuck: list[Stuck] = []
        for part, sign in signs.items():
            count, moved_at = self._moved.get(part, (sign.count, now))
            if sign.rests or sign.count != count:
                moved_at = now
            self._moved[part] = (sign.count, moved_at)
            if now - moved_at > self._limits_s[part]:
                stuck.append(Stuck(part, now - moved_at))
        return tuple(stuck)


class Notifier:
    """sd_notify(3): datagrams to the socket that systemd names; without one, nothing."""

    def __init__(self, address: str | None) -> None:
        """`address` as in $NOTIFY_SOCKET: a path, or `@` and a name in the abstract namespace."""
        self._address = address

    def tell(self, *assignments: str) -> bool:
        """Say `READY=1` and the like in one message; whether it was heard, or nobody asked.

        A systemd that is not there is no fault.
        """
        if self._address is None:
            return True
        address = "\0" + self._address[1:] if self._address[:1] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                # The watchdog's thread must not itself hang on a queue that nobody empties.
                sender.setblocking(False)
                sender.sendto("\n".join(assignments).encode(), address)
        except OSError as error:
            _log.warning("systemd_not_told", error=f"{type(error).__name__}: {error.strerror}")
            return False
        return True


def interval_s(environment: Mapping[str, str], pid: int) -> float:
    """How often to feed: four times within what systemd allows, at least every five seconds."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    is_ours = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
    if not (is_ours and microseconds.isascii() and microseconds.isdigit()):
        return INTERVAL_MAX_S
    return min(INTERVAL_MAX_S, max(0.05, int(microseconds) / 4_000_000))


class Watchdog:
    """Looks at the parts again and again, and feeds systemd's watchdog while none is stuck."""

    def __init__(
        self,
        notifier: Notifier,
        signs: Callable[[], Mapping[str, Sign]],
        *,
        is_ready: Callable[[], bool],
        say: Callable[[], str],
        clock: Callable[[], float],
        every_s: float,
        limits_s: Mapping[str, float] = LIMITS_S,
    ) -> None:
        """`is_ready`: whether the journal is open and the parts are up; `say`: one line for
        `systemctl status`."""
        self._notifier = notifier
        self._signs = signs
        self._is_ready = is_ready
        self._say = say
        self._clock = clock
        self._every_s = every_s
        self._watch = Watch(limits_s)
        self._was_ready = False
        self._said = ""
        self._was_stuck: tuple[str, ...] = ()
        self._closing = Event()
        self._thread = Thread(target=self._run, name="watchdog", daemon=True)

    @classmethod
    def of_systemd(
        cls,
        environment: Mapping[str, str],
        signs: Callable[[], Mapping[str, Sign]],
        *,
        is_ready: Callable[[], bool],
        say: Callable[[], str],
        clock: Callable[[], float],
        camera_start_s: float = 0.0,
    ) -> "Watchdog":
        """As systemd asks for it in the environment; without systemd it only logs.

        `camera_start_s`: what the settings allow a camera to take.
        """
        return cls(
            Notifier(environment.get("NOTIFY_SOCKET") or None),
            signs,
            is_ready=is_ready,
            say=say,
            clock=clock,
            every_s=interval_s(environment, os.getpid()),
            limits_s=limits_for(camera_start_s),
        )

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Say that the program ends of its own will."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self._notifier.tell("STOPPING=1")

    def look(self) -> tuple[Stuck, ...]:
        """One look at the parts, and what systemd is told of it."""
        stuck = self._watch.judge(self._signs(), self._clock())
        names = tuple(each.part for each in stuck)
        if names != self._was_stuck:
            self._was_stuck = names
            _log.error("parts_stuck", parts=names) if names else _log.warning("parts_move_again")
        status = self._say()
        if stuck:
            status = ", ".join(f"{each.part} stuck for {each.for_s:.0f} s" for each in stuck)
        becomes_ready = not (self._was_ready or stuck) and self._is_ready()
        if self._notifier.tell(*self._news(status, is_well=not stuck, becomes_ready=becomes_ready)):
            # What was not heard is said again.
            self._was_ready = self._was_ready or becomes_ready
            self._said = status
        return stuck

    def _news(self, status: str, *, is_well: bool, becomes_ready: bool) -> list[str]:
        news: list[str] = []
        if not self._was_ready and is_well:
            if becomes_ready:
                news.append("READY=1")
            else:
                # A journal that cannot be opened is tried again: a restart would not help it.
                news.append(f"EXTEND_TIMEOUT_USEC={START_EXTENSION_US}")
        if is_well:
            news.append("WATCHDOG=1")
        if status != self._said or not news:
            news.append(f"STATUS={status}")
        return news

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self.look()
            except Exception:  # noqa: BLE001 -- unfed is what a watchdog that fails must be
                _log.exception("the watchdog could not look")
            self._closing.wait(self._every_s)
