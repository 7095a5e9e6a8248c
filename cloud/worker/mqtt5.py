"""MQTT 5 as a worker speaks it: bytes in, events out, no socket and no clock.

A client for everything spends on one deduct what two signatures cost to verify, most of it on what
a worker never uses (docs/performance.md). Numbers are sections of the OASIS standard, MQTT 5.0.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from typing import Final

import msgspec

PACKET_BYTES_MAX: Final = 256 * 1024
"""Nothing longer is taken; the broker's own bound is below it."""

FAILURE: Final = 0x80
"""Reason codes from here on are failures (2.4)."""

_PACKET_IDS: Final = 0xFFFF
_EXPIRY: Final = 0x02
_RECEIVE_MAX: Final = 0x21
_MAXIMUM_PACKET_SIZE: Final = 0x27
_SERVER_KEEP_ALIVE: Final = 0x13


class _Form(Enum):
    """How a property's value is written (2.2.2.2)."""

    BYTE = auto()
    TWO_BYTES = auto()
    FOUR_BYTES = auto()
    VARIABLE = auto()
    TEXT = auto()
    PAIR = auto()


_IDENTIFIERS: Final[dict[_Form, tuple[int, ...]]] = {
    _Form.BYTE: (0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A),
    _Form.TWO_BYTES: (_SERVER_KEEP_ALIVE, _RECEIVE_MAX, 0x22, 0x23),
    _Form.FOUR_BYTES: (_EXPIRY, 0x11, 0x18, _MAXIMUM_PACKET_SIZE),
    _Form.VARIABLE: (0x0B,),
    _Form.TEXT: (0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F),
    _Form.PAIR: (0x26,),
}
_FORMS: Final = {each: form for form, listed in _IDENTIFIERS.items() for each in listed}


class Kind(IntEnum):
    """What a broker sends, as the upper half of a packet's first byte (2.1.2)."""

    CONNACK = 0x20
    PUBLISH = 0x30
    PUBACK = 0x40
    SUBACK = 0x90
    UNSUBACK = 0xB0
    PINGRESP = 0xD0
    DISCONNECT = 0xE0


class ProtocolError(Exception):
    """The broker said what it should not have: the connection is of no more use."""


class Packet(msgspec.Struct, frozen=True):
    kind: int
    flags: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker's answer to CONNECT; `reason` says whether it let us in."""

    reason: int
    keep_alive_s: int | None
    """What it wants instead of what was proposed."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The broker's answer to SUBSCRIBE; `topic` is what was asked for."""

    reason: int
    topic: str = ""


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    pass


class Message(msgspec.Struct, frozen=True):
    """Somebody's publish; `Session.acknowledge` it once."""

    topic: str
    payload: bytes
    packet_id: bytes
    """Empty at QoS 0, which awaits no acknowledgement."""
    expiry_s: int | None
    """For how many more seconds it counts."""


class Acknowledged(msgspec.Struct, frozen=True):
    """Our publish reached the broker, or was refused by it: see `reason`."""

    token: object
    reason: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The broker ends the connection, and says why."""

    reason: int


Event = Connected | Subscribed | Unsubscribed | Message | Acknowledged | Closed


class Session:
    """One connection's state: what is unacknowledged, and what waits to be sent."""

    def __init__(self) -> None:
        self._reader = PacketReader()
        self._out: list[bytes] = []
        self._unacknowledged: dict[int, object] = {}
        self._subscribing: dict[int, str] = {}
        self._waiting: deque[tuple[str, bytes, bool, object]] = deque()
        self._next_id = 1
        # Until the broker names its own (3.2.2.3.3).
        self._in_flight_max = _PACKET_IDS

    def connect(self, *, keep_alive_s: int, receive_max: int) -> None:
        """Begin clean, without a client id of our own: the broker takes the certificate's name.

        At most `receive_max` messages are unacknowledged on their way to us (3.1.2.11.3).
        """
        properties = b"".join(
            (
                bytes((_RECEIVE_MAX,)) + receive_max.to_bytes(2, "big"),
                bytes((_MAXIMUM_PACKET_SIZE,)) + PACKET_BYTES_MAX.to_bytes(4, "big"),
            )
        )
        self._out.append(connect_packet("", keep_alive_s=keep_alive_s, properties=properties))

    def subscribe(self, topic: str, *, qos: int = 1) -> None:
        """Once more is no mistake: the broker then says again what it retains there."""
        packet_id = self._new_id()
        self._subscribing[packet_id] = topic
        self._out.append(subscribe_packet(topic, packet_id, qos=qos))

    def unsubscribe(self, topic: str) -> None:
        body = self._new_id().to_bytes(2, "big") + b"\x00" + _text(topic)
        self._out.append(_packet(0xA2, body))

    def publish(self, topic: str, payload: bytes, *, retain: bool, token: object = None) -> None:
        """At QoS 1. `token` comes back in `Acknowledged`; None: nobody asks.

        Waits for room where the broker has as many unacknowledged as it takes.
        """
        if self._waiting or len(self._unacknowledged) >= self._in_flight_max:
            self._waiting.append((topic, payload, retain, token))
        else:
            self._send(topic, payload, retain, token)

    def acknowledge(self, message: Message) -> None:
        if message.packet_id:
            self._out.append(acknowledge_packet(message.packet_id))

    def ping(self) -> None:
        self._out.append(b"\xc0\x00")

    def disconnect(self) -> None:
        self._out.append(b"\xe0\x00")

    @property
    def is_settled(self) -> bool:
        """Whether the broker has acknowledged everything that was published."""
        return not self._unacknowledged and not self._waiting

    def to_send(self) -> bytes:
        """Everything that is to be sent now, once; empty where there is nothing."""
        packets = b"".join(self._out)
        self._out.clear()
        return packets

    def receive(self, arrived: bytes) -> list[Event]:
        """What these bytes complete, in order. Raises ProtocolError."""
        events: list[Event] = []
        for packet in self._reader.packets(arrived):
            event = self._take(packet)
            if event is not None:
                events.append(event)
        return events

    def _take(self, packet: Packet) -> Event | None:
        try:
            match packet.kind:
                case Kind.PUBLISH:
                    return read_message(packet)
                case Kind.PUBACK:
                    return self._acknowledged(packet)
                case Kind.CONNACK:
                    return self._connected(packet)
                case Kind.SUBACK:
                    packet_id = int.from_bytes(packet.body[:2], "big")
                    return Subscribed(reason_of(packet), self._subscribing.pop(packet_id, ""))
                case Kind.UNSUBACK:
                    return Unsubscribed()
                case Kind.PINGRESP:
                    return None
                case Kind.DISCONNECT:
                    return Closed(packet.body[0] if packet.body else 0)
                case _:
                    raise ProtocolError(f"a packet of kind {packet.kind:#x}")
        except (IndexError, UnicodeDecodeError) as error:
            raise ProtocolError(f"a malformed packet of kind {packet.kind:#x}") from error

    def _connected(self, packet: Packet) -> Connected:
        numbers = _read_properties(packet.body, 2)[0]
        self._in_flight_max = numbers.get(_RECEIVE_MAX, _PACKET_IDS)
        return Connected(reason_of(packet), numbers.get(_SERVER_KEEP_ALIVE))

    def _acknowledged(self, packet: Packet) -> Acknowledged:
        packet_id = int.from_bytes(packet.body[:2], "big")
        if packet_id not in self._unacknowledged:
            raise ProtocolError(f"an acknowledgement of nothing: {packet_id}")
        token = self._unacknowledged.pop(packet_id)
        if self._waiting:
            self._send(*self._waiting.popleft())
        return Acknowledged(token, reason_of(packet))

    def _send(self, topic: str, payload: bytes, retain: bool, token: object) -> None:
        packet_id = self._new_id()
        self._unacknowledged[packet_id] = token
        self._out.append(publish_packet(topic, payload, packet_id, retain=retain))

    def _new_id(self) -> int:
        while True:
            packet_id = self._next_id
            self._next_id = packet_id % _PACKET_IDS + 1
            if packet_id not in self._unacknowledged and packet_id not in self._subscribing:
                return packet_id


class PacketReader:
    """Cuts a stream of bytes into packets, wherever it was cut before."""

    def __init__(self) -> None:
        self._kept = b""

    def packets(self, arrived: bytes) -> Iterator[Packet]:
        """Every packet that is now whole. Raises ProtocolError for one that is too long."""
        buffer = self._kept + arrived if self._kept else arrived
        at = 0
        while len(buffer) - at >= 2:
            # The length takes one byte, or with its highest bit set up to three more (1.5.5).
            length, start = buffer[at + 1], at + 2
            if length & 0x80:
                if len(buffer) - at < 5:
                    break
                length, start = _read_variable(buffer, at + 1)
            if length > PACKET_BYTES_MAX:
                raise ProtocolError(f"a packet of {length} bytes")
            end = start + length
            if len(buffer) < end:
                break
            first = buffer[at]
            yield Packet(first & 0xF0, first & 0x0F, buffer[start:end])
            at = end
        self._kept = buffer[at:]


def connect_packet(
    client_id: str,
    *,
    keep_alive_s: int,
    properties: bytes = b"",
    will: tuple[str, bytes] | None = None,
) -> bytes:
    """CONNECT with a clean start; the session ends with the connection (3.1).

    `will`: a topic and what the broker is to publish there, retained, at QoS 1, should we be lost.
    """
    flags, last = (0x02, b"") if will is None else (0x2E, _will(*will))
    head = b"\x00\x04MQTT\x05" + bytes((flags,)) + keep_alive_s.to_bytes(2, "big")
    body = _variable(len(properties)) + properties + _text(client_id) + last
    return _packet(0x10, head + body)


def _will(topic: str, payload: bytes) -> bytes:
    return b"\x00" + _text(topic) + len(payload).to_bytes(2, "big") + payload


def subscribe_packet(topic: str, packet_id: int, *, qos: int = 1) -> bytes:
    """SUBSCRIBE at this QoS (3.8)."""
    options = bytes((qos,))
    return _packet(0x82, packet_id.to_bytes(2, "big") + b"\x00" + _text(topic) + options)


def publish_packet(
    topic: str, payload: bytes, packet_id: int, *, retain: bool = False, expiry_s: int | None = None
) -> bytes:
    """PUBLISH at QoS 1 (3.3)."""
    properties = b"\x00"
    if expiry_s is not None:
        properties = b"\x05\x02" + expiry_s.to_bytes(4, "big")
    head = _text(topic) + packet_id.to_bytes(2, "big") + properties
    return _packet(0x33 if retain else 0x32, head + payload)


def acknowledge_packet(packet_id: bytes) -> bytes:
    """PUBACK, success (3.4)."""
    return b"\x40\x02" + packet_id


def read_message(packet: Packet) -> Message:
    """A PUBLISH at QoS 1, which our subscriptions ask for, or at 0, as its sender chose (3.3.2).

    The broker never raises a QoS: one appliance that publishes at 0 must not end the connection
    that every other one is waiting on.
    """
    body = packet.body
    at = 2 + int.from_bytes(body[:2], "big")
    match packet.flags & 0x06:
        case 0x02:
            packet_id, properties_at = body[at : at + 2], at + 2
        case 0x00:
            packet_id, properties_at = b"", at
        case _:
            raise ProtocolError("a message above QoS 1")
    start = properties_at + 1
    if body[properties_at] == 0:
        expiry_s = None
    else:
        numbers, start = _read_properties(body, properties_at)
        expiry_s = numbers.get(_EXPIRY)
    return Message(body[2:at].decode(), body[start:], packet_id, expiry_s)


def reason_of(packet: Packet) -> int:
    """The reason code of a CONNACK, PUBACK or SUBACK (3.2.2.2, 3.4.2.1, 3.9.3)."""
    match packet.kind:
        case Kind.CONNACK:
            return packet.body[1]
        case Kind.PUBACK:
            return packet.body[2] if len(packet.body) > 2 else 0
        case Kind.SUBACK:
            return packet.body[-1]
        case _:
            raise ProtocolError(f"a packet without a reason: {packet.kind:#x}")


def _read_properties(body: bytes, at: int) -> tuple[dict[int, int], int]:
    """The properties that are numbers, and where what follows them begins (2.2.2)."""
    length, at = _read_variable(body, at)
    end = at + length
    if end > len(body):
        raise ProtocolError("properties longer than their packet")
    numbers: dict[int, int] = {}
    while at < end:
        identifier = body[at]
        at += 1
        match _FORMS.get(identifier):
            case _Form.BYTE:
                numbers[identifier] = body[at]
                at += 1
            case _Form.TWO_BYTES:
                numbers[identifier] = int.from_bytes(body[at : at + 2], "big")
                at += 2
            case _Form.FOUR_BYTES:
                numbers[identifier] = int.from_bytes(body[at : at + 4], "big")
                at += 4
            case _Form.VARIABLE:
                numbers[identifier], at = _read_variable(body, at)
            case _Form.TEXT:
                at += 2 + int.from_bytes(body[at : at + 2], "big")
            case _Form.PAIR:
                at += 2 + int.from_bytes(body[at : at + 2], "big")
                at += 2 + int.from_bytes(body[at : at + 2], "big")
            case None:
                raise ProtocolError(f"an unknown property {identifier:#x}")
    if at != end:
        raise ProtocolError("properties that do not fill their length")
    return numbers, end


def _packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + _variable(len(body)) + body


def _text(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(2, "big") + raw


def _variable(number: int) -> bytes:
    """A variable byte integer (1.5.5)."""
    digits = bytearray()
    while True:
        number, digit = divmod(number, 128)
        digits.append(digit | (0x80 if number else 0))
        if not number:
            return bytes(digits)


def _read_variable(buffer: bytes, at: int) -> tuple[int, int]:
    """A variable byte integer, and where it ends. Raises ProtocolError past its four bytes."""
    value = 0
    for shift in (0, 7, 14, 21):
        digit = buffer[at]
        at += 1
        value |= (digit & 0x7F) << shift
        if not digit & 0x80:
            return value, at
    raise ProtocolError("a length of more than four bytes")
