"""The power goes while a bundle is installed: whatever runs afterwards is whole."""

import time
from dataclasses import dataclass
from typing import Final

from image.emulation.console import GuestError
from image.emulation.counter import WITHIN_S
from image.emulation.cutting import Bench, Row
from image.emulation.slots import OTHER, Root, carry, root_in, running, spoil_the_other
from image.emulation.stage import Stage, now
from image.emulation.volatile_disk import Loss

INSTALL_WITHIN_S: Final = 900.0


@dataclass(frozen=True)
class Cut:
    """What ran when the power went, and what lay in both slots afterwards."""

    slot: str
    moment_s: float
    loss: Loss
    roots: dict[str, Root]


def cut_installs(bench: Bench, bundle: str, moments: int) -> list[Row]:
    """Install a bundle of the machine's own disk, each time cut off at another moment."""
    stage = bench.power_on()
    path = carry(stage, bundle)
    before = running(stage)
    whole_s = install(stage, path)
    bench.tell(f"an installation that nobody cuts takes {whole_s:.1f} s, from slot {before}")
    bench.switch_off()
    whole = roots_of(bench)
    bench.power_on()
    rows = _cut_each(bench, path, moments, whole_s, whole)
    bench.close()
    return rows


def install(stage: Stage, path: str) -> float:
    """By hand and uncut; how many seconds it took. Raises GuestError where it is refused."""
    began = now()
    stage.say(f"rauc install {path}", INSTALL_WITHIN_S)
    return now() - began


def roots_of(bench: Bench) -> set[Root]:
    """What lies in both slots of a disk that is switched off."""
    return {root_in(bench.disk.raw, slot) for slot in ("A", "B")}


def _cut_each(bench: Bench, path: str, moments: int, whole_s: float, whole: set[Root]) -> list[Row]:
    """Where a machine runs; one runs afterwards."""
    rows: list[Row] = []
    stage = bench.machine.stage
    for number in range(moments):
        slot = running(stage)
        # To just after its end.
        moment_s = bench.moment(number, moments, whole_s * 1.1)
        spoil_the_other(stage)
        began = now()
        stage.start(f"rauc install {path}")
        time.sleep(max(0.0, began + moment_s - now()))
        loss = bench.cut(loses=number % 2 == 0)
        roots = {each: root_in(bench.disk.raw, each) for each in ("A", "B")}
        cut = Cut(slot, moment_s, loss, roots)
        try:
            stage = bench.power_on()
            row = _row(stage, cut, whole)
        except GuestError as fault:
            row = Row("install", moment_s, loss, f"slot {slot} ran", "nothing", (str(fault),))
        rows.append(row)
        bench.tell(row.spell(number + 1))
        if row.faults:
            break  # what is broken is looked at, not built on
    return rows


def _row(stage: Stage, cut: Cut, whole: set[Root]) -> Row:
    runs = running(stage)
    stage.wait_for(lambda: _is_up(stage) or None, "the firmware", WITHIN_S)
    other = "whole" if cut.roots[OTHER[runs]] in whole else "half written"
    faults = () if cut.roots[runs] in whole else (f"slot {runs} runs and is not whole",)
    found = f"{runs} runs, {other} beside"
    return Row("install", cut.moment_s, cut.loss, f"slot {cut.slot} ran", found, faults)


def _is_up(stage: Stage) -> bool:
    return stage.run("systemctl is-active --quiet railtix-pos").code == 0
