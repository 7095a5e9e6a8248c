"""Another machine on the guest's network: sends Ethernet frames of its own making, sees answers.

A port forwarded by QEMU's user-mode network would seem open whatever the guest does. This one
stands beside the guest on the same wire, as a stranger at the venue does.
"""

import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from image.emulation.console import connect

GUEST: Final = "10.0.2.15"
"""What QEMU's DHCP server gives its first guest."""
GUEST_MAC: Final = bytes.fromhex("525400123456")
OURS: Final = "10.0.2.77"
OUR_MAC: Final = bytes.fromhex("525400aabbcc")
BATCH: Final = 128
PATIENCE_S: Final = 3.0
"""After the last question."""

_IPV4, _ARP, _TCP, _UDP, _ICMP = 0x0800, 0x0806, 6, 17, 1
_SYN, _RST, _ACK = 0x02, 0x04, 0x10


@dataclass
class Answers:
    """What came back: ports that are open, ports that said no, and whether it is there at all."""

    open_tcp: set[int] = field(default_factory=set[int])
    refused_tcp: set[int] = field(default_factory=set[int])
    answered_udp: set[int] = field(default_factory=set[int])
    unreachable: int = 0
    echoed: bool = False
    asked_who_we_are: bool = False


class Neighbour:
    """One end of the wire; `with` closes it."""

    def __init__(self, towards: Path, back: Path) -> None:
        """`towards` takes frames for the guest, `back` gives those that it sent."""
        self._towards = connect(towards)
        self._back = connect(back)
        self._rest = b""
        self.answers = Answers()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._towards.close()
        self._back.close()

    def ping(self, timeout_s: float) -> bool:
        """Whether it is there, which it may say."""
        deadline = _clock() + timeout_s
        while not self.answers.echoed and _clock() < deadline:
            echo = struct.pack("!BBHHH", 8, 0, 0, 7, 1) + b"are you there?"
            echo = echo[:2] + struct.pack("!H", _checksum(echo)) + echo[4:]
            self._send_ip(_ICMP, echo)
            self._listen(0.5)
        return self.answers.echoed

    def knock(self, tcp: Iterable[int], udp: Iterable[int]) -> Answers:
        """Try these ports, and wait for what is answered."""
        ports = [(_TCP, port) for port in tcp] + [(_UDP, port) for port in udp]
        for start in range(0, len(ports), BATCH):
            for protocol, port in ports[start : start + BATCH]:
                self._send_ip(protocol, _syn(port) if protocol == _TCP else _datagram(port))
            self._listen(0.02)
        self._listen(PATIENCE_S)
        return self.answers

    def _send_ip(self, protocol: int, content: bytes) -> None:
        source, target = socket.inet_aton(OURS), socket.inet_aton(GUEST)
        head = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 20 + len(content), 1, 0, 64, protocol, 0, source, target
        )
        head = head[:10] + struct.pack("!H", _checksum(head)) + head[12:]
        self._send(GUEST_MAC, _IPV4, head + content)

    def _send(self, target: bytes, kind: int, content: bytes) -> None:
        frame = (target + OUR_MAC + struct.pack("!H", kind) + content).ljust(60, b"\0")
        self._towards.sendall(struct.pack("!I", len(frame)) + frame)

    def _listen(self, seconds: float) -> None:
        """QEMU puts each frame's length before it."""
        deadline = _clock() + seconds
        while (left := deadline - _clock()) > 0:
            self._back.settimeout(left)
            try:
                some = self._back.recv(1 << 16)
            except TimeoutError:
                return
            self._rest += some
            while len(self._rest) >= 4 + (size := int.from_bytes(self._rest[:4], "big")):
                self._take(self._rest[4 : 4 + size])
                self._rest = self._rest[4 + size :]

    def _take(self, frame: bytes) -> None:
        kind, content = struct.unpack("!H", frame[12:14])[0], frame[14:]
        if kind == _ARP and content[6:8] == b"\x00\x01" and content[24:28] == _ours():
            self.answers.asked_who_we_are = True
            answer = content[:6] + b"\x00\x02" + OUR_MAC + _ours() + content[8:18]
            self._send(GUEST_MAC, _ARP, answer)
        elif kind == _IPV4 and content[16:20] == _ours():
            self._take_ip(content[9], content[(content[0] & 0xF) * 4 :])

    def _take_ip(self, protocol: int, content: bytes) -> None:
        if protocol == _TCP:
            port, flags = struct.unpack("!H", content[:2])[0], content[13]
            if flags & _SYN and flags & _ACK:
                self.answers.open_tcp.add(port)
            elif flags & _RST:
                self.answers.refused_tcp.add(port)
        elif protocol == _UDP:
            self.answers.answered_udp.add(struct.unpack("!H", content[:2])[0])
        elif protocol == _ICMP and content[0] == 0:
            self.answers.echoed = True
        elif protocol == _ICMP and content[0] == 3:
            self.answers.unreachable += 1


def _syn(port: int) -> bytes:
    ours = 40_000 + port % 20_000
    bare = struct.pack("!HHIIBBHHH", ours, port, 1, 0, 5 << 4, _SYN, 1024, 0, 0)
    return bare[:16] + struct.pack("!H", _checksum(_pseudo(_TCP, bare) + bare)) + bare[18:]


def _datagram(port: int) -> bytes:
    content = b"hello"
    # No checksum: IPv4 lets UDP go without.
    return struct.pack("!HHHH", 40_000 + port % 20_000, port, 8 + len(content), 0) + content


def _pseudo(protocol: int, content: bytes) -> bytes:
    return _ours() + socket.inet_aton(GUEST) + struct.pack("!BBH", 0, protocol, len(content))


def _checksum(content: bytes) -> int:
    """RFC 1071."""
    padded = content + b"\0" * (len(content) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _ours() -> bytes:
    return socket.inet_aton(OURS)


def _clock() -> float:
    return time.monotonic()  # noqa: TID251 -- an answer has its time
