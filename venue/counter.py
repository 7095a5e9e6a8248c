"""A counter at the fair: staff at the keypad, an attendee's phone before the camera."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from protocol.wallet_qr import to_digits
from venue.desk import IssuedBadge
from venue.edge import Edge, Paper
from venue.lights import Light
from venue.phone import Difficulty, badge, phone

OPEN_WITHIN_S: Final = 60.0
RESULT_WITHIN_S: Final = 60.0
RESULTS: Final = frozenset({Light.DECLINED, Light.REFRESH_QR, Light.FAULT})


@dataclass(frozen=True)
class Sale:
    """How one attempt ended, by the lamp; what the appliance says of it comes from its log."""

    light: Light
    captured_at: float
    """When the camera first saw the phone (monotonic seconds)."""
    lit_at: float
    paper: Paper | None
    outcome: str
    ms: dict[str, float]

    @property
    def scan_to_light_ms(self) -> float:
        return (self.lit_at - self.captured_at) * 1000


class Counter:
    """Presses keys and shows codes; sees the lamp, hears the buzzer, takes the paper."""

    def __init__(self, device_id: str, edge: Edge, log: Path, rng: np.random.Generator) -> None:
        self.device_id = device_id
        self.edge = edge
        self._log = log
        self._rng = rng
        # What an earlier life of this appliance wrote is not about the next sale.
        self._read_to = log.stat().st_size if log.exists() else 0

    def wait_until_open(self) -> None:
        """Until the appliance has its policy and the cloud answers: it asks for a badge."""
        self.edge.wait_for_light(Light.NOBODY_SIGNED_IN, timeout_s=OPEN_WITHIN_S)

    def sign_in(self, issued: IssuedBadge) -> float:
        """Badge before the camera, PIN on the keypad; the seconds until the lamp said "ready"."""
        began = _clock()
        self.show_badge(issued)
        self.edge.wait_for_light(Light.KEY_THE_AMOUNT, since=began)
        self.edge.clear()
        self.edge.type(f"{issued.pin}#")
        return self.edge.wait_for_light(Light.READY, since=began).began_at - began

    def show_badge(self, issued: IssuedBadge) -> None:
        """Hold a badge before the camera."""
        self.edge.show(badge(to_digits(issued.jws), self._rng, "easy"))

    def key(self, keys: str) -> None:
        """Key an amount (`500#`) or products (`A1A3#`) until the lamp asks for the QR."""
        began = _clock()
        self.edge.type(keys)
        self.edge.wait_for_light(Light.SHOW_QR, since=began)

    def show_phone(self, digits: str, difficulty: Difficulty = "normal") -> float:
        """Hold a phone with this QR before the camera; when that was."""
        picture = phone(digits, self._rng, difficulty)
        began = _clock()
        self.edge.show(picture)
        return began

    def await_result(self, since: float, *, paper: bool = True) -> Sale:
        """Until the lamp says how it ended; `paper`: also until an approved sale's receipt."""

        def look() -> tuple[Light, float] | None:
            for at in self.edge.approvals():
                if at > since:
                    return Light.APPROVED, at
            for seen in self.edge.lights(since):
                if seen.light is not None and seen.light in RESULTS and seen.began_at > since:
                    return seen.light, seen.began_at
            return None

        light, lit_at = self.edge.wait_for(look, "the lamp to say how it ended", RESULT_WITHIN_S)
        captured_at = self.edge.wait_for_capture(since)
        self.edge.clear()
        slip = None
        if paper and light is Light.APPROVED:
            slip = self.edge.wait_for_paper(since)
        said = self._account()
        if slip is None:
            slip = next((each for each in self.edge.papers if each.at > since), None)
        ms = {stage: float(value) for stage, value in said.get("ms", {}).items()}
        return Sale(light, captured_at, lit_at, slip, str(said.get("outcome", "")), ms)

    def sell(
        self, keys: str, digits: str, difficulty: Difficulty = "normal", *, paper: bool = True
    ) -> Sale:
        """One whole attempt: key it, show the phone, see how it ends."""
        self.key(keys)
        return self.await_result(self.show_phone(digits, difficulty), paper=paper)

    def abandon(self) -> None:
        """Let the customer go without paying: `*`, and the till is ready again."""
        began = _clock()
        self.edge.tap("*")
        self.edge.wait_for_light(Light.READY, since=began)

    def _account(self) -> dict[str, Any]:
        """The appliance's own account of the newest sale, from its log."""

        def look() -> dict[str, Any] | None:
            found: dict[str, Any] | None = None
            with self._log.open("rb") as log:
                log.seek(self._read_to)
                for line in log:
                    if line.endswith(b"\n"):
                        self._read_to += len(line)
                        if b'"sale_timed"' in line:
                            found = json.loads(line)
            return found

        return self.edge.wait_for(look, "the appliance's account of the sale", RESULT_WITHIN_S)


def _clock() -> float:
    return time.monotonic()  # noqa: TID251 - a counter is an edge
