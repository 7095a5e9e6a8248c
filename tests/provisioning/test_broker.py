import queue
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from protocol import topics
from protocol.ids import DeviceId
from provisioning.authority.certificates import Constraints, Device, Worker
from provisioning.authority.credentials import Credentials as Kept
from provisioning.authority.folder import Authority as Signing
from provisioning.authority.folder import Issued, found
from provisioning.authority.passphrase import Passphrase, find_passphrase
from provisioning.broker.configuration import render_access
from venue.servers import Authority, Broker, Credentials

A, B = DeviceId("bar-a"), DeviceId("bar-b")
NOT_AUTHORIZED = 0x87
NOW = datetime.now(UTC)  # noqa: TID251 - mosquitto judges by the real clock

Certify = Callable[[str], Credentials]


class Peer:
    """A paho client that remembers what it was delivered and what it was told."""

    def __init__(
        self,
        broker: Broker,
        credentials: Credentials | Kept,
        client_id: str = "",
        keepalive: int = 60,
        will: str | None = None,
    ) -> None:
        self.delivered: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.disconnected = threading.Event()
        self.granted: queue.Queue[None] = queue.Queue()
        self.answers: queue.Queue[int] = queue.Queue()
        self.connack: queue.Queue[Properties | None] = queue.Queue()
        self.client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTv5)
        self.client.tls_set(str(credentials.ca), str(credentials.certificate), str(credentials.key))
        if will is not None:
            self.client.will_set(will, b"gone", qos=1, retain=True)
        self.client.on_connect = self._connected
        self.client.on_disconnect = self._disconnected
        self.client.on_subscribe = self._subscribed
        self.client.on_publish = self._published
        self.client.on_message = self._delivered
        self.client.connect(broker.host, broker.port, keepalive, clean_start=True)
        self.client.loop_start()
        told = self.connack.get(timeout=10)
        self.limits: dict[str, int] = told.json() if told is not None else {}

    def _connected(
        self, _client: Client, _data: object, _flags: object, _code: object, told: Properties | None
    ) -> None:
        self.connack.put(told)

    def _disconnected(
        self, _client: Client, _data: object, _flags: object, _code: object, _told: object
    ) -> None:
        self.disconnected.set()

    def _subscribed(
        self, _client: Client, _data: object, _id: int, _codes: object, _told: object
    ) -> None:
        self.granted.put(None)

    def _published(
        self, _client: Client, _data: object, _id: int, code: ReasonCode, _told: object
    ) -> None:
        self.answers.put(code.value)

    def _delivered(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self.delivered.put((message.topic, bytes(message.payload)))

    def subscribe(self, topic: str) -> None:
        self.client.subscribe(topic, qos=1)
        self.granted.get(timeout=10)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """The broker's answer, as MQTT 5 reason code."""
        self.client.publish(topic, payload, qos=1, retain=retain)
        return self.answers.get(timeout=10)

    def next(self) -> tuple[str, bytes]:
        return self.delivered.get(timeout=10)

    def vanish(self) -> None:
        """Be gone without a word, as in a power cut."""
        self.client.loop_stop()
        wire = self.client.socket()
        assert wire is not None
        wire.close()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


Connect = Callable[..., Peer]


@pytest.fixture
def connect(broker: Broker) -> Iterator[Connect]:
    peers: list[Peer] = []

    def connect_peer(
        credentials: Credentials | Kept,
        client_id: str = "",
        keepalive: int = 60,
        will: str | None = None,
    ) -> Peer:
        peers.append(Peer(broker, credentials, client_id, keepalive, will))
        return peers[-1]

    yield connect_peer
    for peer in peers:
        peer.close()


@pytest.fixture
def a(connect: Connect, certify_device: Certify) -> Peer:
    return connect(certify_device(A))


@pytest.fixture
def b(connect: Connect, certify_device: Certify) -> Peer:
    return connect(certify_device(B))


@pytest.fixture
def worker(connect: Connect, worker_credentials: list[Credentials]) -> Peer:
    return connect(worker_credentials[0])


def is_let_in(broker: Broker, context: ssl.SSLContext | None) -> bool:
    """Whether the broker answers an MQTT 5 CONNECT with success."""
    hello = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00"
    with socket.create_connection((broker.host, broker.port), timeout=10) as plain:
        try:
            wire = context.wrap_socket(plain, server_hostname=broker.host) if context else plain
            with wire:
                wire.sendall(hello)
                answer = wire.recv(4)
        except (ssl.SSLError, ConnectionResetError, BrokenPipeError):
            return False
    return len(answer) == 4 and answer[0] == 0x20 and answer[3] == 0


def showing(credentials: Credentials | Kept | None, trusted: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=trusted)
    if credentials is not None:
        context.load_cert_chain(credentials.certificate, credentials.key)
    return context


def certified(authority: Signing, kept: Kept, holder: Device | Worker, now: datetime) -> Kept:
    key = kept.own_key()
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    issued = authority.issue(holder, key.public_key(), now)
    assert isinstance(issued, Issued)
    kept.keep(issued)
    return kept


GROUP = "known-to-workers-alone"


@pytest.fixture
def signing(authority: Authority) -> Signing:
    """The session's authority, in this process."""
    passphrase = find_passphrase(authority.ca, None, {})
    assert isinstance(passphrase, Passphrase)
    signing = Signing.open(authority.ca, passphrase)
    assert isinstance(signing, Signing)
    return signing


def test_a_request_reaches_one_worker_and_its_reply_the_appliance(a: Peer, worker: Peer) -> None:
    worker.subscribe(topics.shared_requests(GROUP))
    a.subscribe(topics.replies(A))
    assert a.publish(topics.requests(A), b"deduct") == 0
    assert worker.next() == (topics.requests(A), b"deduct")
    assert worker.publish(topics.replies(A), b"approved") == 0
    assert a.next() == (topics.replies(A), b"approved")


@pytest.mark.parametrize(
    "filter_", [topics.replies(A), topics.policy(A), f"{topics.ROOT}/+/replies", "#", "$SYS/#"]
)
def test_an_appliance_is_delivered_nothing_of_anothers(
    a: Peer, b: Peer, worker: Peer, filter_: str
) -> None:
    worker.publish(topics.policy(A), b"retained for a", retain=True)
    b.subscribe(filter_)
    b.subscribe(topics.replies(B))
    worker.publish(topics.replies(A), b"for a")
    worker.publish(topics.policy(A), b"policy for a")
    a.publish(topics.requests(A), b"of a")
    a.publish(topics.status(A), b"of a")
    worker.publish(topics.replies(B), b"for b")
    assert b.next() == (topics.replies(B), b"for b")


def test_an_appliance_in_the_workers_share_is_delivered_nothing(
    a: Peer, b: Peer, worker: Peer
) -> None:
    b.subscribe(topics.shared_requests(GROUP))
    b.subscribe(topics.replies(B))
    for number in range(4):
        a.publish(topics.requests(A), b"%d" % number)
    worker.publish(topics.replies(B), b"for b")
    assert b.next() == (topics.replies(B), b"for b")


def test_an_appliance_that_cannot_name_the_workers_group_takes_no_request_from_it(
    a: Peer, b: Peer, worker: Peer
) -> None:
    worker.subscribe(topics.shared_requests(GROUP))
    b.subscribe(topics.shared_requests("cloud"))
    b.subscribe(topics.shared_requests("guessed"))
    sent = [b"%d" % number for number in range(10)]
    for request in sent:
        assert a.publish(topics.requests(A), request) == 0
    assert [worker.next()[1] for _ in sent] == sent


def test_an_appliance_cannot_speak_on_anothers_topics_nor_for_the_cloud(
    a: Peer, b: Peer, worker: Peer
) -> None:
    worker.subscribe(topics.shared_requests(GROUP))
    worker.subscribe(topics.ALL_STATUS)
    a.subscribe(topics.replies(A))
    a.subscribe(topics.policy(A))
    b.subscribe(topics.replies(B))
    for forbidden in (
        topics.requests(A),
        topics.status(A),
        topics.replies(A),
        topics.policy(A),
        topics.replies(B),
        topics.policy(B),
        "railtix/v1/other",
        "$SYS/broker/uptime",
    ):
        assert b.publish(forbidden, b"forged") == NOT_AUTHORIZED, forbidden
    assert b.publish(topics.requests(B), b"own") == 0
    assert worker.next() == (topics.requests(B), b"own")
    worker.publish(topics.replies(A), b"for a")
    worker.publish(topics.replies(B), b"for b")
    assert a.next() == (topics.replies(A), b"for a")
    assert b.next() == (topics.replies(B), b"for b")


def test_a_worker_cannot_speak_for_an_appliance(worker: Peer, a: Peer) -> None:
    assert worker.publish(topics.requests(A), b"forged") == NOT_AUTHORIZED
    assert worker.publish(topics.status(A), b"forged") == NOT_AUTHORIZED


def test_a_worker_that_the_access_list_does_not_name_has_no_rights(
    connect: Connect, signing: Signing, a: Peer, worker: Peer, tmp_path: Path
) -> None:
    stranger = connect(certified(signing, Kept(tmp_path / "w"), Worker("unlisted"), NOW))
    stranger.subscribe(f"{topics.ROOT}/+/requests")
    stranger.subscribe(topics.ALL_STATUS)
    assert stranger.publish(topics.replies(A), b"forged") == NOT_AUTHORIZED
    worker.subscribe(f"{topics.ROOT}/+/requests")
    a.publish(topics.requests(A), b"deduct")
    assert worker.next() == (topics.requests(A), b"deduct")
    # What a worker may read was delivered to the listed one; the stranger's queue is still empty
    # after one more round trip of its own.
    stranger.subscribe(topics.ALL_STATUS)
    assert stranger.delivered.empty()


def test_a_policy_waits_for_its_appliance_and_the_last_will_tells_the_worker(
    connect: Connect, certify_device: Certify, worker: Peer
) -> None:
    worker.publish(topics.policy(A), b"policy 7", retain=True)
    worker.subscribe(topics.ALL_STATUS)
    appliance = connect(certify_device(A), will=topics.status(A))
    appliance.subscribe(topics.policy(A))
    assert appliance.next() == (topics.policy(A), b"policy 7")
    appliance.vanish()
    assert worker.next() == (topics.status(A), b"gone")


def test_another_appliances_client_id_takes_nothing_over(
    a: Peer, connect: Connect, certify_device: Certify, worker: Peer
) -> None:
    a.subscribe(topics.replies(A))
    impostor = connect(certify_device(B), client_id=A)
    impostor.subscribe(topics.replies(A))
    impostor.subscribe(topics.replies(B))
    worker.publish(topics.replies(A), b"for a")
    worker.publish(topics.replies(B), b"for b")
    assert a.next() == (topics.replies(A), b"for a")
    assert impostor.next() == (topics.replies(B), b"for b")
    assert not a.disconnected.is_set()


def test_certificates_of_ours_come_in(
    broker: Broker, certify_device: Certify, worker_credentials: list[Credentials]
) -> None:
    for own in (certify_device(A), worker_credentials[0]):
        assert is_let_in(broker, showing(own, own.ca))


def test_no_certificate_a_foreign_one_or_an_expired_one_stays_out(
    broker: Broker, authority: Authority, signing: Signing, tmp_path: Path
) -> None:
    trusted = signing.root_path
    foreign = found(tmp_path / "ca", Passphrase("another authority"), Constraints(), NOW)
    assert isinstance(foreign, Signing)
    outsider = certified(foreign, Kept(tmp_path / "outsider"), Device(A), NOW)
    expired = certified(
        signing, Kept(tmp_path / "expired"), Device(A), NOW - timedelta(days=90, seconds=1)
    )
    early = certified(signing, Kept(tmp_path / "early"), Device(A), NOW + timedelta(days=1))
    server = authority.certify_server("not-a-client")
    assert not is_let_in(broker, showing(None, trusted))
    assert not is_let_in(broker, showing(outsider, trusted))
    assert not is_let_in(broker, showing(expired, trusted))
    assert not is_let_in(broker, showing(early, trusted))
    assert not is_let_in(broker, showing(server, trusted))
    assert not is_let_in(broker, None)


def test_a_revoked_appliance_stays_out_once_the_broker_took_the_list(
    broker: Broker, authority: Authority, certify_device: Certify
) -> None:
    lost, kept = certify_device("bar-lost"), certify_device(A)
    assert is_let_in(broker, showing(lost, lost.ca))
    authority.revoke("bar-lost")
    assert is_let_in(broker, showing(lost, lost.ca))
    broker.take_crl()
    for _ in range(500):
        if not is_let_in(broker, showing(lost, lost.ca)):
            break
        time.sleep(0.02)
    assert not is_let_in(broker, showing(lost, lost.ca))
    assert is_let_in(broker, showing(kept, kept.ca))


def test_tls_before_1_2_is_not_spoken(broker: Broker, certify_device: Certify) -> None:
    own = certify_device(A)
    for version, accepted in (
        (ssl.TLSVersion.TLSv1_3, True),
        (ssl.TLSVersion.TLSv1_2, True),
    ):
        context = showing(own, own.ca)
        context.minimum_version = context.maximum_version = version
        assert is_let_in(broker, context) is accepted
    said = subprocess.run(
        [
            *("openssl", "s_client", "-connect", f"{broker.host}:{broker.port}", "-tls1_1"),
            *("-cipher", "DEFAULT:@SECLEVEL=0", "-CAfile", own.ca),
        ],
        input=b"",
        capture_output=True,
        check=False,
    )
    assert re.search(rb"protocol version|no protocols available", said.stderr)


def test_the_broker_tells_its_limits_and_keeps_them(
    connect: Connect, certify_device: Certify
) -> None:
    peer = connect(certify_device(A), keepalive=3600)
    assert peer.limits["MaximumPacketSize"] == 64 * 1024
    assert peer.limits["ServerKeepAlive"] == 120
    peer.client.publish(topics.requests(A), bytes(64 * 1024), qos=1)
    assert peer.disconnected.wait(10)


def test_the_tls_listener_is_the_only_one_and_nothing_is_stored(broker: Broker) -> None:
    listening = [
        (one.laddr.ip, one.laddr.port)
        for one in psutil.Process(broker.pid).net_connections()
        if one.status == psutil.CONN_LISTEN
    ]
    assert listening == [("127.0.0.1", broker.port)]
    broker.stop()
    assert "mosquitto.db" not in {path.name for path in broker.folder.iterdir()}


def test_the_access_list_names_each_worker_and_only_workers() -> None:
    listed = render_access(["cloud-worker-1", "cloud-worker-2"])
    assert re.findall(r"^user (.*)$", listed, re.MULTILINE) == ["cloud-worker-1", "cloud-worker-2"]
    assert listed.count("topic ") == 8
    with pytest.raises(AssertionError, match="not a worker"):
        render_access(["bar-1"])
