"""The plug is pulled once in a sale and once while a bundle is installed.

What the guest had not flushed is lost or kept by chance. `make image-power-cuts` is the long one.
"""

import pytest

from image.emulation.bundles import Bundles
from image.emulation.counter import Counter
from image.emulation.cut_installs import cut_installs_of, install
from image.emulation.cut_sales import cut_sales_of
from image.emulation.cutting import Bench, Row
from venue.stack import Venue

CUTS = 1

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
    bench: Bench, bundles: Bundles, carried: str, installations_s: list[float]
) -> None:
    # It is verified for a while before anything is written: the moment is a part of the whole.
    if not installations_s:
        installations_s.append(install(bench.machine.stage, carried))
    rows = cut_installs_of(bench, carried, CUTS, installations_s[-1], set(bundles.roots))
    assert faults(rows) == []
    assert len(rows) == CUTS
