"""Fetches a bundle over HTTPS: goes on where it was cut off, slowly, and never to the last byte
of the disk.

The address names the content, so whatever was fetched of it is good for ever; only the SHA-256 of
all of it counts in the end.
"""

import errno
import hashlib
import http.client
import os
import re
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic, sleep  # noqa: TID251 -- an edge: pace and stalls are measured here
from typing import Final

import structlog

from device.bundles.folder import BundleFolder
from device.identity.exchange import Address
from device.updating.deciding import ROOM_FOR_THE_JOURNAL
from protocol.updates import Update, bundle_path

CONNECT_S: Final = 15.0
SILENCE_S: Final = 30.0
STALL_S: Final = 120.0
STALL_BYTES: Final = 64 * 1024
"""Less than this in that time: it is begun anew, perhaps over another way."""
CHUNK: Final = 64 * 1024
MADE_UP_S: Final = 1.0
FLUSH_BYTES: Final = 512 * 1024
"""Never more than this waits to be written: a sale's own flush would have to wait for it, since
ext4 writes what is older first."""
FREE_MIN: Final = ROOM_FOR_THE_JOURNAL // 2
"""Below this what was fetched goes."""
BYTES_PER_S: Final = 1024 * 1024
BUSY_S: Final = 60.0

_RANGE: Final = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})", re.ASCII)
_log = structlog.get_logger(__name__)


class Trouble(StrEnum):
    NO_WAY = "no_way"
    """No network, nobody there, or an answer that was cut off: the next try goes on."""
    NOT_BELIEVED = "not_believed"
    REFUSED = "refused"
    """This appliance gets none: revoked, or not announced to it."""
    GONE = "gone"
    BUSY = "busy"
    STRANGE = "strange"
    CHANGED = "changed"
    """All of it came, and it is not what was announced."""
    NO_ROOM = "no_room"
    DISK = "disk"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Failure:
    trouble: Trouble
    detail: str = ""
    wait_s: float = 0.0
    """What the server asks for."""


@dataclass(frozen=True)
class Way:
    """Where the cloud is for appliances, and by which certificate."""

    address: Address
    context: ssl.SSLContext


@dataclass
class Pace:
    """How fast, and whether at all; changed by the till's own thread."""

    bytes_per_s: float = BYTES_PER_S
    is_held: bool = False
    """A customer waits: the network is the sale's."""
    is_stopped: bool = False
    sleep: Callable[[float], None] = sleep
    _due_at: float = 0.0

    def take(self, size: int) -> bool:
        """Wait until so many bytes more are due; whether a customer held it up.

        Of what a slow network or a customer held up a second's worth is made up for and no more.
        """
        now = monotonic()
        self._due_at = max(self._due_at, now - MADE_UP_S) + size / self.bytes_per_s
        if self._due_at > now:
            self.sleep(self._due_at - now)
        return self.wait_for_customers()

    def wait_for_customers(self) -> bool:
        was_held = False
        while self.is_held and not self.is_stopped:
            was_held = True
            self.sleep(0.1)
        return was_held


def fetch(way: Way, update: Update, folder: BundleFolder, pace: Pace) -> Failure | None:
    """All of it, or as much as there was. None: it is whole, right, and on the disk."""
    try:
        descriptor = folder.open_part(update.sha256)
    except OSError as error:
        return _of_disk(error)
    with os.fdopen(descriptor, "r+b", buffering=0) as part:
        try:
            there = part.seek(0, os.SEEK_END)
            if there > update.size:
                part.truncate(0)
                there = 0
            if there < update.size:
                into = _Into(update, part.fileno(), folder, pace)
                failure = _fetch_rest(way, into, there)
                if failure is not None:
                    return _let_go(failure, update, folder)
            os.fsync(part.fileno())
            digest = _digest(part.fileno(), pace)
            if digest is None:
                return Failure(Trouble.STOPPED)
            if digest != update.sha256:
                return _let_go(Failure(Trouble.CHANGED, f"it is {digest}"), update, folder)
            folder.call_whole(update.sha256)
        except OSError as error:
            return _let_go(_of_disk(error), update, folder)
    return None


@dataclass(frozen=True)
class _Into:
    """The file that grows."""

    update: Update
    part: int
    folder: BundleFolder
    pace: Pace


def _fetch_rest(way: Way, into: _Into, there: int) -> Failure | None:
    address, update = way.address, into.update
    try:
        plain = socket.create_connection((address.host, address.port), timeout=CONNECT_S)
    except (OSError, UnicodeError) as error:
        return Failure(Trouble.NO_WAY, _say(error))
    with plain:
        plain.settimeout(SILENCE_S)
        try:
            with way.context.wrap_socket(plain, server_hostname=address.host) as wire:
                connection = http.client.HTTPConnection(address.host, address.port)
                connection.sock = wire
                headers = {"Connection": "close"}
                if there:
                    headers |= {"Range": f"bytes={there}-", "If-Range": f'"{update.sha256}"'}
                connection.request("GET", bundle_path(update.sha256), headers=headers)
                response = connection.getresponse()
                begin = _begin_of(response, update, there)
                if isinstance(begin, Failure):
                    return begin
                os.ftruncate(into.part, begin)
                return _take(response, into, begin)
        except _DiskError as error:
            return _of_disk(error.error)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return _of_wire(error)


def _begin_of(response: http.client.HTTPResponse, update: Update, there: int) -> int | Failure:
    """From which byte on this answer goes."""
    match response.status:
        case 200:
            if response.length not in {None, update.size}:
                return Failure(Trouble.STRANGE, f"it would be {response.length} bytes")
            return 0
        case 206:
            said = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if said is None or (int(said[1]), int(said[3])) != (there, update.size):
                return Failure(Trouble.STRANGE, "another range than was asked for")
            return there
        case 416:
            # It has less of it than we do: begin anew.
            return Failure(Trouble.CHANGED, "the rest of it is not there")
        case 401 | 403 | 409:
            return Failure(Trouble.REFUSED, f"status {response.status}")
        case 404 | 410:
            return Failure(Trouble.GONE, f"status {response.status}")
        case 429 | 503:
            asked = response.headers.get("Retry-After", "")
            wait_s = float(asked) if asked.isdecimal() and len(asked) < 6 else BUSY_S
            return Failure(Trouble.BUSY, f"status {response.status}", wait_s)
        case status:
            return Failure(Trouble.STRANGE, f"status {status}")


def _take(response: http.client.HTTPResponse, into: _Into, at: int) -> Failure | None:
    update, part, pace, folder = into.update, into.part, into.pace, into.folder
    window_at = monotonic()
    window = unflushed = 0
    while at < update.size:
        if pace.is_stopped:
            return Failure(Trouble.STOPPED)
        chunk = response.read(min(CHUNK, update.size - at))
        if not chunk:
            return Failure(Trouble.NO_WAY, "it was cut off")
        _write(part, chunk, at)
        at += len(chunk)
        window += len(chunk)
        unflushed += len(chunk)
        if unflushed >= FLUSH_BYTES:
            unflushed = 0
            _flush(part)
            if folder.free_bytes() < FREE_MIN:
                return Failure(Trouble.NO_ROOM, "the disk is nearly full")
        if pace.take(len(chunk)):
            window_at, window = monotonic(), 0
        if monotonic() - window_at > STALL_S:
            if window < STALL_BYTES:
                return Failure(Trouble.NO_WAY, "hardly anything comes")
            window_at, window = monotonic(), 0
    return None


class _DiskError(Exception):
    """The disk's own error, to be told from the network's."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def _write(part: int, chunk: bytes, at: int) -> None:
    try:
        view = memoryview(chunk)
        while view:
            written = os.pwrite(part, view, at)
            view, at = view[written:], at + written
    except OSError as error:
        raise _DiskError(error) from error


def _flush(part: int) -> None:
    try:
        os.fdatasync(part)
        # What was written is not read before the end: sales have the memory.
        os.posix_fadvise(part, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError as error:
        raise _DiskError(error) from error


def _digest(part: int, pace: Pace) -> str | None:
    """Of all of it, as it lies on the disk; None where it is to stop."""
    digest = hashlib.sha256()
    at = 0
    while chunk := os.pread(part, 1024 * 1024, at):
        pace.wait_for_customers()
        if pace.is_stopped:
            return None
        digest.update(chunk)
        at += len(chunk)
    return digest.hexdigest()


def _let_go(failure: Failure, update: Update, folder: BundleFolder) -> Failure:
    """What is of no use, or takes the room that sales need."""
    if failure.trouble in {Trouble.CHANGED, Trouble.NO_ROOM}:
        with suppress(OSError):
            folder.drop(update.sha256)
    return failure


def _of_disk(error: OSError) -> Failure:
    is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    return Failure(Trouble.NO_ROOM if is_full else Trouble.DISK, error.strerror or "")


def _of_wire(error: Exception) -> Failure:
    match error:
        case ssl.SSLCertVerificationError():
            return Failure(Trouble.NOT_BELIEVED, str(error.verify_message))
        case ssl.SSLError():
            # A revoked appliance's certificate is refused within TLS.
            return Failure(Trouble.NO_WAY, str(error.reason or error))
        case OSError() | http.client.IncompleteRead():
            return Failure(Trouble.NO_WAY, _say(error))
        case _:
            return Failure(Trouble.STRANGE, type(error).__name__)


def _say(error: Exception) -> str:
    strerror: str | None = getattr(error, "strerror", None)
    return strerror or str(error) or type(error).__name__
