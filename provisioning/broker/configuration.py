"""The text of mosquitto.conf and of the access list, from values alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from protocol import topics
from provisioning.authority.certificates import WORKER_PREFIX

MAX_PACKET_SIZE_IN_BYTES: Final = 64 * 1024
MAX_KEEPALIVE_S: Final = 120
MAX_INFLIGHT_MESSAGES: Final = 512
MAX_QUEUED_MESSAGES: Final = 4096

CONFIGURATION_FILE: Final = "mosquitto.conf"
ACCESS_FILE: Final = "access.acl"
CA_FILE: Final = "ca.pem"
CERTIFICATE_FILE: Final = "certificate.pem"
KEY_FILE: Final = "key.pem"
CRL_FILE: Final = "crl.pem"
PID_FILE: Final = "run/mosquitto.pid"


@dataclass(frozen=True, slots=True)
class Listener:
    """The one way in: TLS with a client certificate, at this address."""

    bind: IPv4Address | IPv6Address
    port: int


def render_configuration(folder: Path, listener: Listener, user: str) -> str:
    """mosquitto.conf (mosquitto 2.0) for the files in `folder`, an absolute path.

    `user` is whom mosquitto becomes when root starts it.
    """
    assert folder.is_absolute(), "mosquitto would look in its own working folder"
    assert "\n" not in str(folder), "a folder's name must not add lines of its own"
    return f"""\
# Written by `railtix-ops broker config`; the next run overwrites it.
user {user}
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
acl_file {folder / ACCESS_FILE}

# Small requests and replies: without this Nagle and delayed acks cost 80 ms a round trip.
set_tcp_nodelay true

# What one client can take from the others. A worker's batch of 256 and the next fit in flight.
max_packet_size {MAX_PACKET_SIZE_IN_BYTES}
max_keepalive {MAX_KEEPALIVE_S}
max_inflight_messages {MAX_INFLIGHT_MESSAGES}
max_queued_messages {MAX_QUEUED_MESSAGES}
persistent_client_expiration 1d

# The only listener.
listener {listener.port} {listener.bind}
protocol mqtt
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
"""


def render_access(workers: Sequence[str]) -> str:
    """The access list: appliances by pattern, each worker by its full common name.

    Patterns hold for every user, workers too; theirs reach only topics of an appliance named like
    the worker, and the authority certifies none.
    """
    lines = ["# Written by `railtix-ops broker config`; the next run overwrites it."]
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
