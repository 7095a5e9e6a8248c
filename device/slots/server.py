"""The socket: who asks is known by the kernel, what is asked is one short line."""

import os
import socket
import struct
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from threading import Event
from time import monotonic  # noqa: TID251 -- a line has its time, however slowly it comes
from typing import Final

import structlog

from device.slots.keeper import Keeper
from device.slots.wire import LINE_BYTES_MAX, Refusal, Refused, line_of, read_ask

LINE_S: Final = 2.0
LOOK_S: Final = 1.0
BACKLOG: Final = 8
_CREDENTIALS: Final = struct.Struct("3i")
"""`struct ucred` (unix(7)): process, user, group."""

_log = structlog.get_logger(__name__)


def listen(path: Path, group: int | None) -> socket.socket:
    """A socket at `path` for its owner and `group`. Raises OSError."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    listening.bind(str(path))
    if group is not None:
        with suppress(PermissionError):
            os.chown(path, -1, group)
    path.chmod(0o660)
    listening.listen(BACKLOG)
    return listening


def serve(
    listening: socket.socket, keeper: Keeper, users: AbstractSet[int], stopping: Event
) -> None:
    """One after the other: none of the four takes long, an installation least of all."""
    listening.settimeout(LOOK_S)
    while not stopping.is_set():
        try:
            keeper.mind()
            peer, _ = listening.accept()
        except TimeoutError:
            continue
        with peer:
            try:
                _attend(peer, keeper, users)
            except OSError as error:
                _log.info("peer_gone", reason=error.strerror or type(error).__name__)
            except Exception:  # noqa: BLE001 -- the next one must be answered
                _log.exception("not_answered")


def _attend(peer: socket.socket, keeper: Keeper, users: AbstractSet[int]) -> None:
    said = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(said)
    if user not in users:
        _log.warning("stranger", user=user)
        return
    line = _read_line(peer)
    ask = None if line is None else read_ask(line)
    answer = Refused(Refusal.MALFORMED) if ask is None else keeper.answer(ask)
    peer.settimeout(LINE_S)
    peer.sendall(line_of(answer))


def _read_line(peer: socket.socket) -> bytes | None:
    """None where it is no line, too long, or does not come in time."""
    until = monotonic() + LINE_S
    line = b""
    while b"\n" not in line:
        left = until - monotonic()
        if left <= 0 or len(line) > LINE_BYTES_MAX:
            return None
        peer.settimeout(left)
        try:
            chunk = peer.recv(LINE_BYTES_MAX + 1 - len(line))
        except TimeoutError:
            return None
        if not chunk:
            return None
        line += chunk
    return line
