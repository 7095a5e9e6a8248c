"""The worker's line to the broker: MQTT 5 over mutual TLS, on one thread of its own."""

import secrets
import select
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, Self, assert_never

import structlog

from cloud.worker.mqtt5 import (
    FAILURE,
    Acknowledged,
    Closed,
    Connected,
    Message,
    ProtocolError,
    Session,
    Subscribed,
    Unsubscribed,
)
from protocol import topics

KEEP_ALIVE_S: Final = 15
CONNECT_TIMEOUT_S: Final = 10.0
RECONNECT_MAX_S: Final = 15.0
REREAD_S: Final = 300.0
"""So often the broker is asked again for every status it retains: at QoS 0 one may be lost."""
GOODBYE_S: Final = 5.0
"""How long leaving may take: for the broker's answers to what was sent last."""
_READ_BYTES: Final = 64 * 1024
_CHANCE: Final = secrets.SystemRandom()

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


class Statuses(Protocol):
    """Whoever wants to know who is connected; on the connection's thread, so it returns at once."""

    def hear(self, messages: Sequence[Message]) -> None: ...

    def forget(self) -> None:
        """The connection is over: what was heard on it may not be so any more."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A publish that somebody waits for: the broker's reason code."""

    reason: Future[int]


class BrokerConnection:
    """Connects, and connects again; subscribed whenever it is connected.

    `group` is the workers' secret (docs/decisions/0011): it is never logged.

    `take` gets the requests that have arrived since it last returned, at most `batch_size_max`,
    and answers them by `publish`; they are acknowledged when it returns, and until then the broker
    hands over no more than that. It runs on the connection's own thread, and so does
    `on_subscribed`: the broker may have been restarted and know nothing of what it held for us.

    `statuses` hears appliances come and go, at QoS 0: they take no place among the requests that
    the broker hands over at once, and are passed on after those that came with them.
    """

    def __init__(
        self,
        address: BrokerAddress,
        group: str,
        take: Callable[[Sequence[Message]], None],
        on_subscribed: Callable[[], None],
        batch_size_max: int,
        *,
        statuses: Statuses | None = None,
    ) -> None:
        self._address = address
        self._requests = topics.shared_requests(group)
        self._take = take
        self._on_subscribed = on_subscribed
        self._batch_size_max = batch_size_max
        self._statuses = statuses
        self._read_statuses_at = 0.0
        self._subscribed = threading.Event()
        self._unsubscribed = threading.Event()
        self._leaving = threading.Event()
        self._closing = threading.Event()
        self._outbox: deque[tuple[str, bytes, bool, _Asked | None]] = deque()
        # A byte through this pair ends the thread's wait.
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._ear.setblocking(False)
        self._keep_alive_s = KEEP_ALIVE_S
        self._thread = threading.Thread(target=self._run, name="broker")

    @property
    def is_subscribed(self) -> bool:
        return self._subscribed.is_set()

    def wait_until_subscribed(self, timeout_s: float) -> bool:
        return self._subscribed.wait(timeout_s)

    def start(self) -> None:
        """Connect in the background, however long the broker takes to be there."""
        self._thread.start()

    def stop_taking(self) -> None:
        """Leave the shared subscription: the broker hands new requests to other workers.

        Returns once every request that was handed over before has been taken and answered.
        """
        self._leaving.set()
        self._ring()
        if self._subscribed.is_set():
            self._unsubscribed.wait(GOODBYE_S)

    def close(self) -> None:
        """Send what is queued, then disconnect."""
        self._closing.set()
        self._ring()
        self._thread.join()
        self._bell.close()
        self._ear.close()

    def publish(self, topic: str, payload: str) -> None:
        """QoS 1, from any thread; lost with the connection: a reply is asked for again."""
        self._outbox.append((topic, payload.encode(), False, None))
        if threading.current_thread() is not self._thread:
            self._ring()

    def publish_and_wait(self, topic: str, payload: str, timeout_s: float) -> bool:
        """Retained; whether the broker has acknowledged it in time. Not from `take`."""
        return self.publish_all_and_wait([(topic, payload)], timeout_s)[0]

    def publish_all_and_wait(
        self, messages: Sequence[tuple[str, str]], timeout_s: float
    ) -> list[bool]:
        """Each topic with its payload, retained; whether the broker has acknowledged it in time.

        All are on their way at once. Not from `take`.
        """
        asked = [(topic, payload, _Asked(Future())) for topic, payload in messages]
        self._outbox.extend((topic, payload.encode(), True, each) for topic, payload, each in asked)
        self._ring()
        until = _clock() + timeout_s
        return [_is_acknowledged(each.reason, until) for _, _, each in asked]

    def _ring(self) -> None:
        # A full pair rings already.
        with suppress(BlockingIOError):
            self._bell.send(b"\x00")

    def _run(self) -> None:
        delay_s = 1.0
        while not self._closing.is_set():
            self._forget()
            try:
                with _Wire(self._address) as wire:
                    self._hold(wire)
            except (OSError, ProtocolError) as error:
                _log.warning("disconnected", error=type(error).__name__, reason=str(error))
            if self._subscribed.is_set():
                self._subscribed.clear()
                delay_s = 1.0
            if self._statuses is not None:
                self._statuses.forget()
            # Never all workers at the same moment.
            self._closing.wait(delay_s * _CHANCE.uniform(0.5, 1.0))
            delay_s = min(delay_s * 2, RECONNECT_MAX_S)
        self._forget()

    def _hold(self, wire: "_Wire") -> None:
        """One connection, from CONNECT to its end. Raises OSError and ProtocolError."""
        session = Session()
        self._keep_alive_s = KEEP_ALIVE_S
        session.connect(keep_alive_s=KEEP_ALIVE_S, receive_max=self._batch_size_max)
        sent_at = heard_at = began_at = _clock()
        left = False
        closing_since: float | None = None
        with selectors.DefaultSelector() as selector:
            selector.register(wire, selectors.EVENT_READ)
            selector.register(self._ear, selectors.EVENT_READ)
            while True:
                self._post(session)
                if self._leaving.is_set() and self._subscribed.is_set() and not left:
                    session.unsubscribe(self._requests)
                    left = True
                now = _clock()
                if self._closing.is_set():
                    closing_since = closing_since or now
                    if session.is_settled or now - closing_since > GOODBYE_S:
                        session.disconnect()
                        wire.send(session.to_send())
                        return
                self._read_statuses(session, now)
                if now - sent_at >= self._keep_alive_s:
                    session.ping()
                packets = session.to_send()
                if packets:
                    wire.send(packets)
                    sent_at = now
                ready = selector.select(0.2 if closing_since else self._keep_alive_s / 3)
                if any(key.fileobj is wire for key, _ in ready):
                    heard_at = _clock()
                    self._listen(session, wire.read())
                elif _clock() - heard_at > self._keep_alive_s * 1.5:
                    raise TimeoutError("the broker is silent")
                elif not self._subscribed.is_set() and _clock() - began_at > CONNECT_TIMEOUT_S:
                    raise TimeoutError("the broker does not let us in")

    def _read_statuses(self, session: Session, now: float) -> None:
        is_due = now - self._read_statuses_at >= REREAD_S
        if self._statuses is not None and self._subscribed.is_set() and is_due:
            session.subscribe(topics.ALL_STATUS, qos=0)
            self._read_statuses_at = now

    def _listen(self, session: Session, arrived: bytes) -> None:
        requests: list[Message] = []
        statuses: list[Message] = []
        for event in session.receive(arrived):
            if isinstance(event, Message):
                (statuses if topics.is_status(event.topic) else requests).append(event)
                continue
            if isinstance(event, Unsubscribed):
                # Those who wait for it rely on everything before it being answered.
                self._answer(session, requests)
                requests = []
            self._note(session, event)
        self._answer(session, requests)
        if statuses and self._statuses is not None:
            self._statuses.hear(statuses)
        for each in statuses:
            session.acknowledge(each)

    def _note(
        self, session: Session, event: Connected | Subscribed | Unsubscribed | Acknowledged | Closed
    ) -> None:
        match event:
            case Acknowledged(token=_Asked(reason=asked), reason=reason):
                asked.set_result(reason)
            case Acknowledged(reason=reason):
                if reason >= FAILURE:
                    _log.warning("reply_refused", reason=reason)
            case Connected(reason=reason, keep_alive_s=wanted_s):
                if reason >= FAILURE:
                    raise ProtocolError(f"the broker refused us: {reason:#x}")
                if self._leaving.is_set():
                    raise ConnectionAbortedError("leaving")
                self._keep_alive_s = wanted_s or KEEP_ALIVE_S
                session.subscribe(self._requests)
            case Subscribed(reason=reason, topic=topic):
                self._note_subscribed(topic, reason)
            case Unsubscribed():
                self._unsubscribed.set()
            case Closed(reason=reason):
                raise ProtocolError(f"the broker ended the connection: {reason:#x}")
            case _:
                assert_never(event)

    def _note_subscribed(self, topic: str, reason: int) -> None:
        if topic == topics.ALL_STATUS:
            if reason >= FAILURE:
                # No sale needs them, and heartbeats say who is there.
                _log.warning("statuses_refused", reason=reason)
            return
        if reason >= FAILURE:
            raise ProtocolError(f"the broker refused the subscription: {reason:#x}")
        _log.info("subscribed", host=self._address.host, port=self._address.port)
        self._read_statuses_at = -REREAD_S
        self._subscribed.set()
        self._on_subscribed()

    def _answer(self, session: Session, requests: Sequence[Message]) -> None:
        # The broker was told how many to hand over at once; mosquitto 2.0 may exceed it.
        for start in range(0, len(requests), self._batch_size_max):
            batch = requests[start : start + self._batch_size_max]
            self._take(batch)
            for each in batch:
                session.acknowledge(each)

    def _post(self, session: Session) -> None:
        """Hand the session what was published since, whoever did it."""
        with suppress(BlockingIOError):
            self._ear.recv(_READ_BYTES)
        while self._outbox:
            topic, payload, retain, asked = self._outbox.popleft()
            session.publish(topic, payload, retain=retain, token=asked)

    def _forget(self) -> None:
        """What was to be sent on a connection that has ended was lost with it."""
        while self._outbox:
            _, _, _, asked = self._outbox.popleft()
            if asked is not None:
                asked.reason.set_exception(ConnectionError("not connected"))


class _Wire:
    """A TLS socket that is read without waiting and written as a whole."""

    def __init__(self, address: BrokerAddress) -> None:
        """Raises OSError where the broker is not there, or not who it should be."""
        context = ssl.create_default_context(cafile=str(address.authorities))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(str(address.certificate), str(address.key))
        plain = socket.create_connection((address.host, address.port), CONNECT_TIMEOUT_S)
        try:
            # Nagle against delayed acks costs 80 ms a round trip (docs/facts.md).
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = context.wrap_socket(plain, server_hostname=address.host)
        except BaseException:
            plain.close()
            raise
        self._socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> bytes:
        """All that has arrived. Raises ConnectionError at the end of the stream."""
        arrived: list[bytes] = []
        with suppress(ssl.SSLWantReadError):
            while chunk := self._socket.recv(_READ_BYTES):
                arrived.append(chunk)
            if not arrived:
                raise ConnectionError("the broker hung up")
        return b"".join(arrived)

    def send(self, packets: bytes) -> None:
        """Raises TimeoutError where the broker does not read."""
        unsent = memoryview(packets)
        while unsent:
            try:
                unsent = unsent[self._socket.send(unsent) :]
            except ssl.SSLWantWriteError:
                if not select.select([], [self._socket], [], CONNECT_TIMEOUT_S)[1]:
                    raise TimeoutError("the broker does not read") from None


def _is_acknowledged(reason: Future[int], until: float) -> bool:
    try:
        return reason.result(max(0.0, until - _clock())) < FAILURE
    except (TimeoutError, ConnectionError):
        # The next round tries again.
        return False


def _clock() -> float:
    return time.monotonic()  # noqa: TID251  # a connection is an edge
