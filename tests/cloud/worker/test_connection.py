import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloud.worker.connection import BrokerConnection
from cloud.worker.mqtt5 import Message
from protocol import topics
from protocol.ids import DeviceId
from tests.cloud.floor import Floor
from tests.cloud.wire import WAIT_S, Line, WireTill, eventually
from venue.servers import Broker, Credentials

BATCH = 8


@pytest.fixture
def floor(tmp_path: Path) -> Floor:
    return Floor(f"sqlite:///{tmp_path / 'cloud.sqlite'}", tmp_path / "keys", starts_at=None)


class Taking:
    """Takes requests, and keeps what it was handed each time."""

    def __init__(self) -> None:
        self.batches: list[Sequence[Message]] = []
        self.may_go_on = threading.Event()
        self.subscriptions = 0

    def take(self, messages: Sequence[Message]) -> None:
        self.batches.append(messages)
        assert self.may_go_on.wait(WAIT_S)

    def subscribed(self) -> None:
        self.subscriptions += 1

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for batch in self.batches for message in batch]


@contextmanager
def connected(
    broker: Broker, credentials: Credentials, taking: Taking
) -> Generator[BrokerConnection]:
    line = Line.of(broker, credentials)
    connection = BrokerConnection(line, "group", taking.take, taking.subscribed, BATCH)
    connection.start()
    try:
        assert connection.wait_until_subscribed(WAIT_S)
        yield connection
    finally:
        taking.may_go_on.set()
        connection.close()


def test_a_batch_is_never_larger_than_agreed_and_nothing_is_lost_meanwhile(
    broker: Broker, floor: Floor, stall: WireTill, worker_credentials: list[Credentials]
) -> None:
    taking = Taking()
    sent = [b"request %d" % number for number in range(60)]
    with connected(broker, worker_credentials[0], taking):
        for payload in sent:
            stall.publish(payload)
        eventually(lambda: len(taking.batches) == 1)
        taking.may_go_on.set()
        eventually(lambda: len(taking.payloads) == len(sent))
    assert taking.payloads == sent
    assert max(map(len, taking.batches)) <= BATCH


def test_more_replies_than_the_broker_takes_at_once_all_arrive(
    broker: Broker, floor: Floor, stall: WireTill, worker_credentials: list[Credentials]
) -> None:
    topic = topics.policy(stall.till.device_id)
    # The broker takes 512 at once (provisioning/broker/configuration.py).
    sent = [f"policy {number}" for number in range(1500)]
    with connected(broker, worker_credentials[0], Taking()) as connection:
        for payload in sent:
            connection.publish(topic, payload)
        heard = [stall.policies.get(timeout=WAIT_S).decode() for _ in sent]
    assert heard == sent


def test_what_waits_for_the_broker_hears_that_it_is_gone(
    broker: Broker, worker_credentials: list[Credentials]
) -> None:
    taking = Taking()
    topic = topics.policy(DeviceId("till-1"))
    # A worker may not write there: the broker says so, and keeps nothing.
    elsewhere = topics.requests(DeviceId("till-1"))
    with connected(broker, worker_credentials[0], taking) as connection:
        assert connection.publish_and_wait(topic, "policy", WAIT_S)
        assert not connection.publish_and_wait(elsewhere, "request", WAIT_S)
        broker.stop()
        eventually(lambda: not connection.is_subscribed)
        assert not connection.publish_and_wait(topic, "policy", 0.2)
        broker.start()
        assert connection.wait_until_subscribed(WAIT_S)
        assert taking.subscriptions == 2
        assert connection.publish_and_wait(topic, "policy", WAIT_S)
    assert not connection.is_subscribed


def test_a_connection_that_never_found_its_broker_can_be_closed(
    broker: Broker, worker_credentials: list[Credentials]
) -> None:
    line = Line.of(broker, worker_credentials[0])
    broker.stop()
    taking = Taking()
    connection = BrokerConnection(line, "group", taking.take, taking.subscribed, BATCH)
    connection.start()
    connection.stop_taking()
    connection.close()
    assert taking.subscriptions == 0
