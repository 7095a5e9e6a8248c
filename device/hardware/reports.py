"""What the appliance and its reading process say to each other: bounded, one packet a message."""

import socket
from typing import Annotated, Final

import msgspec

TEXT_MAX: Final = 7089
"""Characters: digits in the largest QR code there is (ISO/IEC 18004, version 40-L)."""

FAULT_MAX: Final = 300

PACKET_MAX: Final = 32 * 1024
"""Bytes: that many characters of UTF-8, and some."""


class Look(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="look"):
    """To the process: look, or rest. Each is numbered, so that late reports can be told apart."""

    number: int
    is_looking: bool


class Ready(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="ready"):
    """The decoders are loaded and the camera is open."""


class Looked(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="looked"
):
    """One frame, and what it said (monotonic seconds, a clock that all processes share)."""

    number: int
    captured_at: float
    decoded_at: float
    text: Annotated[str, msgspec.Meta(max_length=TEXT_MAX)] | None
    sharpness: Annotated[float, msgspec.Meta(ge=0, le=255)] | None = None
    """Of now and then a frame; see device.hardware.sharpness."""


class Faulted(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="faulted"
):
    """A frame or the camera was lost to an exception; says which kind, and nothing of a picture."""

    has_frame: bool
    what: Annotated[str, msgspec.Meta(max_length=FAULT_MAX)]


Report = Ready | Looked | Faulted

_decode_report: Final = msgspec.msgpack.Decoder(Report).decode
_decode_look: Final = msgspec.msgpack.Decoder(Look).decode


class NonsenseError(Exception):
    """What came is no report, or one that cannot be true."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of one line: packets, so that a message arrives whole or not at all."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(line: socket.socket, message: Look | Report) -> None:
    """Raises BlockingIOError where the line may not wait and the other side does not read."""
    line.send(msgspec.msgpack.encode(message))


def receive_report(line: socket.socket) -> Report | None:
    """The next report, or None when the process is gone. Raises NonsenseError."""
    try:
        packet = line.recv(PACKET_MAX + 1)
    except ConnectionError:
        return None
    if not packet:
        return None
    if len(packet) > PACKET_MAX:
        raise NonsenseError("a packet that is too long")
    try:
        return _decode_report(packet)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise NonsenseError("a packet that is no report") from error


def receive_look(line: socket.socket) -> Look | None:
    """The next order, or None when the appliance is gone."""
    packet = line.recv(PACKET_MAX)
    return _decode_look(packet) if packet else None
