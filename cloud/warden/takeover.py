"""Ends an appliance's session at the broker by taking it over: same name, in and out, no word said.

The broker lets one session have a name, and the newer one stays (MQTT 5.0, 3.1.4-3). A revocation
list alone ends none that stands (docs/decisions/0028).
"""

import os
import socket
import ssl
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cloud.settings import BrokerSettings
from cloud.warden.faults import WardenFault
from cloud.worker.mqtt5 import FAILURE, Closed, Connected, ProtocolError, Session
from provisioning.authority.folder import Issued

DEADLINE_S: Final = 5.0
"""For all of it: the others wait."""
_READ_BYTES: Final = 4096


def take_over(broker: BrokerSettings, issued: Issued, key: bytes) -> None:
    """Once this returns the session that had the name has ended.

    Raises WardenFault where the broker is away, or does not let us in.
    """
    try:
        context = ssl.create_default_context(cafile=str(broker.authorities))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        with _in_memory(key + issued.chain_pem) as path:
            context.load_cert_chain(path)
        deadline = _clock() + DEADLINE_S
        with (
            socket.create_connection((broker.host, broker.port), DEADLINE_S) as plain,
            context.wrap_socket(plain, server_hostname=broker.host) as wire,
        ):
            _come_and_go(wire, deadline)
    except (OSError, ProtocolError) as error:
        raise WardenFault(
            "session_not_ended",
            f"the broker at {broker.host} port {broker.port}: {error or type(error).__name__}",
        ) from error


def _come_and_go(wire: ssl.SSLSocket, deadline: float) -> None:
    session = Session()
    session.connect(keep_alive_s=round(DEADLINE_S), receive_max=1)
    wire.sendall(session.to_send())
    while True:
        left_s = deadline - _clock()
        if left_s <= 0:
            raise TimeoutError("no answer in time")
        wire.settimeout(left_s)
        arrived = wire.recv(_READ_BYTES)
        if not arrived:
            raise ConnectionError("the broker hung up")
        for event in session.receive(arrived):
            match event:
                case Connected(reason=reason) if reason < FAILURE:
                    # It speaks only once the one before is out.
                    session.disconnect()
                    wire.sendall(session.to_send())
                    return
                case Connected(reason=reason) | Closed(reason=reason):
                    raise ProtocolError(f"it refused us: {reason:#x}")
                case _:
                    continue


@contextmanager
def _in_memory(content: bytes) -> Generator[Path]:
    """A file for OpenSSL, which takes no bytes; a crash leaves no key on the disk."""
    descriptor = os.memfd_create("takeover", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _clock() -> float:
    return time.monotonic()  # noqa: TID251  # a connection is an edge
