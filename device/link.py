"""The way to the cloud: MQTT 5 over mutual TLS. It carries bytes and judges none of them.

Every connection gets a client of its own: paho keeps unsent messages across reconnects and would
send them before the subscription stands. Callbacks run in paho's thread and only pass facts on.
"""

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Final

import msgspec
import structlog
import uuid_utils
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from protocol import topics
from protocol.ids import DeviceId

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

KEEPALIVE_S: Final = 20
CONNECT_TIMEOUT_S: Final = 5.0
BACK_OFF_MAX_S: Final = 15.0
FAREWELL_S: Final = 1.0
BEAT_S: Final = 2.0
"""A link that is up and idle comes round this often."""
CONTENT_TYPE: Final = "application/jose"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Subscribed:
    """The broker has confirmed the subscriptions: replies will arrive."""


@dataclass(frozen=True)
class Disconnected:
    pass


@dataclass(frozen=True)
class ReplyBytes:
    payload: bytes
    arrived_at: float
    """Monotonic seconds."""


@dataclass(frozen=True)
class PolicyBytes:
    payload: bytes


Incoming = Subscribed | Disconnected | ReplyBytes | PolicyBytes


def back_off_s(failures: int, chance: float) -> float:
    """How long to wait before the next try: doubling from half a second, at most 15 s.

    `chance` (0 to 1) spreads a field of appliances that all lost the broker at one moment.
    """
    return min(BACK_OFF_MAX_S, 0.5 * 2.0 ** min(failures, 10)) * (0.5 + chance / 2)


class _TlsSocket(ssl.SSLSocket):
    """Closes itself when the handshake fails (paho drops such a socket without closing it), and
    fails with the other end's own reason where that lies unread."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise

    def send(self, data: "ReadableBuffer", flags: int = 0) -> int:
        try:
            return super().send(data, flags)
        except (ssl.SSLEOFError, ConnectionError):
            # Whoever refuses our certificate says why and hangs up, often while we still write.
            with suppress(ssl.SSLWantReadError):
                self.recv(1)
            raise


class _Connection:
    """One client, from its first packet to its last."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.socket: socket.socket | None = None
        self.is_subscribed = False
        self.is_over = Event()
        self.is_silent = False
        """The other end gave no sign of life: it will not get a farewell."""


class Link:
    """Keeps one connection to the broker, and a new one whenever that ends."""

    def __init__(
        self,
        host: str,
        port: int,
        device_id: DeviceId,
        tls_context: ssl.SSLContext,
        tell: Callable[[Incoming], None],
        *,
        firmware: str,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        """`tell` is called from other threads and must return at once."""
        self._address = (host, port)
        self._device_id = device_id
        tls_context.sslsocket_class = _TlsSocket
        self._tls_context = tls_context
        self._tell = tell
        self._firmware = firmware
        self._clock = clock
        self._chance = chance
        self._lock = Lock()
        self._connection: _Connection | None = None
        self._connection_id = ""
        self.beats = 0
        """How often the link's thread has come round."""
        self.trouble = ""
        """Why there is no connection, as far as anybody said so; empty while there is one."""
        self._closing = Event()
        self._thread = Thread(target=self._run, name="link", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def publish(self, payload: bytes, expiry_s: int | None = None) -> bool:
        """Hand a signed request to the broker; False, and nothing is kept, while the link is down.

        A True is no receipt: only a signed reply is.
        """
        with self._lock:
            connection = self._connection
            if connection is None or not connection.is_subscribed:
                return False
        properties = Properties(PacketTypes.PUBLISH)
        properties.ContentType = CONTENT_TYPE
        if expiry_s is not None:
            properties.MessageExpiryInterval = expiry_s
        published = connection.client.publish(
            topics.requests(self._device_id), payload, qos=1, properties=properties
        )
        return published.rc == MQTTErrorCode.MQTT_ERR_SUCCESS

    def drop(self) -> None:
        """Give this connection up; a new one follows."""
        with self._lock:
            connection = self._connection
        if connection is not None:
            connection.is_silent = True
            connection.is_over.set()

    def use(self, tls_context: ssl.SSLContext) -> None:
        """From the next connection on, which comes at once, be known by another certificate."""
        tls_context.sslsocket_class = _TlsSocket
        with self._lock:
            self._tls_context = tls_context
            connection = self._connection
        self.trouble = ""
        if connection is not None:
            connection.is_over.set()

    def close(self) -> None:
        self._closing.set()
        with self._lock:
            connection = self._connection
        if connection is not None:
            connection.is_over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        failures = 0
        while not self._closing.is_set():
            try:
                was_up = self._connect_once()
            except Exception:  # noqa: BLE001 -- whatever paho raises, the next try must come
                _log.exception("the link failed")
                was_up = False
            failures = 0 if was_up else failures + 1
            self.beats += 1
            self._closing.wait(back_off_s(failures, self._chance()))

    def _connect_once(self) -> bool:
        """Connect, and stay until the connection is over; whether it ever carried anything."""
        # Said with the last will too: a late one then ends no connection that came after it.
        self._connection_id = str(uuid_utils.uuid7())
        connection = _Connection(self._client())
        client = connection.client
        client.user_data_set(connection)
        connect = Properties(PacketTypes.CONNECT)
        connect.SessionExpiryInterval = 0
        host, port = self._address
        try:
            client.connect(host, port, keepalive=KEEPALIVE_S, clean_start=True, properties=connect)
        except (OSError, ValueError) as error:
            self.trouble = f"{type(error).__name__}: {error}"
            _log.info("broker_unreachable", error=self.trouble)
            return False
        with self._lock:
            self._connection = connection
        if self._closing.is_set():
            connection.is_over.set()
        client.loop_start()
        while not connection.is_over.wait(BEAT_S):
            self.beats += 1
        with self._lock:
            self._connection = None
            was_subscribed, connection.is_subscribed = connection.is_subscribed, False
        if was_subscribed:
            self._tell(Disconnected())
        self._part(connection, was_subscribed)
        return was_subscribed

    def _part(self, connection: _Connection, was_subscribed: bool) -> None:
        client = connection.client
        if was_subscribed and not connection.is_silent and client.is_connected():
            # A clean disconnect sends no will, so the status is said in so many words.
            farewell = client.publish(
                topics.status(self._device_id), self._status(online=False), qos=1, retain=True
            )
            try:
                farewell.wait_for_publish(FAREWELL_S)
            except (RuntimeError, ValueError):
                _log.info("farewell_unheard")
        if connection.is_silent and connection.socket is not None:
            # A hung TLS thread is not reached by paho's own disconnect (paho #891).
            with suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
        else:
            client.disconnect()
        client.loop_stop()

    def _client(self) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._device_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.tls_set_context(self._tls_context)  # pyright: ignore[reportUnknownMemberType] -- paho
        client.will_set(
            topics.status(self._device_id), self._status(online=False), qos=1, retain=True
        )
        client.on_socket_open = _on_socket_open
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        client.on_log = self._on_log
        return client

    def _status(self, *, online: bool) -> bytes:
        said = {"v": 1, "online": online, "firmware": self._firmware}
        return msgspec.json.encode(said | {"connection": self._connection_id})

    def _on_connect(
        self,
        client: Client,
        connection: _Connection,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self.trouble = f"the broker refused: {reason}"
            _log.warning("broker_refused", reason=str(reason))
            connection.is_over.set()
            return
        options = SubscribeOptions(qos=1)
        client.subscribe(
            [
                (topics.replies(self._device_id), options),
                (topics.policy(self._device_id), options),
            ]
        )

    def _on_subscribe(
        self,
        client: Client,
        connection: _Connection,
        _message_id: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            self.trouble = "the broker refused the subscription"
            _log.warning("subscription_refused", reasons=[str(each) for each in reasons])
            connection.is_over.set()
            return
        client.publish(
            topics.status(self._device_id), self._status(online=True), qos=1, retain=True
        )
        with self._lock:
            connection.is_subscribed = True
        self.trouble = ""
        self._tell(Subscribed())

    def _on_message(self, _client: Client, _connection: _Connection, message: MQTTMessage) -> None:
        if message.topic == topics.replies(self._device_id):
            self._tell(ReplyBytes(bytes(message.payload), self._clock()))
        elif message.topic == topics.policy(self._device_id):
            self._tell(PolicyBytes(bytes(message.payload)))

    def _on_publish(
        self,
        _client: Client,
        _connection: _Connection,
        _message_id: int,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            # A denied publish is acknowledged all the same (docs/facts.md).
            _log.warning("publish_refused", reason=str(reason))

    def _on_disconnect(
        self,
        _client: Client,
        connection: _Connection,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self.trouble = self.trouble or f"disconnected: {reason}"
        _log.info("disconnected", reason=str(reason))
        connection.is_over.set()

    def _on_log(self, _client: Client, _connection: _Connection, level: int, text: str) -> None:
        # Why a wire broke paho tells here alone: to TLS 1.3 a refused certificate is a failed read,
        # and then "Unspecified error".
        if level == LogLevel.MQTT_LOG_ERR:
            self.trouble = text
            _log.info("wire_error", error=text)


def _on_socket_open(_client: Client, connection: _Connection, sock: object) -> None:
    assert isinstance(sock, socket.socket), "without a proxy paho opens a plain socket"
    connection.socket = sock
    # Nagle against delayed acknowledgements made a round trip ten times slower (docs/facts.md).
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
