"""Another version by the way that every appliance takes; bundles and systems that go wrong."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from image.emulation.bundles import COMPATIBLE, Bundles, Made
from image.emulation.counter import Counter
from image.emulation.cut_installs import INSTALL_WITHIN_S, install
from image.emulation.lamp import Hue
from image.emulation.machine import BOOT_WITHIN_S, Machine
from image.emulation.slots import OTHER, at_hand, carry, carry_part, running, turn_a_bit, version
from image.emulation.stage import Stage, now
from image.emulation.transcript import Transcript
from venue.programs import run_to_end
from venue.stack import CURRENCY, Venue

UPDATE_S = 1500.0
RESET_WITHIN_S = 400.0
WATCHDOG_US = 15_000_000
"""A quarter of what the image sets: the machine stands still for as long."""
SET_WATCHDOG = (
    "busctl set-property org.freedesktop.systemd1 /org/freedesktop/systemd1"
    " org.freedesktop.systemd1.Manager RuntimeWatchdogUSec"
)

ROOTS = {"A": "rootfs.0", "B": "rootfs.1"}
"""What RAUC calls them."""

pytestmark = pytest.mark.timeout(3600)


def try_install(stage: Stage, path: str) -> tuple[int, str]:
    """By hand, past all that the firmware would ask for; how it ended and what it said."""
    ran = stage.run(f"rauc install {path}", INSTALL_WITHIN_S)
    return ran.code, ran.said


def primary(stage: Stage) -> str:
    said = json.loads(stage.say("rauc status --output-format=json"))
    return str(said["boot_primary"])


def ops(venue: Venue, *words: str | Path) -> str:
    os.environ["RAILTIX_OPS_TOKEN"] = venue.desk.token
    try:
        return run_to_end(
            [sys.executable, "-m", "provisioning", *words, "--url", venue.base_url], within_s=300
        )
    finally:
        del os.environ["RAILTIX_OPS_TOKEN"]


def released(venue: Venue, bundle: Made) -> None:
    named = ("--version", bundle.version, "--compatible", COMPATIBLE)
    ops(venue, "update", "release", bundle.path, "--rollout", "100", *named)


def begun(stage: Stage, bundle: Made) -> None:
    """Most of it was fetched before and then cut off: over TLS all of it would take minutes."""
    carry_part(stage, bundle.path.name, bundle.sha256, bundle.size * 99 // 100)


def signed_out(counter: Counter) -> None:
    """Held D, then #: nobody needs the till."""
    counter.stage.tap("D", 1500)
    counter.stage.tap("#")


@pytest.mark.parametrize("at", [0.4, 0.99999])
def test_a_tampered_bundle_is_refused(stage: Stage, carried: str, at: float) -> None:
    slot, before = running(stage), primary(stage)
    turn_a_bit(stage, carried, at)

    code, said = try_install(stage, carried)

    turn_a_bit(stage, carried, at)
    assert code
    assert "signature verification failed" in said, said
    assert (running(stage), primary(stage)) == (slot, before), "the next start is as it was"


def test_a_bundle_of_a_stranger_is_refused_before_anything_is_written(
    stage: Stage, bundles: Bundles
) -> None:
    before = primary(stage)

    code, said = try_install(stage, carry(stage, bundles.foreign.path.name))

    assert code
    assert "signature verification failed" in said, said
    assert primary(stage) == before


def test_an_announced_update_is_fetched_installed_tried_and_confirmed(
    enrolled: Counter, venue: Venue, bundles: Bundles, transcript: Transcript
) -> None:
    stage, new = enrolled.stage, bundles.good.version
    slot = running(stage)
    begun(stage, bundles.good)
    signed_out(enrolled)
    readies, began = stage.readies, now()

    released(venue, bundles.good)

    stage.wait_until_ready(UPDATE_S, after=readies)
    assert fetches(venue) == [206], "it went on where it had been cut off"
    assert version(stage) == new
    assert running(stage) != slot
    await_count(venue, new, "confirmed")
    assert primary(stage) == ROOTS[OTHER[slot]]
    assert new in stage.say("/opt/railtix/bin/railtix-pos update --check")
    transcript.fact("update, from release to confirmed", f"{now() - began:.0f} s")


def test_a_system_that_hangs_is_reset_by_the_hardware(
    machine: Machine, stage: Stage, bundles: Bundles, installations_s: list[float]
) -> None:
    """A fatal signal makes systemd stand still: it feeds nothing any more, and starts nothing.

    The reset saves a restart: what comes up is the next test's, installed by hand, since what the
    cloud is told of such a one is tried without a machine.
    """
    installations_s.append(install(stage, at_hand(stage, bundles.bad.path.name)))
    here = running(stage)
    stage.say("/opt/railtix/bin/railtix-slots ask stay")
    assert primary(stage) == ROOTS[here], "as where an update is paused before it was started"
    stage.say("rauc status mark-active other")
    assert primary(stage) == ROOTS[OTHER[here]]
    stage.say(f"sync && {SET_WATCHDOG} t {WATCHDOG_US}")
    said_before, readies = len(machine.console.text), stage.readies
    machine.let_watchdog("reset")
    stage.start("kill -SEGV 1")

    machine.console.expect("U-Boot", RESET_WITHIN_S, since=said_before)

    machine.let_watchdog("none")
    stage.wait_until_ready(BOOT_WITHIN_S, after=readies)
    assert machine.running, "it is the same machine, reset"
    assert version(stage) == bundles.bad.version


def test_a_bundle_whose_firmware_crashes_gives_way_to_the_version_before(
    enrolled: Counter, venue: Venue, bundles: Bundles
) -> None:
    stage, name, readies = enrolled.stage, running(enrolled.stage), enrolled.stage.readies
    # It has two more tries, which would go as this one.
    assert stage.say(f"fw_printenv -n BOOT_{name}_LEFT").strip() == "2"
    stage.say(f"fw_setenv BOOT_{name}_LEFT 0")

    stage.wait_until_ready(UPDATE_S, after=readies)

    assert version(stage) == bundles.good.version
    assert running(stage) != name
    enrolled.wait_for_hue(Hue.WHITE, now())
    enrolled.sign_in(venue.badge)
    guest = enrolled.guest("after@example.org")
    assert enrolled.sell(guest, "300#").is_green, "and it sells"
    assert guest.balance(CURRENCY).amount_in_cents == 1700


def await_count(venue: Venue, version_: str, name: str) -> None:
    """Until an appliance is so far with it; asked seldom, since the guest needs the processors."""
    until = now() + UPDATE_S
    while not status_of(venue, version_)[name]:
        assert now() < until, f"no appliance was {name}"
        time.sleep(5)


def status_of(venue: Venue, version_: str) -> dict[str, int]:
    """How many appliances are how far with it."""
    said = json.loads(ops(venue, "update", "status", version_, "--json"))
    (release,) = said["releases"]
    return release["counts"]


def fetches(venue: Venue) -> list[int]:
    """How the cloud answered those who fetched a bundle."""
    lines = (venue.folder / "cloud.log").read_text("utf-8").splitlines()
    said = [json.loads(line) for line in lines if '"/v1/pos/updates/' in line]
    return [each["status"] for each in said]
