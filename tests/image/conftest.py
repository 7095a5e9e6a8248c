"""One emulated appliance for all of `make image-test`: booted once, looked at, used, updated.

Run in the order of the files: what a later one needs, an earlier one has done.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from image.emulation.bundles import CRASHING, BundleMaker, Bundles
from image.emulation.counter import Counter, office
from image.emulation.cutting import Bench
from image.emulation.labelled_disks import make_bundle_disk
from image.emulation.machine import Machine
from image.emulation.slots import carry, root_in
from image.emulation.stage import Stage
from image.emulation.transcript import Transcript
from image.emulation.tree import Built, find_built
from venue.stack import Venue

TRANSCRIPT_VARIABLE: Final = "RAILTIX_IMAGE_TRANSCRIPT"
"""A file for what was seen: the docs' section is made from it."""

EPOCH: Final = 1_760_000_000
"""When these bundles say they were made: any time will do."""


@pytest.fixture(scope="session")
def built() -> Built:
    """What `make image` left."""
    return find_built()


@pytest.fixture(scope="session")
def transcript() -> Iterator[Transcript]:
    transcript = Transcript()
    yield transcript
    wanted = os.environ.get(TRANSCRIPT_VARIABLE)
    if wanted:
        Path(wanted).write_text(transcript.spell(), "utf-8")


@pytest.fixture(scope="session")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Venue]:
    """The real broker and cloud, on this machine."""
    with office(tmp_path_factory.mktemp("office")) as venue:
        yield venue


@pytest.fixture(scope="session")
def bundles(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """Made before the machine is switched on, which then has the processors to itself."""
    folder = tmp_path_factory.mktemp("bundles")
    maker = BundleMaker(built, folder, epoch=EPOCH)
    good = maker.altered("good", f"{built.version}.1", {})
    bad = maker.altered("bad", f"{built.version}.2", CRASHING)
    foreign = maker.foreign("foreign", f"{built.version}.3")
    paths = (built.bundle, good.path, bad.path, foreign.path)
    disk = make_bundle_disk(built, paths, folder / "bundles.ext4")
    roots = frozenset({*maker.roots, root_in(built.image, "A")})
    return Bundles(built.bundle, good, bad, foreign, roots, disk)


@pytest.fixture(scope="session")
def bench(
    built: Built,
    bundles: Bundles,
    transcript: Transcript,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Bench]:
    """The very image on a disk of its own, and the machine on it, switched on."""
    bench = Bench(built, tmp_path_factory.mktemp("bench"), tell_nobody, words=bundles.disk)
    try:
        bench.power_on()
        transcript.sizes(built)
        yield bench
    finally:
        bench.close()


@pytest.fixture(scope="session")
def carried(bundles: Bundles, bench: Bench) -> str:
    """The image's own bundle where it may be changed; its path in the guest."""
    return carry(bench.machine.stage, bundles.own.name)


@pytest.fixture(scope="session")
def installations_s() -> list[float]:
    """How long each installation took that nobody cut."""
    return []


@pytest.fixture
def machine(bench: Bench) -> Machine:
    return bench.machine


@pytest.fixture
def stage(bench: Bench) -> Stage:
    """Of the machine as it runs now: a power cut gives it a new one."""
    return bench.machine.stage


@pytest.fixture(scope="session")
def enrolled(venue: Venue, bench: Bench, transcript: Transcript) -> Counter:
    """The same appliance once it has a name and staff."""
    counter = Counter(venue, bench.machine.stage, transcript.tell)
    counter.enrol()
    counter.sign_in(venue.badge)
    return counter


def tell_nobody(_line: str) -> None:
    """A test's rows are its assertions."""
