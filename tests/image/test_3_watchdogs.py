"""What hangs is started anew: the firmware by systemd, the whole machine by its hardware."""

import pytest

from image.emulation.counter import Counter
from image.emulation.lamp import Hue
from image.emulation.machine import BOOT_WITHIN_S, Machine
from image.emulation.stage import Stage, now

WITHIN_S = 400.0
WATCHDOG_US = 15_000_000
"""A quarter of what the image sets: the machine stands still for as long."""
SET_WATCHDOG = (
    "busctl set-property org.freedesktop.systemd1 /org/freedesktop/systemd1"
    " org.freedesktop.systemd1.Manager RuntimeWatchdogUSec"
)

pytestmark = pytest.mark.timeout(1500)


def restarts(stage: Stage) -> int:
    return int(stage.say("systemctl show railtix-pos -p NRestarts --value"))


def is_up(stage: Stage) -> bool:
    return stage.run("systemctl is-active --quiet railtix-pos").code == 0


def test_a_firmware_that_hangs_is_started_anew(enrolled: Counter, stage: Stage) -> None:
    before = restarts(stage)
    stage.say("systemctl kill --kill-whom=main --signal=STOP railtix-pos")

    stage.wait_for(
        lambda: (restarts(stage) > before and is_up(stage)) or None, "another start", WITHIN_S
    )

    assert "watchdog" in stage.say("journalctl -b -u railtix-pos --no-pager | tail -40").lower()
    enrolled.wait_for_hue(Hue.WHITE, now())


def test_a_system_that_hangs_is_reset_by_the_hardware(
    enrolled: Counter, machine: Machine, stage: Stage
) -> None:
    """A fatal signal makes systemd stand still: it feeds nothing any more, and starts nothing."""
    machine.arm_watchdog()
    stage.say(f"{SET_WATCHDOG} t {WATCHDOG_US}")
    said_before, readies = len(machine.console.text), stage.readies
    stage.start("kill -SEGV 1")

    machine.console.expect("U-Boot", WITHIN_S, since=said_before)

    stage.wait_until_ready(BOOT_WITHIN_S, after=readies)
    assert machine.running, "it is the same machine, reset"
    enrolled.wait_for_hue(Hue.WHITE, now())
