"""An MQTT 5 client that does one thing at a time, so that what it was delivered is never in doubt.

What the broker sent before an answer is read before it: each round trip is a fence.
"""

import socket
import ssl
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

CONNACK, PUBLISH, PUBACK, SUBACK, UNSUBACK, PINGRESP, DISCONNECT = 2, 3, 4, 9, 11, 13, 14
PATIENCE_S = 60


class HungUpError(Exception):
    """The broker ended the connection, and said why or did not."""


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("!H", len(raw)) + raw


def packet(kind: int, flags: int, body: bytes) -> bytes:
    length, encoded = len(body), b""
    while True:
        length, digit = divmod(length, 128)
        encoded += bytes([digit | (0x80 if length else 0)])
        if not length:
            return bytes([kind << 4 | flags]) + encoded + body


def connect(will: tuple[str, bytes] | None = None) -> bytes:
    """Clean start, keep-alive 60 s, whatever client id; the will is QoS 1."""
    last = b"" if will is None else b"\x00" + text(will[0]) + text(will[1])
    flags = 0x02 if will is None else 0x02 | 0x04 | 0x08
    return packet(1, 0, text("MQTT") + bytes([5, flags, 0, 60, 0]) + text("any") + last)


def publish(topic: str, payload: bytes, number: int, *, retain: bool = False) -> bytes:
    body = text(topic) + struct.pack("!H", number) + b"\x00" + payload
    return packet(PUBLISH, 0x02 | retain, body)


def showing(folder: Path | None, trusted: Path) -> ssl.SSLContext:
    """TLS with the certificate in `folder`, or with none."""
    context = ssl.create_default_context(cafile=trusted)
    if folder is not None:
        context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context


@dataclass
class Probe:
    """One connection to the broker."""

    port: int
    context: ssl.SSLContext
    will: tuple[str, bytes] | None = None
    delivered: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])
    _number: int = 0
    _read: bytes = b""

    def __post_init__(self) -> None:
        self.come_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _fault: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.vanish()

    def come_back(self) -> None:
        """Connect, again if need be. Raises HungUpError."""
        self._read = b""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._wire = self.context.wrap_socket(plain, server_hostname="localhost")
        except OSError as fault:
            raise HungUpError(str(fault)) from fault
        try:
            answer = self._ask(connect(self.will), CONNACK)
            if answer[1] != 0:
                raise HungUpError(f"CONNACK {answer[1]:#x}")
        except BaseException:
            self.vanish()
            raise

    def subscribe(self, filter_: str) -> None:
        self._ask(packet(8, 2, self._next() + b"\x00" + text(filter_) + b"\x01"), SUBACK)

    def unsubscribe(self, filter_: str) -> None:
        self._ask(packet(10, 2, self._next() + b"\x00" + text(filter_)), UNSUBACK)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """The broker's reason code; 0 where it says none."""
        self._next()
        sent = publish(topic, payload, self._number, retain=retain)
        return (self._ask(sent, PUBACK) + b"\x00")[2]

    def caught_up(self) -> list[tuple[str, bytes]]:
        """All that was delivered up to now, once."""
        self._ask(packet(12, 0, b""), PINGRESP)
        delivered, self.delivered = self.delivered, []
        return delivered

    def vanish(self) -> None:
        """Be gone without a word, as in a power cut."""
        with suppress(OSError):
            self._wire.close()

    def _next(self) -> bytes:
        self._number += 1
        return struct.pack("!H", self._number)

    def _ask(self, sent: bytes, kind: int) -> bytes:
        """Send, and read until the answer: what was delivered before it is kept."""
        try:
            self._wire.sendall(sent)
            while True:
                head, body = self._packet()
                if head >> 4 == kind:
                    return body
                if head >> 4 == PUBLISH:
                    self._keep(head, body)
                elif head >> 4 == DISCONNECT:
                    raise HungUpError(f"DISCONNECT {body[:1].hex()}")
        except OSError as fault:
            raise HungUpError(str(fault)) from fault

    def _keep(self, head: int, body: bytes) -> None:
        end = 2 + int.from_bytes(body[:2])
        topic, rest = body[2:end].decode(), body[end:]
        if head & 0x06:
            self._wire.sendall(packet(PUBACK, 0, rest[:2]))
            rest = rest[2:]
        assert rest[0] < 0x80, "properties of this size are not ours"
        self.delivered.append((topic, rest[1 + rest[0] :]))

    def _packet(self) -> tuple[int, bytes]:
        head = self._bytes(1)[0]
        length, shift = 0, 0
        while True:
            digit = self._bytes(1)[0]
            length |= (digit & 0x7F) << shift
            shift += 7
            if digit < 0x80:
                return head, self._bytes(length)

    def _bytes(self, count: int) -> bytes:
        while len(self._read) < count:
            more = self._wire.recv(65536)
            if not more:
                raise HungUpError("closed without a word")
            self._read += more
        taken, self._read = self._read[:count], self._read[count:]
        return taken
