"""The host's end of the stage: runs commands in the guest, presses keys, shows pictures, looks."""

import base64
import io
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

from image.emulation.console import GuestError, Waiting
from image.emulation.lamp import Glance, Lamp
from venue.paper import EPSON_80, UnknownCommandError, plain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RUN_S: Final = 180.0
KEY_S: Final = 60.0
CUT_LINE: Final = "- " * (EPSON_80.columns // 2)
"""What `plain` draws where the printer cuts."""


@dataclass(frozen=True)
class Ran:
    """How a command in the guest ended."""

    code: int
    said: str


class Stage(Waiting):
    """Times are this machine's monotonic seconds, of when the guest's word of it came."""

    def __init__(self, path: Path) -> None:
        self.lamp = Lamp()
        self.printed: list[tuple[float, bytes]] = []
        self._answers: dict[int, dict[str, Any]] = {}
        self._number = 0
        self._rest = b""
        self.readies = 0
        """How often the guest's end was set up: once a boot."""
        super().__init__(path, name="stage")

    def wait_until_ready(self, timeout_s: float, *, after: int = 0) -> None:
        """Until the stage is set; `after`: once more than so many times."""
        self.wait_for(lambda: self.readies > after or None, "the stage to be set", timeout_s)

    def run(self, command: str, timeout_s: float = RUN_S) -> Ran:
        """A shell command in the guest, as root."""
        answer = self._ask(timeout_s, run=command)
        return Ran(answer["code"], answer["said"])

    def say(self, command: str, timeout_s: float = RUN_S) -> str:
        """What a command says. Raises GuestError where it fails."""
        ran = self.run(command, timeout_s)
        if ran.code:
            raise GuestError(f"{command!r} in the guest ended with {ran.code}: {ran.said[-800:]}")
        return ran.said

    def start(self, command: str) -> None:
        """A command whose end nobody waits for."""
        self._order(run=command)

    def tap(self, key: str, hold_ms: int = 60) -> None:
        self._ask(KEY_S, tap=key, hold_ms=hold_ms)

    def start_tap(self, key: str) -> None:
        """A tap whose end nobody waits for."""
        self._order(tap=key, hold_ms=60)

    def type(self, keys: str) -> None:
        for key in keys:
            self.tap(key)

    def show(self, grey: "NDArray[np.uint8]") -> float:
        """Hold a picture before the camera; when that was."""
        file = io.BytesIO()
        Image.fromarray(grey).convert("RGB").save(file, "JPEG", quality=85)
        began = now()
        self._ask(KEY_S, frame=base64.b64encode(file.getvalue()).decode())
        return began

    def clear(self) -> None:
        self._ask(KEY_S, frame=None)

    def slips(self, since: float = 0.0) -> list[str]:
        """What came out of the printer since, a text for each slip that was cut off."""
        paper = b"".join(some for at, some in self.printed if at > since)
        try:
            *whole, _ = plain(paper).split(f"\n{CUT_LINE}")
        except UnknownCommandError:
            return []  # the rest of a command is still on its way
        return whole

    def wait_for_slip(self, words: str, since: float, timeout_s: float) -> str:
        """The first slip since that says this, its lines as they were printed."""

        def look() -> str | None:
            return next((each for each in self.slips(since) if words in flat(each)), None)

        return self.wait_for(look, f"a slip that says {words!r}", timeout_s)

    def lately(self) -> str:
        return f"the lamp last showed {self.lamp.lately()}"

    def heard(self, some: bytes) -> None:
        *lines, self._rest = (self._rest + some).split(b"\n")
        for line in lines:
            try:
                said = json.loads(line)
            except ValueError:
                continue  # the guest was reset in the middle of it
            match said:
                case {"lamp": [samples, red, green, blue], "at": at}:
                    self.lamp.glance(Glance(samples, red, green, blue, now(), at))
                case {"printed": printed}:
                    self.printed.append((now(), base64.b64decode(printed)))
                case {"ready": True}:
                    self.readies += 1
                case {"answer": number, **answer}:
                    self._answers[number] = answer
                case other:
                    raise ValueError(f"the stage said {other!r}")

    def _ask(self, timeout_s: float, **order: object) -> dict[str, Any]:
        number = self._order(**order)
        what = next(iter(order))
        answer = self.wait_for(lambda: self._answers.get(number), f"the stage's {what}", timeout_s)
        if "failed" in answer:
            raise GuestError(f"the stage's {what}: {answer['failed']}")
        return answer

    def _order(self, **order: object) -> int:
        self._number += 1
        line = json.dumps({**order, "id": self._number}).encode() + b"\n"
        try:
            self._socket.sendall(line)
        except OSError as fault:
            raise GuestError("the machine is gone") from fault
        return self._number


def flat(slip: str) -> str:
    """A slip's words in one line."""
    return " ".join(slip.split())


def now() -> float:
    return time.monotonic()  # noqa: TID251 -- what is seen has its time
