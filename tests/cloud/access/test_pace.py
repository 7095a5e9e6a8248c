import threading
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.access.pace import Meter, Pace, Wait


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("text", "pace"),
    [
        ("5/second", Pace(5, 1)),
        ("60/minute", Pace(60, 60)),
        ("1/hour", Pace(1, 3600)),
        ("9/day", Pace(9, timedelta(days=1).total_seconds())),
    ],
)
def test_a_pace_is_read_as_it_is_written(text: str, pace: Pace) -> None:
    assert Pace.read(text) == pace


@pytest.mark.parametrize("text", ["", "0/minute", "5", "5/week", "-1/second", "5 /second", "x/day"])
def test_what_is_no_pace_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="20/minute"):
        Pace.read(text)


def test_so_many_at_once_and_then_one_each_share_of_the_time() -> None:
    clock = Clock()
    meter = Meter(Pace(3, 60), clock)
    assert [meter.take("a") for _ in range(3)] == [None] * 3
    assert meter.is_spent("a")
    assert meter.take("a") == Wait(20, 1)
    assert meter.take("a") == Wait(20, 2)
    clock.now += 20
    assert not meter.is_spent("a")
    assert meter.take("a") is None
    assert meter.take("a") == Wait(20, 1), "the row of refusals is over"


def test_one_subject_spends_nothing_of_anothers() -> None:
    meter = Meter(Pace(1, 60), Clock())
    assert meter.take("a") is None
    assert meter.take("b") is None
    assert meter.take("a") is not None
    assert not meter.is_spent("c")


def test_whoever_waited_long_gets_no_more_than_the_pace_at_once() -> None:
    clock = Clock()
    meter = Meter(Pace(2, 60), clock)
    meter.take("a")
    clock.now += 1_000_000
    assert [meter.take("a") is None for _ in range(3)] == [True, True, False]


def test_strangers_by_the_thousand_do_not_fill_memory() -> None:
    clock = Clock()
    meter = Meter(Pace(5, 1), clock)
    for number in range(50_000):
        clock.now += 0.001
        meter.take(f"stranger {number}")
    assert len(meter) < 3000


def test_a_hundred_threads_get_no_more_than_the_pace() -> None:
    meter = Meter(Pace(10, 3600), Clock())
    taken: list[bool] = []
    threads = [
        threading.Thread(target=lambda: taken.append(meter.take("a") is None)) for _ in range(100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 10


@given(
    count=st.integers(1, 20),
    per_s=st.integers(1, 100),
    gaps=st.lists(st.floats(0, 50, allow_nan=False), max_size=60),
)
def test_no_stretch_of_time_ever_holds_more_than_twice_the_count(
    count: int, per_s: int, gaps: list[float]
) -> None:
    clock = Clock()
    meter = Meter(Pace(count, per_s), clock)
    taken: list[float] = []
    for gap in gaps:
        clock.now += gap
        if meter.take("a") is None:
            taken.append(clock.now)
    for begin in taken:
        # What was saved up, and what was refilled meanwhile.
        assert sum(begin <= at < begin + per_s for at in taken) <= 2 * count
