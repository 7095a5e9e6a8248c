from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic, sleep  # noqa: TID251 -- waiting for a part is in real time

import pytest

from device.hardware.settings import HardwareSettings
from device.hardware.simulated_pins import KeyMatrix, SimulatedFactory


@dataclass
class Wiring:
    """Mock pins wired as an appliance's, and what they did."""

    settings: HardwareSettings = field(
        default_factory=lambda: HardwareSettings(kind="simulated", socket="unused")
    )
    matrix: KeyMatrix = field(default_factory=KeyMatrix)
    colours: list[tuple[float, float, float]] = field(default_factory=list)
    tones: list[float | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.factory = SimulatedFactory(
            self.settings, self.matrix, on_colour=self._on_colour, on_tone=self.tones.append
        )

    def _on_colour(self, red: float, green: float, blue: float) -> None:
        self.colours.append((red, green, blue))


@pytest.fixture
def wiring() -> Iterator[Wiring]:
    wired = Wiring()
    yield wired
    wired.factory.close()


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Wait until something is so; the test's own assertion tells when it never was."""

    def wait(is_so: Callable[[], bool]) -> None:
        deadline = monotonic() + 10
        while not is_so() and monotonic() < deadline:
            sleep(0.003)

    return wait
