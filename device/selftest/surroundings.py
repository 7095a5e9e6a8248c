"""What surrounds the parts: certificate, disk, clock, network; nobody is needed for any of it."""

import os
import shutil
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from threading import Event
from time import monotonic  # noqa: TID251 -- round trips and flushes are measured
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from paho.mqtt.client import Client, ConnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from device.clock import WallClock
from device.credentials import AUTHORITY_FILE, CERTIFICATE_FILE, FOLDER, KEY_FILE, Credentials
from device.journal.journal import JournalFault, look_at
from device.selftest.findings import Finding, Part, failed, ok
from device.settings import BrokerSettings, KeySettings
from protocol import topics

DAYS_MIN: Final = 14
FREE_MIN_MIB: Final = 64
FLUSHES: Final = 20
FLUSH_MAX_MS: Final = 1000.0
"""The median: a sale waits for one between the reply and its light."""
CONNECT_S: Final = 10.0


def look_at_certificate(credentials: Credentials, keys: KeySettings, now: datetime) -> Finding:
    """Days left, and that our authority issued it; that the key is its own, loading has shown."""
    days = (credentials.expires_at - now) // timedelta(days=1)
    until = f"{credentials.device_id}: {days} days left, until {credentials.expires_at:%Y-%m-%d}"
    if days < 0:
        return failed(Part.CERTIFICATE, until, "expired: issue a new one, or set the clock")
    chain = _chain_of(credentials.folder)
    if chain is None:
        return failed(
            Part.CERTIFICATE, until, f"{CERTIFICATE_FILE} was not issued by {AUTHORITY_FILE}"
        )
    if keys.kind == "credential" and (credentials.folder / KEY_FILE).exists():
        return failed(
            Part.CERTIFICATE, until, f"the sealed key also lies open: {FOLDER}/{KEY_FILE}"
        )
    told = (until, f"matches its key ({keys.kind}); issued by {chain}")
    return (failed if days < DAYS_MIN else ok)(Part.CERTIFICATE, *told)


def _chain_of(folder: Path) -> str | None:
    """Who issued it, up to an authority of ours; None where nobody of ours did."""
    try:
        leaf, *given = x509.load_pem_x509_certificates((folder / CERTIFICATE_FILE).read_bytes())
        ours = x509.load_pem_x509_certificates((folder / AUTHORITY_FILE).read_bytes())
    except (OSError, ValueError):
        return None
    names: list[str] = []
    at = leaf
    for _ in range(5):
        issuer = next((each for each in (*ours, *given) if _issued(each, at)), None)
        if issuer is None:
            return None
        names.append(issuer.subject.rfc4514_string())
        if issuer in ours:
            return ", ".join(names)
        at = issuer
    return None


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def look_at_disk(state: Path) -> Finding:
    """Whether the journal can be read and its folder takes writes, how fast, and what is free."""
    try:
        free_mib = shutil.disk_usage(state).free // (1024 * 1024)
        flushes_s = _flushes(state / "selftest.tmp")
        chain = look_at(state)
    except OSError as error:
        return failed(Part.DISK, f"{state}: {error.strerror}")
    except JournalFault as fault:
        return failed(Part.DISK, f"the journal cannot be read: {fault}")
    journal = "no journal yet" if chain is None else f"{chain.last} journal entries, chain sound"
    usual_ms, worst_ms = median(flushes_s) * 1000, max(flushes_s) * 1000
    flush = f"a flush takes {usual_ms:.1f} ms, at worst {worst_ms:.1f} ms"
    told = (f"{free_mib} MiB free; {flush}", journal)
    if free_mib < FREE_MIN_MIB:
        return failed(Part.DISK, *told, f"less than {FREE_MIN_MIB} MiB free")
    if usual_ms > FLUSH_MAX_MS:
        return failed(Part.DISK, *told, "too slow: is the card worn out?")
    return ok(Part.DISK, *told)


def _flushes(path: Path) -> list[float]:
    """How long each of a few flushed writes took. Raises OSError."""
    took: list[float] = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        for _ in range(FLUSHES):
            os.write(descriptor, b"\0" * 4096)
            began_at = monotonic()
            os.fsync(descriptor)
            took.append(monotonic() - began_at)
    finally:
        os.close(descriptor)
        path.unlink()
    return took


def look_at_clock(state: Path, wall_ms: int, clock: WallClock) -> Finding:
    """Whether NTP has set it, and whether it is behind what the cloud last signed."""
    set_by = "set by NTP since boot" if clock.is_set() else "not set by NTP since boot"
    now = datetime.fromtimestamp(wall_ms / 1000, UTC)
    told = f"{now:%Y-%m-%d %H:%M:%S} UTC, {set_by}"
    try:
        chain = look_at(state)
    except JournalFault:
        chain = None  # the disk's finding says so
    newest_ms = 0 if chain is None else chain.standing.record.newest_ms
    if newest_ms:
        newest = datetime.fromtimestamp(newest_ms / 1000, UTC)
        behind_s = (newest_ms - wall_ms) / 1000
        if behind_s > 0:
            return failed(
                Part.CLOCK,
                told,
                f"{behind_s:.0f} s behind the newest time known, {newest:%Y-%m-%d %H:%M:%S} UTC",
            )
        told += f", {-behind_s:.0f} s after the newest time known"
    if clock.is_set():
        return ok(Part.CLOCK, told)
    return ok(Part.CLOCK, told, "until it is set, or the cloud has answered, no offline sales")


def look_at_network(broker: BrokerSettings, credentials: Credentials) -> Finding:
    """Resolves, connects, shakes hands with our certificate, and subscribes, each timed."""
    try:
        began_at = monotonic()
        found = socket.getaddrinfo(broker.host, broker.port, type=socket.SOCK_STREAM)
        resolved_ms = (monotonic() - began_at) * 1000
    except OSError as error:
        return failed(Part.NETWORK, f"{broker.host} has no address ({error}): DNS, or no network?")
    told = f"{broker.host} is {found[0][4][0]} ({resolved_ms:.0f} ms)"
    try:
        began_at = monotonic()
        context = credentials.tls_context()
        with (
            socket.create_connection((broker.host, broker.port), CONNECT_S) as plain,
            context.wrap_socket(plain, server_hostname=broker.host) as secure,
        ):
            version = secure.version()
        shaken_ms = (monotonic() - began_at) * 1000
    except ssl.SSLError as error:
        reason = error.reason or str(error)
        return failed(Part.NETWORK, told, f"port {broker.port} answers, TLS does not: {reason}")
    except OSError as error:
        return failed(Part.NETWORK, told, f"port {broker.port}: {error}")
    told += f", {version} in {shaken_ms:.0f} ms"
    return _subscribe(broker, credentials, told)


def _subscribe(broker: BrokerSettings, credentials: Credentials, told: str) -> Finding:
    connected, subscribed = Event(), Event()
    trouble: list[str] = []

    def on_connect(
        client: Client,
        _data: None,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        del client
        if reason.is_failure:
            trouble.append(f"the broker refused: {reason}")
        connected.set()

    def on_subscribe(
        _client: Client,
        _data: None,
        _message_id: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            trouble.append("the broker refused the subscription")
        subscribed.set()

    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=credentials.device_id,
        protocol=MQTTProtocolVersion.MQTTv5,
        reconnect_on_failure=False,
    )
    client.tls_set_context(credentials.tls_context())  # pyright: ignore[reportUnknownMemberType] -- paho
    client.connect_timeout = CONNECT_S
    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    client.on_socket_open = _at_once
    return _ended(
        client, lambda: _trip(client, broker, credentials, connected, subscribed), trouble, told
    )


def _trip(
    client: Client,
    broker: BrokerSettings,
    credentials: Credentials,
    connected: Event,
    subscribed: Event,
) -> float | None:
    """The seconds of one round trip to the broker; None where it did not come to that."""
    client.connect(broker.host, broker.port, clean_start=True)
    client.loop_start()
    if not connected.wait(CONNECT_S):
        return None
    began_at = monotonic()
    said = client.subscribe(topics.replies(credentials.device_id), qos=1)[0]
    if said is not MQTTErrorCode.MQTT_ERR_SUCCESS or not subscribed.wait(CONNECT_S):
        return None
    return monotonic() - began_at


def _ended(
    client: Client, trip: Callable[[], float | None], trouble: list[str], told: str
) -> Finding:
    try:
        took_s = trip()
    except (OSError, ValueError) as error:
        trouble.append(f"{type(error).__name__}: {error}")
        took_s = None
    finally:
        client.disconnect()
        client.loop_stop()
    if trouble or took_s is None:
        # To TLS 1.3 a certificate that the broker refuses is a connection that ends.
        return failed(
            Part.NETWORK, told, *(trouble or ["the broker hung up: certificate revoked?"])
        )
    return ok(Part.NETWORK, told, f"MQTT subscribed, round trip {took_s * 1000:.0f} ms")


def _at_once(_client: Client, _data: None, sock: object) -> None:
    assert isinstance(sock, socket.socket), "without a proxy paho opens a plain socket"
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
