"""As much of MQTT 5 as an appliance speaks, encoded beforehand so that a load costs little.

Numbers in docstrings are sections of the OASIS standard, MQTT version 5.0.
"""

import ssl
from collections.abc import Iterator
from enum import IntEnum
from typing import Final

import msgspec

_READ_BYTES: Final = 64 * 1024


class Kind(IntEnum):
    """Packet types that a broker sends to an appliance, as first bytes (2.1)."""

    CONNACK = 0x20
    PUBLISH = 0x30
    PUBACK = 0x40
    SUBACK = 0x90
    PINGRESP = 0xD0
    DISCONNECT = 0xE0


class Packet(msgspec.Struct, frozen=True, gc=False):
    kind: int
    flags: int
    body: bytes


class ProtocolError(Exception):
    """The broker said what it should not have."""


def connect(client_id: str, *, keep_alive_s: int = 60) -> bytes:
    """CONNECT with a clean start; the session ends with the connection (3.1)."""
    head = b"\x00\x04MQTT\x05\x02" + keep_alive_s.to_bytes(2, "big") + b"\x00"
    return _packet(0x10, head + _text(client_id))


def subscribe(topic: str, packet_id: int) -> bytes:
    """SUBSCRIBE at QoS 1 (3.8)."""
    return _packet(0x82, packet_id.to_bytes(2, "big") + b"\x00" + _text(topic) + b"\x01")


def publish(topic: str, payload: bytes, packet_id: int, *, expiry_s: int) -> bytes:
    """PUBLISH at QoS 1 with a message expiry (3.3)."""
    properties = b"\x05\x02" + expiry_s.to_bytes(4, "big")
    return _packet(0x32, _text(topic) + packet_id.to_bytes(2, "big") + properties + payload)


def acknowledge(packet_id: bytes) -> bytes:
    """PUBACK, success (3.4)."""
    return b"\x40\x02" + packet_id


def disconnect() -> bytes:
    return b"\xe0\x00"


def ping() -> bytes:
    return b"\xc0\x00"


def read_publish(body: bytes) -> tuple[bytes, bytes]:
    """The packet id and the payload of a PUBLISH at QoS 1 (3.3.2)."""
    at = 2 + int.from_bytes(body[:2], "big")
    packet_id = body[at : at + 2]
    length, start = _variable(body, at + 2)
    return packet_id, body[start + length :]


def reason_of(packet: Packet) -> int:
    """The reason code of a CONNACK, PUBACK or SUBACK; below 0x80 is good (2.4)."""
    match packet.kind:
        case Kind.CONNACK:
            return packet.body[1]
        case Kind.PUBACK:
            return packet.body[2] if len(packet.body) > 2 else 0
        case Kind.SUBACK:
            return packet.body[-1]
        case _:
            raise ProtocolError(f"a packet without a reason: {packet.kind:#x}")


class Wire:
    """A TLS socket that does not block, read packet by packet."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self.socket: Final = sock
        self._kept = b""

    def send(self, packets: bytes) -> None:
        """Send at once: a few kilobytes that the kernel's buffer always has room for."""
        sent = self.socket.send(packets)
        if sent != len(packets):
            raise ProtocolError("the broker does not read")

    def packets(self) -> Iterator[Packet]:
        """Every whole packet that has arrived; call when the socket is readable."""
        try:
            arrived = self.socket.recv(_READ_BYTES)
            while self.socket.pending():
                arrived += self.socket.recv(_READ_BYTES)
        except ssl.SSLWantReadError:
            return
        if not arrived:
            raise ProtocolError("the broker hung up")
        buffer = self._kept + arrived if self._kept else arrived
        at = 0
        while len(buffer) - at >= 2:
            # A packet here is short: its length takes one or two bytes, rarely more (1.5.5).
            length, start = buffer[at + 1], at + 2
            if length & 0x80:
                if len(buffer) - at < 5:
                    break
                length, start = _variable(buffer, at + 1)
            if len(buffer) < start + length:
                break
            first = buffer[at]
            yield Packet(first & 0xF0, first & 0x0F, buffer[start : start + length])
            at = start + length
        self._kept = buffer[at:]


def _packet(first: int, body: bytes) -> bytes:
    length = len(body)
    head = bytearray([first])
    while True:
        length, digit = divmod(length, 128)
        head.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(head) + body


def _text(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(2, "big") + raw


def _variable(buffer: bytes, at: int) -> tuple[int, int]:
    """A variable byte integer and where it ends (1.5.5)."""
    value = shift = 0
    while True:
        digit = buffer[at]
        at += 1
        value |= (digit & 0x7F) << shift
        shift += 7
        if not digit & 0x80:
            return value, at
