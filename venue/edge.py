"""The other side of an appliance's simulated edge: a finger, a hand with a phone, eyes and ears."""

import base64
import json
import socket
import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar

from venue.lights import Level, Light, Seen, approvals, recognise

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HOLD_MS: Final = 1000
"""Longer than the appliance's long press of 0.8 s."""

MEMORY_S: Final = 10.0
"""How far back a look at the lamp goes."""

T = TypeVar("T")


@dataclass(frozen=True)
class Tone:
    """The buzzer's pitch from a moment on; None is silence."""

    hz: float | None
    at: float


@dataclass(frozen=True)
class Paper:
    """Bytes that reached the printer at once: one slip."""

    printed: bytes
    at: float


class EdgeError(Exception):
    """The appliance's edge is gone, refused an order, or did not do what was waited for."""


class Edge:
    """One appliance, played with. Times are monotonic seconds, the appliance's and ours alike."""

    def __init__(
        self,
        path: Path,
        *,
        connect_timeout_s: float = 90.0,
        is_starting: Callable[[], bool] = lambda: True,
    ) -> None:
        """Connect, waiting for an appliance for as long as it is still starting."""
        self.levels: list[Level] = []
        self.tones: list[Tone] = []
        self.papers: list[Paper] = []
        self.captures: list[float] = []
        """When the camera first saw each scene that was put before it."""
        self.joined: list[str] = []
        """The Wi-Fi networks that the appliance joined."""
        self._taps = 0
        self._refusal: str | None = None
        self._is_gone = False
        self._news = Condition()
        self._socket = _connect(path, connect_timeout_s, is_starting)
        self._thread = Thread(target=self._listen, name=f"edge {path.name}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            self._is_gone = True  # the appliance hung up first
        self._thread.join()
        self._socket.close()

    @property
    def is_gone(self) -> bool:
        """Whether the appliance hung up."""
        return self._is_gone

    def tap(self, key: str, *, hold_ms: int = 60) -> None:
        """Press and release; returns when the keypad's driver has had time to see both."""
        before = self._taps
        self._order(tap=key, hold_ms=hold_ms)
        self.wait_for(lambda: self._taps > before or None, f"the key {key} to be tapped", 10)

    def hold(self, key: str) -> None:
        """Press for as long as a held key needs."""
        self.tap(key, hold_ms=HOLD_MS)

    def type(self, keys: str) -> None:
        """Tap one key after the other: `type("500#")`."""
        for key in keys:
            self.tap(key)

    def show(self, grey: "NDArray[np.uint8]") -> None:
        """Hold a picture before the camera until `clear` or the next one."""
        height, width = grey.shape
        pixels = base64.b64encode(grey.tobytes()).decode()
        self._order(scene={"width": width, "height": height, "grey": pixels})

    def clear(self) -> None:
        """Leave the counter before the camera empty."""
        self._order(scene=None)

    def take_paper_out(self) -> None:
        self.make_printer("out")

    def put_paper_in(self) -> None:
        self.make_printer("ok")

    def make_printer(
        self, paper: Literal["ok", "low", "out", "open", "hung", "away", "silent"]
    ) -> None:
        """Open its cover, unplug it, make it hang; silent: it prints and never says how it is."""
        self._order(paper=paper)

    def put_in_reach(self, **networks: str) -> None:
        """The Wi-Fi networks an aerial sees here, each with its password."""
        self._order(wifi={"networks": networks})

    def put_printer(self, state: str) -> None:
        """ "ok", "low", "out", "open", "hung", "away" or "silent", as the appliance's edge says."""
        self._order(paper=state)

    def lights(self, since: float = 0.0) -> tuple[Seen, ...]:
        """What the lamp said, by its pins alone, beginning with what it said at `since`."""
        with self._news:
            # Hours of breathing need not be read again; a word about a sale lasts 2.5 s.
            first = bisect_left(self.levels, since - MEMORY_S, key=lambda level: level.at)
            levels = self.levels[max(0, first - 1) :]
        seen = recognise(levels, time.monotonic())  # noqa: TID251 -- eyes see as time passes
        return tuple(one for one in seen if one.ended_at is None or one.ended_at > since)

    def light(self) -> Light | None:
        """What the lamp says now; None while that cannot be told yet."""
        seen = self.lights(time.monotonic())  # noqa: TID251
        return seen[-1].light if seen else None

    def approvals(self) -> tuple[float, ...]:
        """When the lamp turned green, each time."""
        with self._news:
            return approvals(self.levels)

    def wait_for_approval(self, since: float, timeout_s: float = 60.0) -> float:
        """The first green edge after `since`."""
        return self.wait_for(
            lambda: next((at for at in self.approvals() if at > since), None),
            "the lamp to turn green",
            timeout_s,
        )

    def wait_for_light(self, light: Light, since: float = 0.0, timeout_s: float = 60.0) -> Seen:
        """The first showing of a light that lasts now or was seen after `since`."""
        return self.wait_for(
            lambda: next((one for one in self.lights(since) if one.light is light), None),
            f"the light {light.value!r}",
            timeout_s,
        )

    def wait_for_any_light(
        self, lights: frozenset[Light], since: float, timeout_s: float = 60.0
    ) -> Seen:
        """The first of several lights that began after `since`."""
        return self.wait_for(
            lambda: next(
                (one for one in self.lights(since) if one.began_at > since and one.light in lights),
                None,
            ),
            f"one of the lights {sorted(lights)}",
            timeout_s,
        )

    def wait_for_paper(self, since: float = 0.0, timeout_s: float = 60.0) -> Paper:
        return self.wait_for(
            lambda: next((paper for paper in self.papers if paper.at > since), None),
            "a slip of paper",
            timeout_s,
        )

    def wait_for_tone(self, hz: float, since: float = 0.0, timeout_s: float = 60.0) -> Tone:
        return self.wait_for(
            lambda: next((one for one in self.tones if one.hz == hz and one.at > since), None),
            f"a tone of {hz} Hz",
            timeout_s,
        )

    def wait_for_capture(self, since: float = 0.0, timeout_s: float = 60.0) -> float:
        """When the camera first saw the scene put before it after `since`."""
        return self.wait_for(
            lambda: next((at for at in self.captures if at > since), None),
            "the camera to look",
            timeout_s,
        )

    def wait_for(self, look: Callable[[], T | None], what: str, timeout_s: float) -> T:
        """Look again at all news, and 20 times a second, until `look` finds something.

        Raises EdgeError when time is up or the appliance is gone.
        """
        since = time.monotonic()  # noqa: TID251 -- waiting is in real time
        deadline = since + timeout_s
        while True:
            found = look()
            if found is not None:
                return found
            if self._refusal is not None:
                raise EdgeError(f"the appliance's edge refused an order: {self._refusal}")
            left_s = deadline - time.monotonic()  # noqa: TID251
            if self._is_gone or left_s <= 0:
                why = "the appliance is gone" if self._is_gone else f"not within {timeout_s:g} s"
                seen = [one.light.value if one.light else "?" for one in self.lights(since)][-6:]
                raise EdgeError(f"waited for {what}: {why}; the lamp last said {seen}")
            with self._news:
                self._news.wait(min(left_s, 0.05))

    def _order(self, **order: object) -> None:
        try:
            self._socket.sendall(json.dumps(order).encode() + b"\n")
        except OSError as fault:
            raise EdgeError("the appliance is gone") from fault

    def _listen(self) -> None:
        # Whoever reads a line also notes it before anybody is woken: nothing is missed.
        try:
            with self._socket.makefile("rb") as lines:
                for line in lines:
                    with self._news:
                        self._note(json.loads(line))
                        self._news.notify_all()
        except (OSError, ValueError):
            self._is_gone = True
        self._is_gone = True
        with self._news:
            self._news.notify_all()

    def _note(self, message: dict[str, Any]) -> None:
        match message:
            case {"pins": {"red": red, "green": green, "blue": blue}, "at": at}:
                self.levels.append(Level(red, green, blue, at))
            case {"tone": hz, "at": at}:
                self.tones.append(Tone(hz, at))
            case {"printed": printed, "at": at}:
                self.papers.append(Paper(base64.b64decode(printed), at))
            case {"captured_at": at}:
                self.captures.append(at)
            case {"joined": ssid}:
                self.joined.append(ssid)
            case {"tapped": _}:
                self._taps += 1
            case {"refused": why}:
                self._refusal = why
            case _:
                self._refusal = f"unknown message {sorted(message)}"


def _connect(path: Path, timeout_s: float, is_starting: Callable[[], bool]) -> socket.socket:
    deadline = time.monotonic() + timeout_s  # noqa: TID251 -- an appliance takes a while to start
    while True:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            client.connect(str(path))
        except OSError as fault:
            client.close()
            if time.monotonic() >= deadline or not is_starting():  # noqa: TID251
                raise EdgeError(f"no appliance listens at {path}") from fault
            time.sleep(0.05)
        else:
            return client
