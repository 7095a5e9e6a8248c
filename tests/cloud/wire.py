"""A till on the real wire: paho over mutual TLS, requests signed with the certificate's own key."""

import queue
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from protocol import topics
from protocol.ids import DeviceId
from protocol.messages import Outcome, Reply, Request, decode_reply, kind_of
from protocol.signing import (
    PrivateKey,
    Profile,
    PublicKey,
    Verified,
    fingerprint,
    thumbprint,
    verify,
)
from tests.cloud.floor import Floor, Till
from venue.servers import Broker, Credentials

WAIT_S = 20.0


@dataclass(frozen=True)
class Line:
    """Where the broker is and who one is to it; what `cloud.worker` takes as its address."""

    host: str
    port: int
    certificate: Path
    key: Path
    authorities: Path

    @classmethod
    def of(cls, broker: Broker, credentials: Credentials) -> Self:
        return cls(
            broker.host, broker.port, credentials.certificate, credentials.key, credentials.ca
        )


def private_key(credentials: Credentials) -> PrivateKey:
    key = load_pem_private_key(credentials.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def thumbprint_of(credentials: Credentials) -> str:
    certificate = x509.load_pem_x509_certificate(credentials.certificate.read_bytes())
    return thumbprint(certificate.public_bytes(Encoding.DER))


class WireTill:
    """Publishes a till's requests and takes the replies meant for it; a context."""

    def __init__(self, till: Till, line: Line, reply_key: PublicKey, reply_kid: str) -> None:
        self.till = till
        self._line = line
        self._keys = {reply_kid: reply_key}
        self._replies: queue.Queue[Reply] = queue.Queue()
        self.policies: queue.Queue[bytes] = queue.Queue()
        self._subscribed = threading.Event()
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id="", protocol=MQTTProtocolVersion.MQTTv5
        )
        context = ssl.create_default_context(cafile=str(line.authorities))
        context.load_cert_chain(str(line.certificate), str(line.key))
        self._client.tls_set_context(context)
        self._client.on_socket_open = _send_at_once
        self._client.on_connect = self._connected
        self._client.on_subscribe = self._subscribe_answered
        self._client.on_message = self._message

    @classmethod
    def at(cls, floor: Floor, broker: Broker, credentials: Credentials, **place: Any) -> "WireTill":
        """An appliance of the floor that has this certificate."""
        till = floor.add_till(
            credentials.folder.name,
            private=private_key(credentials),
            thumbprint=thumbprint_of(credentials),
            **place,
        )
        reply = floor.keys.reply
        return cls(till, Line.of(broker, credentials), reply.private.public_key(), reply.kid)

    def __enter__(self) -> Self:
        self._client.connect(self._line.host, self._line.port, 30)
        self._client.loop_start()
        assert self._subscribed.wait(WAIT_S), "not subscribed"
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def ask(self, request: Request) -> Any:
        """Publish the request once and wait for the signed answer to it."""
        return self.send(self.till.sign(request), request)

    def send(self, token: bytes, request: Request) -> Outcome:
        self.publish(token)
        return self.expect(token, request)

    def publish(self, token: bytes, device_id: DeviceId | None = None) -> None:
        topic = topics.requests(device_id or self.till.device_id)
        self._client.publish(topic, token, qos=1)

    def expect(self, token: bytes, request: Request) -> Outcome:
        """The answer to this very request, skipping those to others."""
        while True:
            reply = self._replies.get(timeout=WAIT_S)
            if reply.request_hash == fingerprint(token):
                assert (reply.key, reply.answers) == (request.key, kind_of(request))
                return reply.outcome

    def hears_nothing(self, for_s: float) -> bool:
        """Whether no reply comes for so long."""
        try:
            self._replies.get(timeout=for_s)
        except queue.Empty:
            return True
        return False

    def _connected(self, client: Client, *_: object) -> None:
        device_id = self.till.device_id
        client.subscribe([(topics.replies(device_id), 1), (topics.policy(device_id), 1)])

    def _subscribe_answered(self, *_: object) -> None:
        self._subscribed.set()

    def _message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        if message.topic == topics.policy(self.till.device_id):
            self.policies.put(bytes(message.payload))
            return
        opened = verify(Profile.REPLY, bytes(message.payload), self._keys.get)
        assert isinstance(opened, Verified), opened
        reply = decode_reply(opened.payload)
        assert isinstance(reply, Reply), reply
        self._replies.put(reply)


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until it holds; fail where it does not within 20 s."""
    for _ in range(int(WAIT_S / 0.05)):
        if holds():
            return
        sleep(0.05)
    raise AssertionError("it never held")


def _send_at_once(_client: Client, _userdata: Any, opened: Any) -> None:
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
