from pathlib import Path

from bench.fleet import Kind, measure


def test_twenty_appliances_come_beat_get_a_policy_and_come_back_to_a_broker_that_fell(
    tmp_path: Path,
) -> None:
    """`make bench-fleet`, small: it raises where one never came, or never got its policy."""
    figures = measure(
        tmp_path, appliances=20, processes=2, seconds=3.0, kind=Kind.SQLITE, restart_broker=True
    )
    assert figures.refused == 0
    assert figures.restart is not None
    assert figures.appliances == 20
