"""The cloud killed before it takes a request, and between commit and reply; both databases."""

import os
import signal
from collections.abc import Iterator

import pytest

from device.till.entries import SaleAnswered
from protocol.messages import Approved
from tests.journeys.bar import Bar, Guest
from tests.journeys.killed import Asked, killable_bar
from tests.journeys.power import check_next_sale
from venue.lights import Light
from venue.servers import Postgres

pytestmark = [pytest.mark.xdist_group("killed-cloud"), pytest.mark.timeout(600)]


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]
)
def _bar(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bar]:
    database: str | None = None
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        database = postgres.create_database("killed_cloud")
    with killable_bar(
        tmp_path_factory.mktemp("cloud"), database=database, books_url=database
    ) as bar:
        yield bar


@pytest.fixture
def bar(_bar: Bar) -> Bar:
    """Whatever the test before left."""
    if not _bar.venue.cloud.running:
        _bar.venue.start_cloud_again()
    _bar.venue.cloud_network.mend()
    _bar.come_to_rest()
    return _bar


@pytest.fixture
def guest(bar: Bar) -> Guest:
    return bar.guest()


def test_a_cloud_killed_before_it_takes_the_request_decides_it_when_it_comes_again(
    bar: Bar, guest: Guest
) -> None:
    asked = _kill_before_it_takes(bar, guest)
    bar.venue.start_cloud_again()
    asked.reconnect()
    asked.check(Light.APPROVED)
    check_next_sale(bar, guest)


def test_a_cloud_killed_between_commit_and_reply_gives_the_same_answer_again(
    bar: Bar, guest: Guest
) -> None:
    asked = _kill_after_commit(bar, guest)
    (deduct,) = asked.watch.posted()
    bar.venue.start_cloud_again()
    asked.reconnect()
    asked.check(Light.APPROVED)
    (answered,) = asked.watch.journaled(SaleAnswered)
    assert isinstance(answered.outcome, Approved)
    assert (answered.key, answered.outcome.transaction_id) == (asked.key, str(deduct.id))
    check_next_sale(bar, guest)


def test_a_sale_cancelled_after_the_cloud_died_unasked_never_posts(bar: Bar, guest: Guest) -> None:
    asked = _kill_before_it_takes(bar, guest)
    asked.cancel()
    bar.venue.start_cloud_again()
    asked.check(Light.FAULT)
    assert asked.watch.posted() == []
    bar.come_to_rest()
    check_next_sale(bar, guest)


def test_a_sale_cancelled_after_the_cloud_died_with_its_commit_is_paid_back(
    bar: Bar, guest: Guest
) -> None:
    asked = _kill_after_commit(bar, guest)
    asked.cancel()
    bar.venue.start_cloud_again()
    asked.check(Light.FAULT)
    assert [row.type for row in asked.watch.posted()] == ["Deduct", "Refund"]
    bar.come_to_rest()
    check_next_sale(bar, guest)


def _kill_before_it_takes(bar: Bar, guest: Guest) -> Asked:
    asked = Asked(bar, guest, lambda _: os.kill(bar.venue.cloud.pid, signal.SIGSTOP))
    asked.await_delivery()
    bar.venue.cloud.kill()
    assert asked.watch.posted() == []
    asked.assert_unanswered()
    return asked


def _kill_after_commit(bar: Bar, guest: Guest) -> Asked:
    asked = Asked(bar, guest, lambda _: bar.venue.cloud_network.swallow_requests())
    asked.await_commit()
    bar.venue.cloud.kill()
    asked.assert_unanswered()
    bar.venue.cloud_network.mend()
    return asked
