"""The worker's line to the broker: MQTT 5 over mutual TLS; its callbacks only hand on."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from ssl import TLSVersion, create_default_context
from typing import Any, Final, Protocol

import structlog
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from protocol import topics

KEEPALIVE_S: Final = 15
RECONNECT_MAX_S: Final = 15
SEND_TIMEOUT_S: Final = 5.0
RECEIVE_MAX: Final = 2000
"""Requests the broker may hand over before they are acknowledged, each way."""

_log = structlog.stdlib.get_logger("cloud.worker")


class BrokerAddress(Protocol):
    """Where the broker is and who this worker is to it; `settings.BrokerSettings` is one."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def certificate(self) -> Path: ...
    @property
    def key(self) -> Path: ...
    @property
    def authorities(self) -> Path: ...


class BrokerConnection:
    """Connects, and connects again; subscribed whenever it is connected.

    `group` is the workers' secret (docs/decisions/0011): it is never logged.

    `take` runs on the network thread for each request: it must return at once. `on_subscribed`
    too: the broker may have been restarted and know nothing of what it held for us.
    """

    def __init__(
        self,
        address: BrokerAddress,
        group: str,
        take: Callable[[MQTTMessage], None],
        on_subscribed: Callable[[], None],
    ) -> None:
        self._address = address
        self._requests = topics.shared_requests(group)
        self._take = take
        self._on_subscribed = on_subscribed
        self._subscribed = threading.Event()
        self._last_sent: MQTTMessageInfo | None = None
        # The broker names the client after its certificate (`use_username_as_clientid`).
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id="", protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.tls_set_context(_tls(address))  # pyright: ignore[reportUnknownMemberType]  # untyped in paho
        self._client.reconnect_delay_set(1, RECONNECT_MAX_S)
        self._client.max_inflight_messages_set(RECEIVE_MAX)
        self._client.on_socket_open = _send_at_once
        self._client.on_connect = self._connected
        self._client.on_subscribe = self._subscribe_answered
        self._client.on_disconnect = self._disconnected
        self._client.on_message = self._message

    @property
    def is_subscribed(self) -> bool:
        return self._subscribed.is_set()

    def wait_until_subscribed(self, timeout_s: float) -> bool:
        return self._subscribed.wait(timeout_s)

    def start(self) -> None:
        """Connect in the background, however long the broker takes to be there."""
        properties = Properties(PacketTypes.CONNECT)
        properties.ReceiveMaximum = RECEIVE_MAX
        self._client.connect_async(
            self._address.host,
            self._address.port,
            KEEPALIVE_S,
            clean_start=True,
            properties=properties,
        )
        self._client.loop_start()

    def stop_taking(self) -> None:
        """Leave the shared subscription: the broker hands new requests to other workers."""
        if self._subscribed.is_set():
            self._client.unsubscribe(self._requests)

    def close(self) -> None:
        """Send what is queued, then disconnect.

        Only once the last reply is acknowledged: paho closes the socket at once, and what the
        broker has not read by then is lost with it.
        """
        if self._last_sent is not None and self._subscribed.is_set():
            self._wait_for(self._last_sent, SEND_TIMEOUT_S)
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: str) -> None:
        """QoS 1, queued for the network thread; lost with the connection: a reply is asked for
        again."""
        self._last_sent = self._client.publish(topic, payload, qos=1)

    def publish_and_wait(self, topic: str, payload: str, timeout_s: float) -> bool:
        """Retained; whether the broker has acknowledged it in time."""
        return self._wait_for(self._client.publish(topic, payload, qos=1, retain=True), timeout_s)

    def _wait_for(self, sent: MQTTMessageInfo, timeout_s: float) -> bool:
        try:
            sent.wait_for_publish(timeout_s)
        except (RuntimeError, ValueError):
            # Not connected, or the queue is full.
            return False
        return sent.is_published()

    def _connected(
        self,
        client: Client,
        _userdata: Any,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            _log.warning("broker_refused", reason=str(reason))
            return
        client.subscribe(self._requests, qos=1)

    def _subscribe_answered(
        self,
        _client: Client,
        _userdata: Any,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            _log.error("subscription_refused", reasons=[str(reason) for reason in reasons])
            return
        _log.info("subscribed", host=self._address.host, port=self._address.port)
        self._subscribed.set()
        self._on_subscribed()

    def _disconnected(
        self,
        _client: Client,
        _userdata: Any,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._subscribed.clear()
        _log.info("disconnected", reason=str(reason))

    def _message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        self._take(message)


def _tls(address: BrokerAddress) -> Any:
    context = create_default_context(cafile=str(address.authorities))
    context.minimum_version = TLSVersion.TLSv1_2
    context.load_cert_chain(str(address.certificate), str(address.key))
    return context


def _send_at_once(_client: Client, _userdata: Any, opened: Any) -> None:
    # Nagle against delayed acks costs 80 ms a round trip (FACTS.md).
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
