"""A socket of the emulated machine, read by a thread: the console's text, or lines of JSON."""

import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from threading import Condition, Thread
from typing import Final, TypeVar

CONNECT_S: Final = 30.0

T = TypeVar("T")


class GuestError(Exception):
    """The machine ended, or did not do in time what was waited for."""


class Waiting(ABC):
    """What a thread of ours hears, and those who wait for some of it."""

    def __init__(self, path: Path, *, name: str) -> None:
        self._socket = connect(path)
        self._news = Condition()
        self._is_gone = False
        self._thread = Thread(target=self._listen, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            self._is_gone = True  # the machine hung up first
        self._thread.join()
        self._socket.close()

    def wait_for(self, look: Callable[[], T | None], what: str, timeout_s: float) -> T:
        """Look again at all news, and ten times a second. Raises GuestError."""
        deadline = _clock() + timeout_s
        while True:
            gone = self._is_gone
            found = look()
            if found is not None:
                return found
            if gone or _clock() >= deadline:
                why = "the machine is gone" if gone else f"not within {timeout_s:g} s"
                raise GuestError(f"waited for {what}: {why}; {self.lately()}")
            with self._news:
                self._news.wait(0.1)

    def lately(self) -> str:
        """What was last heard, for whoever waited in vain."""
        return ""

    @abstractmethod
    def heard(self, some: bytes) -> None:
        """Called with what came, as it came, while nobody looks."""

    def _listen(self) -> None:
        try:
            while some := self._socket.recv(1 << 16):
                with self._news:
                    self.heard(some)
                    self._news.notify_all()
        except OSError:
            self._is_gone = True
        self._is_gone = True
        with self._news:
            self._news.notify_all()


class Console(Waiting):
    """The serial console: all that boot loader, kernel and systemd ever said, with its time."""

    def __init__(self, path: Path, log: Path) -> None:
        self._text = ""
        self.began_at = _clock()
        self._heard_at: list[tuple[int, float]] = []
        self._log = log.open("ab")
        super().__init__(path, name="console")

    def close(self) -> None:
        super().close()
        self._log.close()

    @property
    def text(self) -> str:
        return self._text

    def heard(self, some: bytes) -> None:
        self._log.write(some)
        self._log.flush()
        self._text += some.decode("utf-8", "replace")
        self._heard_at.append((len(self._text), _clock()))

    def lately(self) -> str:
        return f"the console last said: {self._text[-600:]!r}"

    def expect(self, words: str, timeout_s: float, *, since: int = 0) -> int:
        """Until these words were said from `since` on; where they end."""

        def look() -> int | None:
            at = self._text.find(words, since)
            return None if at < 0 else at + len(words)

        return self.wait_for(look, f"the console to say {words!r}", timeout_s)

    def said_at(self, position: int) -> float:
        """How many seconds after the console was opened the text up to there had come."""
        return next(at for end, at in self._heard_at if end >= position) - self.began_at

    def send(self, text: str) -> None:
        self._socket.sendall(text.encode())


def connect(path: Path) -> socket.socket:
    """Wait for the machine to open its socket. Raises GuestError."""
    deadline = _clock() + CONNECT_S
    while True:
        ours = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            ours.connect(str(path))
        except OSError as fault:
            ours.close()
            if _clock() >= deadline:
                raise GuestError(f"nobody listens at {path.name}") from fault
            time.sleep(0.05)
        else:
            return ours


def _clock() -> float:
    return time.monotonic()  # noqa: TID251 -- whoever waits for a machine needs a clock
