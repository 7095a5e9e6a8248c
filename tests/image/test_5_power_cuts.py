"""The plug is pulled once, in a sale and while a bundle is installed by hand.

What the guest had not flushed is lost or kept by chance. `make image-power-cuts` is the long one,
each kind by itself: the firmware installs nothing while a sale is open.
"""

import time

import pytest

from image.emulation.bundles import Bundles
from image.emulation.counter import Counter
from image.emulation.cut_sales import cut_sales_of
from image.emulation.cutting import Bench
from image.emulation.slots import root_in, running, spoil_the_other

CUTS = 1
WRITING_SINCE = 0.4
"""The part of an installation after which it writes; it verified before."""

pytestmark = pytest.mark.timeout(3600)


def test_a_sale_and_an_installation_that_lose_their_power_end_in_what_was_said(
    bench: Bench,
    enrolled: Counter,
    bundles: Bundles,
    carried: str,
    installations_s: list[float],
) -> None:
    def begin_to_install() -> None:
        spoil_the_other(enrolled.stage)
        enrolled.stage.start(f"rauc install {carried}")
        time.sleep(WRITING_SINCE * installations_s[-1])

    rows = cut_sales_of(bench, enrolled, CUTS, meanwhile=begin_to_install)

    assert [row.faults for row in rows] == [()] * CUTS
    assert enrolled.venue.reconcile()["balanced"]
    # Nobody writes to either slot now.
    runs = running(enrolled.stage)
    assert root_in(bench.disk.raw, runs) in bundles.roots, f"slot {runs} runs and is not whole"
