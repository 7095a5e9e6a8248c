"""A cloud that signs what the test says, behind the real broker."""

import queue
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from protocol import topics
from protocol.ids import DeviceId
from protocol.messages import (
    Approved,
    Cancel,
    Cancelled,
    Deduct,
    Heartbeat,
    HeartbeatAnswered,
    MessageRefusal,
    Outcome,
    Reply,
    Request,
    SignedIn,
    SignedOut,
    SignIn,
    SignOut,
    decode_request,
    encode,
    kind_of,
)
from protocol.money import Money
from protocol.policy import Policy, sign_policy
from protocol.signing import (
    Profile,
    SignatureRefusal,
    fingerprint,
    sign,
    thumbprint,
    verify,
)
from tests.device.stage import OTHER_KEY, REPLY_KEY
from venue.servers import Broker, Credentials

POLICY_KEY = ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Raw:
    """A payload that reached the requests topic, whatever it is."""

    payload: bytes
    expiry_s: int | None
    content_type: str | None


Decide = Callable[[Request], Outcome | None]


@dataclass(frozen=True)
class Received:
    """A request whose signature is the appliance's, and the bytes it came in."""

    request: Request
    payload: bytes
    expiry_s: int | None


def a_wall_session(request: Request, expires_in_s: int = 3600) -> SignedIn:
    return SignedIn(
        session_id="session-0123456789",
        staff_id="ada",
        initials="AL",
        event_id="summer",
        stall_id="bar",
        expires_at_ms=request.sent_at_ms + expires_in_s * 1000,
    )


def kindly(request: Request) -> Outcome | None:
    """Says yes to everything."""
    match request:
        case SignIn():
            return a_wall_session(request)
        case SignOut(session_id=session_id):
            return SignedOut(session_id)
        case Deduct(amount=amount):
            return Approved("0198c0de", amount, Money(1500, "EUR"), "KX7-42P", request.sent_at_ms)
        case Cancel():
            return Cancelled(None)
        case Heartbeat():
            return HeartbeatAnswered(request.sent_at_ms, 1)
        case _:
            return None


def but(kind: type[Request], outcome: Outcome | None) -> Decide:
    """Kindly, except for one kind of request."""
    return lambda request: outcome if isinstance(request, kind) else kindly(request)


class FakeCloud:
    """One worker on the shared subscription; `decide` may be changed at any time."""

    def __init__(self, broker: Broker, worker: Credentials, appliance: Credentials) -> None:
        self.decide: Decide = kindly
        self.received: queue.SimpleQueue[Received] = queue.SimpleQueue()
        self.everything: list[Received] = []
        self.raw: list[Raw] = []
        self.port = broker.port
        self._came: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._statuses: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._broker = broker
        certificate = x509.load_pem_x509_certificate(appliance.certificate.read_bytes())
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        self._device_keys = {thumbprint(certificate.public_bytes(Encoding.DER)): key}
        context = ssl.create_default_context(cafile=worker.ca)
        context.load_cert_chain(worker.certificate, worker.key)
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=worker.folder.name,
            protocol=MQTTProtocolVersion.MQTTv5,
        )
        self._client.tls_set_context(context)
        self._client.on_message = self._on_message
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._subscribed: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        self._client.connect(self._broker.host, self._broker.port)
        self._client.loop_start()
        self._subscribed.get(timeout=10)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish_policy(self, policy: Policy, key: ec.EllipticCurvePrivateKey = POLICY_KEY) -> None:
        token = sign_policy(policy, key, "policy-1")
        topic = topics.policy(DeviceId(policy.device_id))
        self._client.publish(topic, token, qos=1, retain=True).wait_for_publish(5)

    def reply(
        self,
        received: Received,
        outcome: Outcome,
        key: ec.EllipticCurvePrivateKey = REPLY_KEY,
        device_id: str | None = None,
    ) -> None:
        request = received.request
        reply = Reply(
            device_id=device_id or request.device_id,
            key=request.key,
            answers=kind_of(request),
            request_hash=fingerprint(received.payload),
            answered_at_ms=request.sent_at_ms,
            cloud_us=1234,
            outcome=outcome,
        )
        token = sign(Profile.REPLY, encode(reply), key, "r1")
        self._client.publish(topics.replies(request.device), token, qos=1)

    def forge(self, received: Received, outcome: Outcome) -> None:
        """The same reply, signed by a key of nobody's."""
        self.reply(received, outcome, OTHER_KEY)

    def say(self, device_id: str, payload: bytes) -> None:
        self._client.publish(topics.replies(DeviceId(device_id)), payload, qos=1)

    def wait_for(self, kind: type[Request], timeout_s: float = 10.0) -> Received:
        """The next request of a kind, others passed over."""
        deadline = time.monotonic() + timeout_s  # noqa: TID251 -- a real broker takes real time
        while True:
            received = self.received.get(timeout=max(0.01, deadline - time.monotonic()))  # noqa: TID251
            if isinstance(received.request, kind):
                return received

    def wait_for_raw(self, count: int, timeout_s: float = 10.0) -> None:
        """Until so many more payloads have come."""
        for _ in range(count):
            self._came.get(timeout=timeout_s)

    def wait_for_status(self, timeout_s: float = 20.0) -> bytes:
        """The next word of the appliance, or of its last will, about itself."""
        return self._statuses.get(timeout=timeout_s)

    def _on_connect(
        self,
        client: Client,
        _data: object,
        _flags: ConnectFlags,
        _reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        client.subscribe([(topics.shared_requests("test-group"), 1), (topics.ALL_STATUS, 1)])

    def _on_subscribe(
        self,
        _client: Client,
        _data: object,
        _message_id: int,
        _reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        self._subscribed.put(True)

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        payload = bytes(message.payload)
        if message.topic.endswith("/status"):
            self._statuses.put(payload)
            return
        expiry_s = getattr(message.properties, "MessageExpiryInterval", None)
        self.raw.append(Raw(payload, expiry_s, getattr(message.properties, "ContentType", None)))
        self._came.put(True)
        verified = verify(Profile.REQUEST, payload, self._device_keys.get)
        if isinstance(verified, SignatureRefusal):
            return
        request = decode_request(verified.payload)
        assert not isinstance(request, MessageRefusal), request
        assert message.topic == topics.requests(request.device)
        received = Received(request, payload, expiry_s)
        self.everything.append(received)
        self.received.put(received)
        outcome = self.decide(request)
        if outcome is not None:
            self.reply(received, outcome)
