"""The plug is pulled a few times, in a sale and while a bundle is installed.

The second of each pair also loses what the guest had not flushed. `make image-power-cuts` is long.
"""

import pytest

from image.emulation.bundles import BundleMaker
from image.emulation.counter import Counter
from image.emulation.cut_installs import INSTALL_WITHIN_S, cut_installs_of
from image.emulation.cut_sales import cut_sales_of
from image.emulation.cutting import Bench, Row
from image.emulation.slots import root_in
from image.emulation.stage import now
from image.emulation.tree import Built
from venue.stack import Venue

CUTS = 2

pytestmark = pytest.mark.timeout(3600)


def faults(rows: list[Row]) -> list[str]:
    return [fault for row in rows for fault in row.faults]


def test_a_sale_that_loses_its_power_ends_in_what_its_light_said(
    bench: Bench, enrolled: Counter, venue: Venue
) -> None:
    rows = cut_sales_of(bench, enrolled, CUTS)
    assert faults(rows) == []
    assert len(rows) == CUTS
    assert venue.reconcile()["balanced"]


def test_an_installation_that_loses_its_power_leaves_a_slot_that_is_whole(
    built: Built, bench: Bench, enrolled: Counter, maker: BundleMaker, carried: str
) -> None:
    stage = enrolled.stage
    began = now()
    stage.say(f"rauc install {carried}", INSTALL_WITHIN_S)
    whole = {*maker.roots, root_in(built.image, "A")}

    rows = cut_installs_of(bench, carried, CUTS, now() - began, whole)

    assert faults(rows) == []
    assert len(rows) == CUTS
