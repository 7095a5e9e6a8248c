"""A bare round trip through the same broker: a request's bytes there, a reply's bytes back."""

import socket
import ssl
import time
from typing import Final

from bench import mqtt5
from bench.mqtt5 import Kind, Packet, ProtocolError, Wire
from protocol import topics
from protocol.ids import DeviceId
from venue.servers import Authority, Broker, Credentials, ops

WORKER: Final = "echo"
_REQUEST: Final = b"q" * 1300
"""As long as a signed deduct, and below a signed approval."""
_REPLY: Final = b"r" * 750
_TIMEOUT_S: Final = 10.0


class Echo:
    """A till and its counterpart, both here, both over mutual TLS, without anything to do.

    The till speaks on its status topic: what it says on its requests' topic the cloud would answer.
    """

    def __init__(self, authority: Authority, broker: Broker, real_workers: list[str]) -> None:
        """Join the running broker, whose access list is told of one more worker."""
        [worker] = authority.certify_workers(WORKER)
        [till] = authority.certify_devices("echo-till")
        _admit(authority, broker, [*real_workers, worker.folder.name])
        device_id = DeviceId(till.folder.name)
        self._spoken: Final = mqtt5.publish(topics.status(device_id), _REQUEST, 1, expiry_s=4)
        self._answered: Final = mqtt5.publish(topics.replies(device_id), _REPLY, 1, expiry_s=4)
        self._till: Final = _join(till, broker, topics.replies(device_id))
        self._worker: Final = _join(worker, broker, topics.status(device_id))

    def close(self) -> None:
        for wire in (self._till, self._worker):
            wire.send(mqtt5.disconnect())
            wire.socket.close()

    def round_trip_ms(self) -> float:
        began_s = time.perf_counter()
        self._till.send(self._spoken)
        self._worker.send(_take(self._worker) + self._answered)
        acknowledgement = _take(self._till)
        took_ms = (time.perf_counter() - began_s) * 1000
        self._till.send(acknowledgement)
        return took_ms


def _admit(authority: Authority, broker: Broker, workers: list[str]) -> None:
    server = broker.folder.parent / "authority" / "issued" / "broker"
    named = [part for worker in workers for part in ("--worker", worker)]
    ops(
        *("broker", "config", "--ca", authority.ca, "--server", server),
        *("--folder", broker.folder, "--bind", "127.0.0.1", "--port", str(broker.port), *named),
    )
    # The access list is read again together with the revocation list.
    broker.take_crl()


def _join(credentials: Credentials, broker: Broker, topic: str) -> Wire:
    context = ssl.create_default_context(cafile=str(credentials.ca))
    context.load_cert_chain(credentials.certificate, credentials.key)
    plain = socket.create_connection((broker.host, broker.port), _TIMEOUT_S)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wire = Wire(context.wrap_socket(plain, server_hostname=broker.host))
    # Sales lie between two round trips, and may take their time.
    wire.send(mqtt5.connect(credentials.folder.name, keep_alive_s=0))
    _await(wire, Kind.CONNACK)
    wire.send(mqtt5.subscribe(topic, 2))
    _await(wire, Kind.SUBACK)
    return wire


def _take(wire: Wire) -> bytes:
    """Wait for the other's message; returns its acknowledgement."""
    return mqtt5.acknowledge(mqtt5.read_publish(_await(wire, Kind.PUBLISH).body)[0])


def _await(wire: Wire, kind: Kind) -> Packet:
    while True:
        for packet in wire.packets():
            if packet.kind == kind:
                return packet
            if packet.kind != Kind.PUBACK or mqtt5.reason_of(packet) >= 0x80:
                raise ProtocolError(f"unexpected packet {packet.kind:#x}")
