"""A bare round trip through the same broker: a request's bytes there, a reply's bytes back."""

import time
from typing import Final

from bench.wire import Wire
from cloud.worker import mqtt5
from cloud.worker.mqtt5 import Kind
from protocol import topics
from protocol.ids import DeviceId
from venue.servers import Authority, Broker, ops

WORKER: Final = "echo"
_REQUEST: Final = b"q" * 1300
"""As long as a signed deduct, and below a signed approval."""
_REPLY: Final = b"r" * 750


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
        self._spoken: Final = mqtt5.publish_packet(
            topics.status(device_id), _REQUEST, 1, expiry_s=4
        )
        self._answered: Final = mqtt5.publish_packet(
            topics.replies(device_id), _REPLY, 1, expiry_s=4
        )
        self._till: Final = Wire(till, broker.host, broker.port, topics.replies(device_id))
        self._worker: Final = Wire(worker, broker.host, broker.port, topics.status(device_id))

    def close(self) -> None:
        for wire in (self._till, self._worker):
            wire.close()

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


def _take(wire: Wire) -> bytes:
    """Wait for the other's message; returns its acknowledgement."""
    message = mqtt5.read_message(wire.expect(Kind.PUBLISH))
    return mqtt5.acknowledge_packet(message.packet_id)
