"""Another version by the way that every appliance takes; and bundles that nobody should install."""

import json
import os
import sys
from pathlib import Path

import pytest

from image.emulation.bundles import COMPATIBLE, CRASHING, BundleMaker
from image.emulation.counter import Counter
from image.emulation.file_server import FileServer
from image.emulation.lamp import Hue
from image.emulation.machine import HOST
from image.emulation.slots import fetch, running, turn_a_bit, version
from image.emulation.stage import Stage, now
from image.emulation.transcript import Transcript
from image.emulation.tree import Built
from venue.programs import run_to_end
from venue.stack import CURRENCY, Venue

INSTALL_S = 900.0
UPDATE_S = 1500.0

pytestmark = pytest.mark.timeout(3600)


def install(stage: Stage, path: str) -> tuple[int, str]:
    """By hand, past all that the firmware would ask for; how it ended and what it said."""
    ran = stage.run(f"rauc install {path}", INSTALL_S)
    return ran.code, ran.said


def primary(stage: Stage) -> str:
    said = json.loads(stage.say("rauc status --output-format=json"))
    return str(said["boot_primary"])


def later(built: Built, number: int) -> str:
    """A version after the image's own."""
    return f"{built.version}.{number}"


def ops(venue: Venue, *words: str | Path) -> str:
    os.environ["RAILTIX_OPS_TOKEN"] = venue.desk.token
    try:
        return run_to_end(
            [sys.executable, "-m", "provisioning", *words, "--url", venue.base_url], within_s=300
        )
    finally:
        del os.environ["RAILTIX_OPS_TOKEN"]


def released(venue: Venue, bundle: Path, version_: str) -> None:
    named = ("--version", version_, "--compatible", COMPATIBLE)
    ops(venue, "update", "release", bundle, "--rollout", "100", *named)


def signed_out(counter: Counter) -> None:
    """Held D, then #: nobody needs the till."""
    counter.stage.tap("D", 1500)
    counter.stage.tap("#")


@pytest.mark.parametrize("at", [0.4, 0.99999])
def test_a_tampered_bundle_is_refused(stage: Stage, carried: str, at: float) -> None:
    slot, before = running(stage), primary(stage)
    turn_a_bit(stage, carried, at)

    code, said = install(stage, carried)

    turn_a_bit(stage, carried, at)
    assert code
    assert "verif" in said.lower(), said
    assert (running(stage), primary(stage)) == (slot, before), "the next start is as it was"


def test_a_bundle_of_a_stranger_is_refused_before_anything_is_written(
    built: Built, stage: Stage, maker: BundleMaker
) -> None:
    before = primary(stage)
    bundle = maker.foreign("foreign", later(built, 1))
    with FileServer(maker.folder) as served:
        path = fetch(stage, f"http://{HOST}:{served.port}/{bundle.name}", bundle.name)

    code, said = install(stage, path)

    assert code
    assert "verif" in said.lower(), said
    assert primary(stage) == before


def test_an_announced_update_is_fetched_installed_tried_and_confirmed(
    built: Built, enrolled: Counter, venue: Venue, maker: BundleMaker, transcript: Transcript
) -> None:
    stage, began = enrolled.stage, now()
    slot, new = running(stage), later(built, 2)
    bundle = maker.altered("good", new, {})
    signed_out(enrolled)
    readies = stage.readies

    released(venue, bundle, new)

    stage.wait_until_ready(UPDATE_S, after=readies)
    assert version(stage) == new
    assert running(stage) != slot
    stage.wait_for(lambda: status_of(venue, new).get("confirmed"), "it to be confirmed", UPDATE_S)
    assert primary(stage) == {"A": "rootfs.1", "B": "rootfs.0"}[slot]
    assert new in stage.say("/opt/railtix/bin/railtix-pos update --check")
    transcript.fact("update, from release to confirmed", f"{now() - began:.0f} s")


def test_a_bundle_whose_firmware_crashes_gives_way_to_the_version_before(
    built: Built, enrolled: Counter, venue: Venue, maker: BundleMaker
) -> None:
    stage, bad = enrolled.stage, later(built, 3)
    before, slot = version(stage), running(stage)
    bundle = maker.altered("bad", bad, CRASHING)
    readies = stage.readies

    released(venue, bundle, bad)

    stage.wait_until_ready(UPDATE_S, after=readies)
    assert version(stage) == bad
    # It has two more tries, which would go as this one.
    name = running(stage)
    assert stage.say(f"fw_printenv -n BOOT_{name}_LEFT").strip() == "2"
    stage.say(f"fw_setenv BOOT_{name}_LEFT 0")
    stage.wait_for(
        lambda: status_of(venue, bad).get("rolled_back"), "it to be rolled back", 2 * UPDATE_S
    )
    assert (version(stage), running(stage)) == (before, slot)
    assert stage.readies == readies + 2

    enrolled.wait_for_hue(Hue.WHITE, now())
    enrolled.sign_in(venue.badge)
    guest = enrolled.guest("after@example.org")
    assert enrolled.sell(guest, "300#").is_green, "and it sells"
    assert guest.balance(CURRENCY).amount_in_cents == 1700


def status_of(venue: Venue, version_: str) -> dict[str, int]:
    """How many appliances are how far with it."""
    said = json.loads(ops(venue, "update", "status", version_, "--json"))
    (release,) = said["releases"]
    return release["counts"]
