"""One with a cloud worker's certificate: hears every request, and may say what is no reply."""

import os
import queue
import signal
import socket
import ssl
import threading
from dataclasses import dataclass, field
from typing import Any, Final, Self

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from protocol import topics
from protocol.encoding import from_base64url
from protocol.ids import DeviceId
from protocol.messages import Request, decode_request
from provisioning.broker.configuration import ACCESS_FILE, render_access
from tests.journeys.bar import WITHIN_S
from venue.servers import Credentials
from venue.stack import Venue

NAME: Final = "insider"
COMMON_NAME: Final = f"cloud-worker-{NAME}"
THE_CLOUDS: Final = "cloud-worker-1"


@dataclass(frozen=True)
class Overheard:
    """A request as it went over the broker."""

    device_id: DeviceId
    token: bytes = field(repr=False)
    request: Request


class Insider:
    """Subscribed beside the workers, so that no request is kept from them; a context."""

    def __init__(self, venue: Venue) -> None:
        self._broker = venue.broker
        self._overheard: queue.SimpleQueue[Overheard] = queue.SimpleQueue()
        self._subscribed = threading.Event()
        credentials = admit(venue)
        context = ssl.create_default_context(cafile=str(credentials.ca))
        context.load_cert_chain(str(credentials.certificate), str(credentials.key))
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id="", protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.tls_set_context(context)
        self._client.on_socket_open = _send_at_once
        self._client.on_connect = self._connected
        self._client.on_subscribe = self._granted
        self._client.on_message = self._message

    def __enter__(self) -> Self:
        self._client.connect(self._broker.host, self._broker.port, 60)
        self._client.loop_start()
        assert self._subscribed.wait(WITHIN_S), "not subscribed"
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def await_request(self, kind: type[Request]) -> Overheard:
        """The next request of this kind, others passed over."""
        while True:
            overheard = self._overheard.get(timeout=WITHIN_S)
            if isinstance(overheard.request, kind):
                return overheard

    def say(self, device_id: DeviceId, payload: bytes) -> None:
        """Put this on an appliance's topic of replies."""
        said = self._client.publish(topics.replies(device_id), payload, qos=1)
        said.wait_for_publish(WITHIN_S)

    def _connected(self, client: Client, *_: Any) -> None:
        client.subscribe(f"{topics.ROOT}/+/requests", qos=1)

    def _granted(self, *_: Any) -> None:
        self._subscribed.set()

    def _message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        token = bytes(message.payload)
        payload = from_base64url(token.split(b".")[1])
        assert payload is not None, "what appliances sign is spelled strictly"
        request = decode_request(payload)
        assert isinstance(request, Request), request
        self._overheard.put(Overheard(request.device, token, request))


def admit(venue: Venue) -> Credentials:
    """A worker's certificate, and its name on the running broker's access list."""
    folder = venue.authority.ca.parent / "issued" / COMMON_NAME
    if folder.exists():
        return Credentials(folder)
    [credentials] = venue.authority.certify_workers(NAME)
    access = venue.broker.folder / ACCESS_FILE
    access.write_text(render_access([THE_CLOUDS, COMMON_NAME]), "utf-8")
    os.kill(venue.broker.pid, signal.SIGHUP)
    return credentials


def _send_at_once(_client: Client, _userdata: Any, opened: Any) -> None:
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
