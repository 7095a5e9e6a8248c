"""The loop: no task waits for another, or stops with it."""

import threading
from collections.abc import Callable

import pytest
from sqlalchemy.exc import OperationalError

from cloud.courier.courier import Courier, Task, rest_s
from cloud.courier.post_office import PostOfficeAwayError

WITHIN_S = 20


class Counted:
    """A task that fails as it is told, and lets one wait for its n-th run."""

    def __init__(self, *results: int | Exception) -> None:
        self._results = list(results)
        self.runs = 0
        self._changed = threading.Condition()

    def __call__(self) -> int:
        with self._changed:
            self.runs += 1
            self._changed.notify_all()
        result = self._results.pop(0) if self._results else 0
        if isinstance(result, Exception):
            raise result
        return result

    def await_runs(self, runs: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.runs >= runs, WITHIN_S)


def run_until(condition: Callable[[], None], *tasks: Task, interval_s: float = 0.05) -> None:
    courier = Courier(tasks, interval_s, threading.Event())
    courier.start()
    try:
        condition()
    finally:
        courier.stop()


@pytest.mark.parametrize(
    "fault",
    [
        OperationalError("SELECT 1", {}, Exception("server closed the connection")),
        PostOfficeAwayError("connecting: ConnectionRefusedError"),
        ZeroDivisionError("a bug"),
    ],
)
def test_a_task_that_fails_is_tried_again_and_the_others_go_on(fault: Exception) -> None:
    failing, other = Counted(fault), Counted()

    def both() -> None:
        failing.await_runs(2)
        other.await_runs(3)

    run_until(both, Task("failing", failing), Task("other", other))


def test_a_task_that_hangs_keeps_no_other_waiting() -> None:
    let_go = threading.Event()
    other = Counted()

    def hang() -> int:
        let_go.wait(WITHIN_S)
        return 0

    def others_run() -> None:
        other.await_runs(5)
        let_go.set()

    run_until(others_run, Task("hanging", hang), Task("other", other))


def test_while_there_is_work_it_does_not_rest() -> None:
    busy = Counted(1, 1, 1, 1)
    # An interval that the test would not live to see the end of.
    run_until(lambda: busy.await_runs(5), Task("busy", busy), interval_s=60)


def test_a_task_that_asks_for_a_longer_rest_gets_it() -> None:
    seldom, often = Counted(), Counted()
    run_until(lambda: often.await_runs(5), Task("seldom", seldom, 60), Task("often", often))
    assert seldom.runs == 1


def test_told_to_stop_every_thread_ends() -> None:
    before = threading.active_count()
    courier = Courier([Task("one", Counted()), Task("two", Counted())], 60, threading.Event())
    courier.start()
    assert threading.active_count() == before + 2
    assert courier.is_alive
    courier.stop()
    assert threading.active_count() == before
    assert not courier.is_alive


def test_a_courier_that_never_began_can_be_stopped() -> None:
    Courier([Task("one", Counted())], 60, threading.Event()).stop()


def test_after_failures_it_rests_longer_and_longer() -> None:
    assert [rest_s(failures, 0.5) for failures in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert rest_s(1, 3600) == 1, "what runs once an hour does not lose an hour"
    assert rest_s(10_000, 0.5) == 30
