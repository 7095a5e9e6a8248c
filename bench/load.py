"""A crowd of appliances in one loop: every request was signed beforehand, every reply is kept for
later, so that the generator takes little of the machine it measures."""

import selectors
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from bench import mqtt5
from bench.fair import Appliance, SignedSale
from bench.mqtt5 import Kind, Packet, ProtocolError, Wire
from protocol import topics

CONNECT_TIMEOUT_S: Final = 20.0
REPLY_TIMEOUT_S: Final = 15.0
"""A request without a reply by then has failed: nothing is sent twice here."""
_EXPIRY_S: Final = 4
"""As the appliance sends it: what the broker could not deliver by then decides for nobody."""
_PACKET_IDS: Final = 60_000


class Answered(msgspec.Struct, frozen=True, gc=False):
    reply: bytes
    arrived_s: float
    """By `time.perf_counter`."""


class Round(msgspec.Struct, frozen=True):
    """What came back, unread so far."""

    began_s: float
    ended_s: float
    sent_s: list[list[float]]
    """Of each appliance's sales, in their order: when it was published."""
    replies: list[list[Answered]]
    """Of each appliance, in the order in which they arrived."""
    refused_publishes: int
    """What the broker itself said no to."""


class _Till:
    """One appliance's connection and its stack of encoded publishes."""

    def __init__(self, appliance: Appliance, port: int) -> None:
        context = ssl.create_default_context(cafile=str(appliance.credentials.ca))
        context.load_cert_chain(appliance.credentials.certificate, appliance.credentials.key)
        plain = socket.create_connection(("localhost", port), CONNECT_TIMEOUT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.wire: Final = Wire(context.wrap_socket(plain, server_hostname="localhost"))
        self.device_id: Final = appliance.device_id
        self.waiting: list[bytes] = []
        self.replies: list[Answered] = []
        self.sent_s: list[float] = []
        self.in_flight = 0
        self.refused = 0
        self._greet()
        self.wire.socket.setblocking(False)

    def load(self, sales: Sequence[SignedSale]) -> None:
        topic = topics.requests(self.device_id)
        self.waiting = [
            mqtt5.publish(topic, sale.jws, 1 + number % _PACKET_IDS, expiry_s=_EXPIRY_S)
            for number, sale in enumerate(sales)
        ]
        self.waiting.reverse()
        self.replies = []
        self.sent_s = []
        self.in_flight = 0
        self.refused = 0

    def send(self, most: int, acknowledgements: bytes = b"") -> None:
        """Publish until `most` requests are in flight; acknowledge replies in the same record."""
        packets = acknowledgements
        while self.waiting and self.in_flight < most:
            packets += self.waiting.pop()
            self.in_flight += 1
            self.sent_s.append(time.perf_counter())
        if packets:
            self.wire.send(packets)

    def read(self) -> bytes:
        """Keep the replies that have arrived; returns their acknowledgements."""
        acknowledgements = b""
        for packet in self.wire.packets():
            match packet.kind:
                case Kind.PUBLISH:
                    packet_id, payload = mqtt5.read_publish(packet.body)
                    self.replies.append(Answered(payload, time.perf_counter()))
                    self.in_flight -= 1
                    acknowledgements += mqtt5.acknowledge(packet_id)
                case Kind.PUBACK:
                    self.refused += mqtt5.reason_of(packet) >= 0x80
                case Kind.PINGRESP:
                    pass
                case _:
                    raise ProtocolError(f"{self.device_id}: unexpected packet {packet.kind:#x}")
        return acknowledgements

    def _greet(self) -> None:
        for request, expected in (
            (mqtt5.connect(self.device_id), Kind.CONNACK),
            (mqtt5.subscribe(topics.replies(self.device_id), 65_000), Kind.SUBACK),
        ):
            self.wire.send(request)
            packet = self._next()
            if packet.kind != expected or mqtt5.reason_of(packet) >= 0x80:
                raise ProtocolError(f"{self.device_id}: the broker refused it: {packet}")

    def _next(self) -> Packet:
        while True:
            for packet in self.wire.packets():
                return packet


class Crowd:
    """Appliances that are connected and wait for work."""

    def __init__(self, appliances: Sequence[Appliance], port: int) -> None:
        self._tills = [_Till(appliance, port) for appliance in appliances]
        self._selector = selectors.EpollSelector()
        for till in self._tills:
            self._selector.register(till.wire.socket, selectors.EVENT_READ, till)

    def close(self) -> None:
        for till in self._tills:
            till.wire.send(mqtt5.disconnect())
            till.wire.socket.close()
        self._selector.close()

    def keep_alive(self) -> None:
        """Say that we are still here, where nothing was sent for a while."""
        for till in self._tills:
            till.wire.send(mqtt5.ping())

    def play(self, sales: Sequence[Sequence[SignedSale]], in_flight: int) -> Round:
        """Each appliance sends its sales, `in_flight` at once, until all are answered."""
        for till, own in zip(self._tills, sales, strict=True):
            till.load(own)
        began_s = last_news_s = time.perf_counter()
        missing = sum(map(len, sales))
        for till in self._tills:
            till.send(in_flight)
        while missing > 0 and time.perf_counter() - last_news_s < REPLY_TIMEOUT_S:
            for key, _ in self._selector.select(1.0):
                till: _Till = key.data
                before = len(till.replies)
                acknowledgements = till.read()
                if acknowledgements:
                    missing -= len(till.replies) - before
                    till.send(in_flight, acknowledgements)
                    last_news_s = till.replies[-1].arrived_s
        return Round(
            began_s=began_s,
            ended_s=last_news_s,
            sent_s=[till.sent_s for till in self._tills],
            replies=[till.replies for till in self._tills],
            refused_publishes=sum(till.refused for till in self._tills),
        )
