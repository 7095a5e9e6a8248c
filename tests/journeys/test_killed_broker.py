"""mosquitto killed between the publish and the reply, and started again at its port."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.journeys.bar import Bar, Guest, resume
from tests.journeys.killed import Asked, killable_bar
from tests.journeys.power import check_next_sale
from venue.lights import Light

pytestmark = [pytest.mark.xdist_group("killed-broker"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def _bar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bar]:
    with killable_bar(tmp_path_factory.mktemp("broker")) as bar:
        yield bar


@pytest.fixture
def bar(_bar: Bar) -> Bar:
    if not _bar.venue.broker.running:
        _bar.venue.broker.start()
    _bar.venue.cloud_network.mend()
    _bar.come_to_rest()
    return _bar


@pytest.fixture
def guest(bar: Bar) -> Guest:
    return bar.guest()


def test_a_broker_killed_before_the_cloud_reads_the_request_leaves_light_and_ledger_agreed(
    bar: Bar, guest: Guest
) -> None:
    cloud = bar.venue.cloud
    try:
        asked = Asked(bar, guest, lambda _: os.kill(cloud.pid, signal.SIGSTOP))
        asked.await_delivery()
        bar.venue.broker.kill()
    finally:
        resume(cloud)
    bar.venue.broker.start()
    asked.check(Light.APPROVED, Light.FAULT)
    check_next_sale(bar, guest)


def test_a_broker_killed_after_the_commit_loses_the_reply_and_the_same_answer_comes_again(
    bar: Bar, guest: Guest
) -> None:
    asked = Asked(bar, guest, lambda _: bar.venue.cloud_network.swallow_requests())
    asked.await_commit()
    bar.venue.broker.kill()
    bar.venue.cloud_network.mend()
    bar.venue.broker.start()
    asked.check(Light.APPROVED, Light.FAULT)
    check_next_sale(bar, guest)


def test_a_sale_cancelled_while_the_broker_is_dead_is_paid_back(bar: Bar, guest: Guest) -> None:
    asked = Asked(bar, guest, lambda _: bar.venue.cloud_network.swallow_requests())
    asked.await_commit()
    bar.venue.broker.kill()
    bar.venue.cloud_network.mend()
    asked.cancel()
    bar.venue.broker.start()
    asked.check(Light.FAULT)
    assert len(asked.watch.posted()) == 2
    bar.come_to_rest()
    check_next_sale(bar, guest)
