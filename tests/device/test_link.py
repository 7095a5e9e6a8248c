import json
import queue
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from device.credentials import load
from device.link import (
    BACK_OFF_MAX_S,
    Disconnected,
    Incoming,
    Link,
    PolicyBytes,
    ReplyBytes,
    Subscribed,
    back_off_s,
)
from protocol.ids import DeviceId
from protocol.policy import Policy
from tests.device.fake_cloud import FakeCloud
from tests.device.stage import DEVICE
from venue.network import Network
from venue.servers import Authority, Broker, Credentials


@dataclass
class Line:
    """A link and all it told."""

    link: Link
    told: "queue.SimpleQueue[Incoming]"

    def wait_for(self, kind: type[Incoming], timeout_s: float = 20.0) -> Incoming:
        deadline = time.monotonic() + timeout_s  # noqa: TID251 -- a real broker takes real time
        while True:
            told = self.told.get(timeout=max(0.01, deadline - time.monotonic()))  # noqa: TID251
            if isinstance(told, kind):
                return told


Connect = Callable[[int], Line]


@pytest.fixture
def connect(state: Path) -> Iterator[Connect]:
    """Makes a link to a port on this machine, and starts it."""
    lines: list[Line] = []

    def make(port: int) -> Line:
        credentials = load(state)
        told: queue.SimpleQueue[Incoming] = queue.SimpleQueue()
        link = Link(
            "localhost",
            port,
            credentials.device_id,
            credentials.tls_context(),
            told.put,
            firmware="1.2.3",
            clock=time.monotonic,  # noqa: TID251 -- a link is an edge
            chance=lambda: 0.0,
        )
        lines.append(Line(link, told))
        link.start()
        return lines[-1]

    yield make
    for line in lines:
        line.link.close()


@pytest.fixture
def network(broker: Broker) -> Iterator[Network]:
    network = Network(broker.port)
    yield network
    network.close()


def test_what_is_published_arrives_with_its_expiry(fake_cloud: FakeCloud, connect: Connect) -> None:
    line = connect(fake_cloud.port)
    line.wait_for(Subscribed)
    assert line.link.publish(b"a.signed.request", 4)
    assert line.link.publish(b"a.signed.cancel")
    fake_cloud.wait_for_raw(2)
    first, second = fake_cloud.raw
    assert (first.payload, second.payload) == (b"a.signed.request", b"a.signed.cancel")
    assert first.expiry_s is not None
    assert 0 < first.expiry_s <= 4
    assert second.expiry_s is None
    assert first.content_type == "application/jose"


def test_replies_and_the_retained_policy_arrive_byte_for_byte(
    fake_cloud: FakeCloud, connect: Connect, real_policy: Policy
) -> None:
    fake_cloud.publish_policy(real_policy)
    line = connect(fake_cloud.port)
    line.wait_for(Subscribed)
    policy = line.wait_for(PolicyBytes)
    assert isinstance(policy, PolicyBytes)
    assert policy.payload.count(b".") == 2
    fake_cloud.say(DEVICE, b"any.old.bytes")
    reply = line.wait_for(ReplyBytes)
    assert isinstance(reply, ReplyBytes)
    assert reply.payload == b"any.old.bytes"
    assert reply.arrived_at > 0


def test_what_is_published_while_the_link_is_down_is_not_kept(
    fake_cloud: FakeCloud, connect: Connect, network: Network
) -> None:
    network.cut()
    line = connect(network.port)
    assert not line.link.publish(b"too.early.request")
    network.mend()
    line.wait_for(Subscribed)
    network.cut()
    line.wait_for(Disconnected)
    assert not line.link.publish(b"too.late.request")
    network.mend()
    line.wait_for(Subscribed)
    assert line.link.publish(b"in.time.request")
    fake_cloud.wait_for_raw(1)
    assert [each.payload for each in fake_cloud.raw] == [b"in.time.request"]


def test_a_broker_that_comes_back_is_found_again(broker: Broker, connect: Connect) -> None:
    line = connect(broker.port)
    line.wait_for(Subscribed)
    broker.kill()
    line.wait_for(Disconnected)
    broker.start()
    line.wait_for(Subscribed)
    assert line.link.publish(b"a.signed.request")


def test_a_silent_connection_is_dropped_for_a_new_one(
    fake_cloud: FakeCloud, connect: Connect, network: Network
) -> None:
    line = connect(network.port)
    line.wait_for(Subscribed)
    network.silence()
    line.link.publish(b"into.the.void")
    line.link.drop()
    line.wait_for(Disconnected)
    network.mend()
    line.wait_for(Subscribed)
    assert line.link.publish(b"heard.at.last")
    fake_cloud.wait_for_raw(1)
    assert [each.payload for each in fake_cloud.raw] == [b"heard.at.last"]


def test_dropping_or_closing_a_link_that_is_not_there_is_nothing(
    connect: Connect, network: Network
) -> None:
    network.cut()
    line = connect(network.port)
    line.link.drop()
    line.link.close()
    line.link.close()


def test_small_packets_leave_at_once(broker: Broker, connect: Connect) -> None:
    line = connect(broker.port)
    line.wait_for(Subscribed)
    connection = line.link._connection
    assert connection is not None
    assert connection.socket is not None
    assert connection.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_the_status_says_online_and_after_a_farewell_offline(
    fake_cloud: FakeCloud, connect: Connect
) -> None:
    line = connect(fake_cloud.port)
    said = json.loads(fake_cloud.wait_for_status())
    assert said == {"v": 1, "online": True, "firmware": "1.2.3", "connection": said["connection"]}
    line.wait_for(Subscribed)
    line.link.close()
    assert json.loads(fake_cloud.wait_for_status()) == said | {"online": False}


def test_the_last_will_says_offline_when_nobody_else_can(
    fake_cloud: FakeCloud, connect: Connect, network: Network
) -> None:
    connect(network.port)
    said = json.loads(fake_cloud.wait_for_status())
    assert said["online"] is True
    network.cut()
    # The same connection's: a will that comes late ends none that followed it.
    assert json.loads(fake_cloud.wait_for_status()) == said | {"online": False}


def test_a_broker_of_another_authority_is_not_spoken_to(
    tmp_path_factory: pytest.TempPathFactory, connect: Connect
) -> None:
    other = Authority(tmp_path_factory.mktemp("other"))
    worker = other.certify_workers("1")
    assert worker
    folder = tmp_path_factory.mktemp("other-broker")
    with Broker(folder, other.ca, other.certify_server("broker")) as broker:
        line = connect(broker.port)
        with pytest.raises(queue.Empty):
            line.wait_for(Subscribed, timeout_s=2)
        assert not line.link.publish(b"a.signed.request")


@pytest.mark.parametrize("failures", range(12))
def test_the_wait_doubles_to_at_most_fifteen_seconds_and_is_spread(failures: int) -> None:
    shortest, longest = back_off_s(failures, 0.0), back_off_s(failures, 1.0)
    assert longest == min(BACK_OFF_MAX_S, 0.5 * 2**failures)
    assert shortest == longest / 2


def test_two_appliances_do_not_hear_each_others_replies(
    fake_cloud: FakeCloud,
    connect: Connect,
    certify_device: Callable[[str], Credentials],
) -> None:
    certify_device("till-2")
    line = connect(fake_cloud.port)
    line.wait_for(Subscribed)
    fake_cloud.say(DeviceId("till-2"), b"not.for.you")
    fake_cloud.say(DEVICE, b"for.you.alone")
    reply = line.wait_for(ReplyBytes)
    assert isinstance(reply, ReplyBytes)
    assert reply.payload == b"for.you.alone"
