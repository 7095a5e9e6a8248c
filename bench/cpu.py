"""How much processor time programs took, from /proc: children counted, dead ones too."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


class CpuReading(msgspec.Struct, frozen=True):
    """Seconds of processor time (user and system) since each program started."""

    seconds: dict[str, float]
    machine_busy: float
    """All cores together, whoever used them, since the machine started."""

    def since(self, earlier: "CpuReading") -> "CpuReading":
        return CpuReading(
            {name: taken - earlier.seconds[name] for name, taken in self.seconds.items()},
            self.machine_busy - earlier.machine_busy,
        )


def read_cpu(programs: Mapping[str, list[int]]) -> CpuReading:
    """Read the clocks of named groups of processes, each with all that it started."""
    return CpuReading(
        {name: sum(_tree_s(pid, root=True) for pid in pids) for name, pids in programs.items()},
        _machine_busy_s(),
    )


def _tree_s(pid: int, *, root: bool) -> float:
    # The name, in parentheses, may hold spaces: fields are counted from behind it.
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    except (FileNotFoundError, ProcessLookupError):
        # It ended meanwhile: its parent's clock of dead children has it.
        assert not root, f"process {pid} has ended"
        return 0.0
    own = sum(map(int, fields[11:13])) / _TICKS_PER_S
    dead_children = sum(map(int, fields[13:15])) / _TICKS_PER_S
    return own + dead_children + sum(_tree_s(int(child), root=False) for child in children)


def _machine_busy_s() -> float:
    first = Path("/proc/stat").read_text("ascii").splitlines()[0].split()
    user, nice, system, _idle, _waiting, irq, softirq, *_ = map(int, first[1:])
    return (user + nice + system + irq + softirq) / _TICKS_PER_S
