"""Some of a fleet in one process: appliances with certificates of their own that connect, beat,
take policies and come back, as device/link.py and device/till/outbox.py do.

Started by bench/fleet.py: its orders come on stdin, a JSON document in answer to each on stdout.
"""

import base64
import json
import secrets
import select
import sys
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from bench.percentiles import percentiles
from bench.wire import Wire
from cloud.worker import mqtt5
from cloud.worker.mqtt5 import Kind, ProtocolError
from device.link import KEEPALIVE_S, back_off_s
from device.till.outbox import FIRST_HEARTBEAT_S, HEARTBEAT_S
from protocol import topics
from protocol.ids import DeviceId
from protocol.messages import (
    Heartbeat,
    HeartbeatAnswered,
    JournalPosition,
    Reply,
    decode_reply,
    encode,
)
from protocol.signing import Profile, fingerprint, sign, thumbprint
from venue.servers import Credentials

CONNECTING_AT_ONCE: Final = 24
_IDS: Final = 60_000
_CHANCE: Final = secrets.SystemRandom()


class _Appliance:
    """One appliance: its key, its policy, its connection, when it beats next."""

    def __init__(self, credentials: Credentials) -> None:
        key = load_pem_private_key(credentials.key.read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey), "appliances have P-256 keys"
        certificate = x509.load_pem_x509_certificate(credentials.certificate.read_bytes())
        self.credentials = credentials
        self.device_id = DeviceId(credentials.folder.name)
        self.key = key
        self.thumbprint = thumbprint(certificate.public_bytes(Encoding.DER))
        self.epoch = secrets.token_urlsafe(16)
        self.policy = 1
        self.acknowledged = 0
        self.wire: Wire | None = None
        self.beat_at = 0.0
        self.asked: dict[str, float] = {}
        self.failures = 0
        self.packet_id = 0

    def connect(self, port: int) -> Wire:
        wire = Wire(
            self.credentials,
            "localhost",
            port,
            topics.replies(self.device_id),
            also=topics.policy(self.device_id),
            keep_alive_s=3 * KEEPALIVE_S,
            will=(topics.status(self.device_id), self._status(online=False)),
        )
        wire.socket.setblocking(False)
        return wire

    def say_online(self) -> bytes:
        topic = topics.status(self.device_id)
        return mqtt5.publish_packet(topic, self._status(online=True), self._id(), retain=True)

    def beat(self) -> bytes:
        request = Heartbeat(
            device_id=self.device_id,
            key=secrets.token_urlsafe(16),
            journal=JournalPosition(self.epoch, 1, 1, "A" * 43),
            sent_at_ms=time.time_ns() // 1_000_000,
            policy_version=self.policy,
            firmware="1.5.0",
            queue=0,
            printer="ok",
            temperature_c=40 + _CHANCE.randrange(20),
            clock="cloud",
            last_sale_ms=time.time_ns() // 1_000_000 - 60_000,
            queue_in_cents=0,
            uptime_s=3600,
        )
        jws = sign(Profile.REQUEST, encode(request), self.key, self.thumbprint).encode()
        self.asked = {fingerprint(jws): time.perf_counter()}
        return mqtt5.publish_packet(
            topics.requests(self.device_id), jws, self._id(), expiry_s=int(HEARTBEAT_S)
        )

    def _id(self) -> int:
        self.packet_id = self.packet_id % _IDS + 1
        return self.packet_id

    def _status(self, *, online: bool) -> bytes:
        said = {"v": 1, "online": online, "firmware": "1.5.0", "connection": self.epoch}
        return msgspec.json.encode(said)


class _Crowd:
    def __init__(self, folders: list[Path], port: int) -> None:
        self.appliances = [_Appliance(Credentials(folder)) for folder in folders]
        self._port = port
        self._pool = ThreadPoolExecutor(CONNECTING_AT_ONCE)
        self._connecting: dict[Future[Wire], _Appliance] = {}
        self._due: list[tuple[float, _Appliance]] = [(0.0, each) for each in self.appliances]
        self._poll = select.epoll()
        self._by_number: dict[int, _Appliance] = {}
        self._beats = self._answers = self._refused = self._lost = 0
        self._round_trips_ms: list[float] = []

    def turn(self, wait_s: float) -> None:
        """Whatever is due now, then whatever arrives within `wait_s`."""
        now = time.perf_counter()
        waiting, self._due = self._due, []
        for at, appliance in waiting:
            if at <= now:
                self._connecting[self._pool.submit(appliance.connect, self._port)] = appliance
            else:
                self._due.append((at, appliance))
        for future in [each for each in self._connecting if each.done()]:
            self._arrive(future, self._connecting.pop(future))
        for appliance in self.appliances:
            if appliance.wire is not None and appliance.beat_at <= now:
                self._send(appliance, appliance.beat())
                self._beats += 1
                appliance.beat_at = now + FIRST_HEARTBEAT_S
        for number, _ in self._poll.poll(wait_s, 256):
            appliance = self._by_number.get(number)
            if appliance is not None:
                self._listen(appliance)

    def report(self) -> dict[str, Any]:
        policies = Counter(each.policy for each in self.appliances)
        acknowledged = Counter(each.acknowledged for each in self.appliances)
        few = len(self._round_trips_ms) < 2
        told = {
            "connected": sum(each.wire is not None for each in self.appliances),
            "lost": self._lost,
            "refused": self._refused,
            "beats": self._beats,
            "answers": self._answers,
            "policies": {str(version): count for version, count in policies.items()},
            "acknowledged": {str(version): count for version, count in acknowledged.items()},
            "round_trip_ms": {} if few else percentiles(self._round_trips_ms),
        }
        self._round_trips_ms = []
        return told

    def close(self) -> None:
        for appliance in self.appliances:
            if appliance.wire is not None:
                appliance.wire.close()
        self._pool.shutdown(cancel_futures=True)

    def _arrive(self, future: Future[Wire], appliance: _Appliance) -> None:
        try:
            wire = future.result()
        except (OSError, ProtocolError):
            self._refused += 1
            self._come_back(appliance)
            return
        appliance.wire = wire
        appliance.failures = 0
        number = wire.socket.fileno()
        self._by_number[number] = appliance
        self._poll.register(number, select.EPOLLIN)
        # As the till does: it beats as soon as it is there, and says first that it is.
        appliance.beat_at = time.perf_counter()
        self._send(appliance, appliance.say_online())
        self._listen(appliance)

    def _come_back(self, appliance: _Appliance) -> None:
        appliance.failures += 1
        wait_s = back_off_s(appliance.failures, _CHANCE.random())  # a jitter
        self._due.append((time.perf_counter() + wait_s, appliance))

    def _lose(self, appliance: _Appliance) -> None:
        wire = appliance.wire
        assert wire is not None, "it was connected"
        number = wire.socket.fileno()
        self._by_number.pop(number, None)
        self._poll.unregister(number)
        wire.socket.close()
        appliance.wire = None
        self._lost += 1
        # The link's first wait after a connection that was up (device/link.py).
        self._due.append((time.perf_counter() + back_off_s(0, _CHANCE.random()), appliance))

    def _send(self, appliance: _Appliance, packets: bytes) -> None:
        if appliance.wire is None:
            return
        try:
            appliance.wire.send(packets)
        except (OSError, ProtocolError):
            self._lose(appliance)

    def _listen(self, appliance: _Appliance) -> None:
        wire = appliance.wire
        if wire is None:
            return
        try:
            packets = wire.packets()
        except (OSError, ProtocolError):
            self._lose(appliance)
            return
        out = b""
        for packet in packets:
            if packet.kind != Kind.PUBLISH:
                continue
            message = mqtt5.read_message(packet)
            if message.packet_id:
                out += mqtt5.acknowledge_packet(message.packet_id)
            if message.topic.endswith("/policy"):
                self._take_policy(appliance, message.payload)
            else:
                self._take_reply(appliance, message.payload)
        if out:
            self._send(appliance, out)

    def _take_policy(self, appliance: _Appliance, jws: bytes) -> None:
        version = int(_said(jws)["version"])
        if version > appliance.policy:
            appliance.policy = version
            appliance.beat_at = 0.0

    def _take_reply(self, appliance: _Appliance, jws: bytes) -> None:
        payload = base64.urlsafe_b64decode(jws.split(b".")[1] + b"==")
        reply = decode_reply(payload)
        if not isinstance(reply, Reply) or not isinstance(reply.outcome, HeartbeatAnswered):
            return
        asked_at = appliance.asked.pop(reply.request_hash, None)
        if asked_at is None:
            return
        now = time.perf_counter()
        self._answers += 1
        self._round_trips_ms.append((now - asked_at) * 1000)
        appliance.acknowledged = max(appliance.acknowledged, appliance.policy)
        if appliance.beat_at > 0.0:
            appliance.beat_at = now + HEARTBEAT_S


def _said(jws: bytes) -> Any:
    return json.loads(base64.urlsafe_b64decode(jws.split(b".")[1] + b"=="))


def run(folders: list[Path], port: int) -> None:
    crowd = _Crowd(folders, port)
    orders = select.poll()
    orders.register(sys.stdin, select.POLLIN | select.POLLHUP)
    while True:
        crowd.turn(0.02)
        if not orders.poll(0):
            continue
        order = sys.stdin.readline().strip()
        if order != "report":
            crowd.close()
            return
        print(json.dumps(crowd.report()), flush=True)  # to whoever started it


if __name__ == "__main__":
    run(
        [Path(line) for line in Path(sys.argv[2]).read_text("utf-8").splitlines()], int(sys.argv[1])
    )
