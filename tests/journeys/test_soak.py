"""A minute of `make soak`: a rush while the printer fails and the network comes and goes."""

from pathlib import Path

import pytest

from bench.soak import soak

MINUTES = 1.0

pytestmark = [pytest.mark.xdist_group("soak"), pytest.mark.timeout(900)]


def test_a_rush_with_faults_loses_no_sale_books_none_twice_and_grows_no_memory(
    tmp_path: Path,
) -> None:
    saw = soak(MINUTES, lambda _: None, tmp_path / "venue")
    assert saw.problems == []
    assert saw.greens == saw.posted - saw.reversed > 0
    assert saw.offline > 0, "the network was away during some of them"
    assert saw.resident_max_mib > 0
    assert len(saw.troubles) >= 4, "each part failed"
