"""A crowd of appliances in one loop: every request was signed beforehand, every reply is kept for
later, so that the generator takes little of the machine it measures."""

import selectors
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from bench.fair import Appliance, SignedSale
from bench.wire import Wire
from cloud.worker import mqtt5
from cloud.worker.mqtt5 import FAILURE, Kind, ProtocolError
from protocol import topics

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
        replies = topics.replies(appliance.device_id)
        self.wire: Final = Wire(appliance.credentials, "localhost", port, replies)
        self.device_id: Final = appliance.device_id
        self.waiting: list[bytes] = []
        self.replies: list[Answered] = []
        self.sent_s: list[float] = []
        self.in_flight = 0
        self.refused = 0
        self.wire.socket.setblocking(False)

    def load(self, sales: Sequence[SignedSale]) -> None:
        topic = topics.requests(self.device_id)
        self.waiting = [
            mqtt5.publish_packet(topic, sale.jws, 1 + number % _PACKET_IDS, expiry_s=_EXPIRY_S)
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
                    message = mqtt5.read_message(packet)
                    self.replies.append(Answered(message.payload, time.perf_counter()))
                    self.in_flight -= 1
                    acknowledgements += mqtt5.acknowledge_packet(message.packet_id)
                case Kind.PUBACK:
                    self.refused += mqtt5.reason_of(packet) >= FAILURE
                case _:
                    raise ProtocolError(f"{self.device_id}: unexpected packet {packet.kind:#x}")
        return acknowledgements


class Crowd:
    """Appliances that are connected and wait for work."""

    def __init__(self, appliances: Sequence[Appliance], port: int) -> None:
        self._tills = [_Till(appliance, port) for appliance in appliances]
        self._selector = selectors.EpollSelector()
        for till in self._tills:
            self._selector.register(till.wire.socket, selectors.EVENT_READ, till)

    def close(self) -> None:
        for till in self._tills:
            till.wire.close()
        self._selector.close()

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
