"""An appliance's TLS socket, which speaks the worker's MQTT (cloud/worker/mqtt5.py) from the other
side; its packets are encoded beforehand, so that a load costs little."""

import socket
import ssl
from typing import Final

from cloud.worker import mqtt5
from cloud.worker.mqtt5 import FAILURE, Kind, Packet, PacketReader, ProtocolError, reason_of
from venue.servers import Credentials

CONNECT_TIMEOUT_S: Final = 20.0
_READ_BYTES: Final = 64 * 1024
_SUBSCRIBING: Final = 65_000
"""A packet id that no publish of a round has."""


class Wire:
    """Connected and subscribed; waits for what it reads until `wait` is turned off."""

    def __init__(
        self,
        credentials: Credentials,
        host: str,
        port: int,
        topic: str,
        *,
        also: str = "",
        keep_alive_s: int = 0,
        will: tuple[str, bytes] | None = None,
    ) -> None:
        context = ssl.create_default_context(cafile=str(credentials.ca))
        context.load_cert_chain(credentials.certificate, credentials.key)
        plain = socket.create_connection((host, port), CONNECT_TIMEOUT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket: Final = context.wrap_socket(plain, server_hostname=host)
        self._reader: Final = PacketReader()
        self._early: list[Packet] = []
        """What the broker retained, and sent before it confirmed the subscription."""
        # Rounds lie between two words: nobody pings meanwhile.
        name = credentials.folder.name
        self.send(mqtt5.connect_packet(name, keep_alive_s=keep_alive_s, will=will))
        self.expect(Kind.CONNACK)
        for each in (topic, also):
            if each:
                self.send(mqtt5.subscribe_packet(each, _SUBSCRIBING))
                self.expect(Kind.SUBACK)

    def close(self) -> None:
        self.send(b"\xe0\x00")
        self.socket.close()

    def send(self, packets: bytes) -> None:
        """Send at once: a few kilobytes that the kernel's buffer always has room for."""
        if self.socket.send(packets) != len(packets):
            raise ProtocolError("the broker does not read")

    def packets(self) -> list[Packet]:
        """Every whole packet that has arrived; call when the socket is readable."""
        if self._early:
            early, self._early = self._early, []
            return early
        try:
            arrived = self.socket.recv(_READ_BYTES)
            while self.socket.pending():
                arrived += self.socket.recv(_READ_BYTES)
        except ssl.SSLWantReadError:
            return []
        if not arrived:
            raise ProtocolError("the broker hung up")
        return list(self._reader.packets(arrived))

    def expect(self, kind: Kind) -> Packet:
        """Wait for a packet of this kind, past acknowledgements of what was published.

        What is published to us meanwhile stays for `packets`.
        """
        early: list[Packet] = []
        while True:
            found: Packet | None = None
            for packet in self.packets():
                if packet.kind == kind and found is None:
                    found = packet
                elif packet.kind == Kind.PUBLISH:
                    early.append(packet)
                elif packet.kind != Kind.PUBACK:
                    raise ProtocolError(f"unexpected packet {packet.kind:#x}")
                if packet.kind != Kind.PUBLISH and reason_of(packet) >= FAILURE:
                    raise ProtocolError(f"the broker refused it: {packet}")
            if found is not None:
                self._early = early
                return found
