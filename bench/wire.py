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

    def __init__(self, credentials: Credentials, host: str, port: int, topic: str) -> None:
        context = ssl.create_default_context(cafile=str(credentials.ca))
        context.load_cert_chain(credentials.certificate, credentials.key)
        plain = socket.create_connection((host, port), CONNECT_TIMEOUT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket: Final = context.wrap_socket(plain, server_hostname=host)
        self._reader: Final = PacketReader()
        # Rounds lie between two words: nobody pings meanwhile.
        self.send(mqtt5.connect_packet(credentials.folder.name, keep_alive_s=0))
        self.expect(Kind.CONNACK)
        self.send(mqtt5.subscribe_packet(topic, _SUBSCRIBING))
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
        """Wait for a packet of this kind, past acknowledgements of what was published."""
        while True:
            for packet in self.packets():
                if packet.kind not in {kind, Kind.PUBACK}:
                    raise ProtocolError(f"unexpected packet {packet.kind:#x}")
                if packet.kind != Kind.PUBLISH and reason_of(packet) >= FAILURE:
                    raise ProtocolError(f"the broker refused it: {packet}")
                if packet.kind == kind:
                    return packet
