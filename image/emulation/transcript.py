"""What was seen of an emulated appliance, as the docs tell it: words, times, sizes, memory."""

import time
from typing import Final

from image.emulation.machine import Machine
from image.emulation.stage import Stage
from image.emulation.tree import Built

PROGRAMS: Final = ("railtix-pos", "device.hardware.reader", "railtix-slots", "NetworkManager")
_PSS: Final = (
    "for p in /proc/[0-9]*; do"
    ' pss=$(awk "/^Pss:/ {print \\$2}" $p/smaps_rollup 2>/dev/null);'
    ' [ -n "$pss" ] && echo "$pss $(tr "\\0" " " < $p/cmdline)"; done; true'
)
MIB: Final = 1 << 20


class Transcript:
    """Lines in the order they came, each with the seconds since the first."""

    def __init__(self) -> None:
        self._began = _clock()
        self._lines: list[str] = []
        self._facts: list[tuple[str, str]] = []

    def tell(self, who: str, what: str) -> None:
        self._lines.append(f"{_clock() - self._began:6.0f} s  {who:<9} {what}".rstrip())

    def fact(self, what: str, how_much: str) -> None:
        self._facts.append((what, how_much))

    def sizes(self, built: Built) -> None:
        held = built.image.stat().st_blocks * 512
        size = f"{built.image.stat().st_size / MIB:.0f} MiB, {held / MIB:.0f} of them not zeros"
        self.fact("image", size)
        self.fact("bundle", f"{built.bundle.stat().st_size / MIB:.0f} MiB")

    def boot(self, machine: Machine) -> None:
        """When each of the console's well-known words came."""
        for words, what in (
            ("Slot ", "slot chosen"),
            ("Starting kernel", "kernel started"),
            ("systemd[1]", "systemd started"),
        ):
            at = machine.console.text.find(words)
            if at >= 0:
                self.fact(what, f"{machine.console.said_at(at):.0f} s")

    def memory(self, stage: Stage) -> None:
        """`free`, and each program's share of what is mapped (PSS)."""
        said = stage.say("free -m | awk '/^Mem/ {print $2, $3, $7}'").split()
        self.fact("memory of the guest", f"{said[1]} of {said[0]} MiB used, {said[2]} available")
        lines = [line.partition(" ") for line in stage.say(_PSS).splitlines()]
        for program in PROGRAMS:
            shares = [int(pss) for pss, _, words in lines if program in words]
            if shares:
                self.fact(f"PSS of {program}", f"{sum(shares) / 1024:.0f} MiB")

    def spell(self) -> str:
        """Markdown: a table of figures, and the lines as they came."""
        table = [f"| {what} | {how_much} |" for what, how_much in self._facts]
        return "\n".join(("| | |", "|---|---|", *table, "", "```", *self._lines, "```", ""))


def _clock() -> float:
    return time.monotonic()  # noqa: TID251 -- a transcript is told as time passes
