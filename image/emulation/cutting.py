"""One machine, switched on and cut off over and over: each run starts on what the last one left."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from image.emulation.counter import WITHIN_S
from image.emulation.machine import Machine
from image.emulation.stage import Stage
from image.emulation.tree import Built
from image.emulation.volatile_disk import Loss, VolatileDisk

HEAD: Final = (
    "| | cut at | unflushed writes that survived | seen before | found after | verdict |",
    "|---|---|---|---|---|---|",
)


@dataclass(frozen=True)
class Row:
    """One cut: when, what was lost with it, what was seen before, what is true after."""

    kind: str
    moment_s: float
    loss: Loss
    before: str
    after: str
    faults: tuple[str, ...]

    def spell(self, number: int) -> str:
        kept = f"{self.loss.kept} of {self.loss.after_flush}{', one torn' * self.loss.torn}"
        verdict = "; ".join(self.faults) or "holds"
        return (
            f"| {number} | {self.moment_s:.2f} s | {kept} | {self.before} | {self.after} |"
            f" {verdict} |"
        )


@dataclass
class Bench:
    """A disk that forgets what was not flushed, and the machine on it."""

    built: Built
    folder: Path
    tell: Callable[[str], None]
    seed: int = 1
    words: tuple[str, ...] = ()
    """More of QEMU's own, for each run."""
    disk: VolatileDisk = field(init=False)
    chance: np.random.Generator = field(init=False)
    machine: Machine = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.disk = VolatileDisk(self.built, self.folder / "disk")
        self.disk.make_on_a_used_card()
        self.chance = np.random.default_rng(self.seed)

    def power_on(self) -> Stage:
        """Boot what the last cut left. Raises GuestError where it does not come up."""
        folder = self.folder / "machine"
        self.machine = Machine(self.built, folder, self.disk.prepared(), words=self.words)
        self.machine.start()
        return self.machine.stage

    def cut(self, *, loses: bool) -> Loss:
        """Pull the plug. `loses`: what was not flushed stays or goes by chance; else it stays."""
        self.machine.kill()
        self.machine.close()
        return self.disk.settle(self.chance, loses=loses)

    def switch_off(self) -> None:
        """In order."""
        self.machine.stage.start("systemctl poweroff")
        self.machine.wait_until_off(WITHIN_S)
        self.machine.close()
        self.disk.settle(self.chance, loses=False)

    def moment(self, number: int, moments: int, whole_s: float) -> float:
        """The number-th of so many moments spread over this time, somewhere in its share of it."""
        return (number + float(self.chance.uniform(0.1, 0.9))) / moments * whole_s

    def close(self) -> None:
        if "machine" in self.__dict__:
            self.machine.close()
