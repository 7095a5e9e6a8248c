"""The text of mosquitto.conf, of the access list and of systemd's drop-in, from values alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final, assert_never

from protocol import topics
from provisioning.authority.certificates import WORKER_PREFIX

WRITTEN_BY: Final = "# Written by `railtix-ops broker config`; the next run overwrites it."

MAX_PACKET_SIZE_IN_BYTES: Final = 64 * 1024
MAX_KEEPALIVE_S: Final = 120
MAX_INFLIGHT_MESSAGES: Final = 512
MAX_QUEUED_MESSAGES: Final = 4096
MAX_QUEUED_IN_BYTES: Final = 16 * 1024 * 1024
CONNECTIONS: Final = 2000
"""A thousand appliances, each of which may be back before its old connection is found dead."""
OWN_DESCRIPTORS: Final = 1024
"""What mosquitto keeps open beside its clients, with room to accept and turn away one too many."""

CONFIGURATION_FILE: Final = "mosquitto.conf"
ACCESS_FILE: Final = "access.acl"
CA_FILE: Final = "ca.pem"
CERTIFICATE_FILE: Final = "certificate.pem"
KEY_FILE: Final = "key.pem"
CRL_FILE: Final = "crl.pem"
PID_FILE: Final = "run/mosquitto.pid"
DROP_IN_FILE: Final = "systemd.conf"

ACCESS_PLUGIN: Final = Path("/usr/lib/mosquitto_acl_file.so")
"""Where mosquitto's own container image has it."""


class Version(StrEnum):
    """The mosquitto that the files are for; 2.1 is rendered by its manual and was never tried."""

    V2_0 = "2.0"
    V2_1 = "2.1"


@dataclass(frozen=True, slots=True)
class Listener:
    """The one way in: TLS with a client certificate, at this address, for so many at once."""

    bind: IPv4Address | IPv6Address
    port: int
    connections: int = CONNECTIONS


@dataclass(frozen=True, slots=True)
class Mosquitto:
    """The program that reads the files: its version, and whom it becomes when root starts it."""

    user: str
    version: Version = Version.V2_0
    access_plugin: Path = ACCESS_PLUGIN


def render_configuration(folder: Path, listener: Listener, mosquitto: Mosquitto) -> str:
    """mosquitto.conf for the files in `folder`, an absolute path."""
    for path in (folder, mosquitto.access_plugin):
        assert path.is_absolute(), "mosquitto would look in its own working folder"
        assert "\n" not in str(path), "a path must not add lines of its own"
    return f"""\
{WRITTEN_BY}
user {mosquitto.user}
pid_file {folder / PID_FILE}

# The broker is a pipe, not a store. It acknowledges before it saves, so persistence would lose
# messages at a crash all the same; the appliance's journal sends again until a signed reply comes,
# and the cloud publishes the retained policies again whenever it connects.
persistence false

log_dest stderr
log_type error
log_type warning
log_type notice
log_timestamp_format %Y-%m-%dT%H:%M:%S%z

allow_anonymous false
{_access(folder, mosquitto)}

# Small requests and replies: without this Nagle and delayed acks cost 80 ms a round trip.
set_tcp_nodelay true

# What one client can take from the others. A worker's batch of 256 and the next fit in flight.
max_packet_size {MAX_PACKET_SIZE_IN_BYTES}
max_keepalive {MAX_KEEPALIVE_S}
max_inflight_messages {MAX_INFLIGHT_MESSAGES}
max_queued_messages {MAX_QUEUED_MESSAGES}
max_queued_bytes {MAX_QUEUED_IN_BYTES}
persistent_client_expiration 1d
{_whole_brokers_limits(listener, mosquitto.version)}
# The only listener.
listener {listener.port} {listener.bind}
protocol mqtt
max_connections {listener.connections}
tls_version tlsv1.2
cafile {folder / CA_FILE}
certfile {folder / CERTIFICATE_FILE}
keyfile {folder / KEY_FILE}
# Past its nextUpdate every client is refused: renew it within 7 days, then SIGHUP.
crlfile {folder / CRL_FILE}
require_certificate true
# The certificate's common name is the user name and the client id, whatever the client says: no
# appliance can take over another's session.
use_identity_as_username true
use_username_as_clientid true
{_listeners_own(mosquitto.version)}"""


def _access(folder: Path, mosquitto: Mosquitto) -> str:
    match mosquitto.version:
        case Version.V2_0:
            return f"acl_file {folder / ACCESS_FILE}"
        case Version.V2_1:
            # The option of 2.0 is deprecated there in favour of a plugin with the same code.
            return f"plugin {mosquitto.access_plugin}\nplugin_opt_acl_file {folder / ACCESS_FILE}"
        case _:
            assert_never(mosquitto.version)


def _whole_brokers_limits(listener: Listener, version: Version) -> str:
    match version:
        case Version.V2_0:
            return ""
        case Version.V2_1:
            return f"global_max_connections {listener.connections}\n"
        case _:
            assert_never(version)


def _listeners_own(version: Version) -> str:
    match version:
        case Version.V2_0:
            return ""
        case Version.V2_1:
            return (
                "accept_protocol_versions 5\n"
                "listener_allow_anonymous false\n"
                "disable_client_cert_date_checks false\n"
            )
        case _:
            assert_never(version)


def render_access(workers: Sequence[str]) -> str:
    """The access list: appliances by pattern, each worker by its full common name.

    Patterns hold for every user, workers too; theirs reach only topics of an appliance named like
    the worker, and the authority certifies none.
    """
    lines = [WRITTEN_BY]
    for worker in workers:
        assert worker.startswith(WORKER_PREFIX), f"not a worker: {worker!r}"
        lines += [
            "",
            f"user {worker}",
            f"topic read {topics.ROOT}/+/requests",
            f"topic read {topics.ROOT}/+/status",
            f"topic write {topics.ROOT}/+/replies",
            f"topic write {topics.ROOT}/+/policy",
        ]
    lines += [
        "",
        f"pattern write {topics.ROOT}/%u/requests",
        f"pattern write {topics.ROOT}/%u/status",
        f"pattern read {topics.ROOT}/%u/replies",
        f"pattern read {topics.ROOT}/%u/policy",
        "",
    ]
    return "\n".join(lines)


def descriptors_needed(connections: int) -> int:
    """The open files that mosquitto must be allowed: Linux's usual 1024 end at a thousand."""
    return connections + OWN_DESCRIPTORS


def render_drop_in(folder: Path, connections: int) -> str:
    """What systemd is told beside the distribution's mosquitto.service."""
    assert folder.is_absolute(), "systemd has no working folder to look in"
    assert "\n" not in str(folder), "a folder's name must not add lines of its own"
    return f"""\
{WRITTEN_BY}
# Beside the distribution's unit: /etc/systemd/system/mosquitto.service.d/railtix.conf
[Service]
# Emptied first: these lists would only grow.
ExecStartPre=
ExecStart=
ExecStart=/usr/sbin/mosquitto -c {folder / CONFIGURATION_FILE}
Restart=always
RestartSec=1
# {connections} connections, each a file.
LimitNOFILE={descriptors_needed(connections)}

# It starts as root to read its key, becomes its user, and needs nothing but the network.
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={(folder / PID_FILE).parent}
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_DAC_READ_SEARCH CAP_NET_BIND_SERVICE
SystemCallArchitectures=native
"""
