"""One HTTPS exchange with the cloud: a deadline over all of it, and a bounded answer."""

import http.client
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from typing import Final

from device.enrolling.happenings import Trouble

CONNECT_S: Final = 8.0
"""An address; a name may have several."""
DEADLINE_S: Final = 30.0
"""From the first byte of the handshake to the last of the answer, however slowly each comes."""
ANSWER_BYTES_MAX: Final = 256 * 1024

NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME (openssl/x509_vfy.h), which Python's ssl does not name."""
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
"""X509_V_ERR_..., verify(1)."""


@dataclass(frozen=True)
class Address:
    host: str
    port: int

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}"

    def __str__(self) -> str:
        return self.url.removeprefix("https://")


@dataclass(frozen=True)
class Failure:
    """Nothing came of it; `detail` is for a person and the log, and never secret."""

    trouble: Trouble
    detail: str = ""


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = field(repr=False)


def believing_nobody() -> ssl.SSLContext:
    """For what may be asked of anybody, since its answer is checked by itself: `cacerts`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def believing(
    root_pem: str, *, by_clock: bool, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """TLS 1.2 or later, this authority alone, the host's name checked; our certificate if given.

    `by_clock`: whether a certificate's dates count. An appliance whose clock nobody has set since
    it was switched on lives in the past: by it no certificate would be valid yet, and no claim
    could ever be used. Then name, chain and key must do. Raises OSError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=root_pem)
    if not by_clock:
        context.verify_flags |= NO_CHECK_TIME
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


def exchange(
    address: Address,
    context: ssl.SSLContext,
    method: str,
    path: str,
    *,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
    deadline_s: float = DEADLINE_S,
) -> Answer | Failure:
    """Ask once, follow no redirect; whatever goes wrong is a Failure."""
    try:
        plain = socket.create_connection((address.host, address.port), timeout=CONNECT_S)
    except (OSError, UnicodeError) as error:
        return Failure(Trouble.NO_WAY, _say(address, error))
    with plain:
        cut = _Cut(deadline_s)
        try:
            wire = context.wrap_socket(
                plain, server_hostname=address.host, do_handshake_on_connect=False
            )
            with wire:
                cut.begin(wire)
                wire.do_handshake()
                return _ask(wire, address, (method, path, body, headers or {}))
        except (OSError, http.client.HTTPException, ValueError) as error:
            if cut.is_over:
                return Failure(Trouble.NO_WAY, f"{address}: no whole answer in {deadline_s:g} s")
            return _failure(address, error)
        finally:
            cut.end()


class _Cut:
    """Hangs up when time is up: a socket's own time-out begins anew with each byte."""

    def __init__(self, after_s: float) -> None:
        self.is_over = False
        self._timer = Timer(after_s, self._hang_up)
        self._timer.daemon = True
        self._wire: ssl.SSLSocket | None = None

    def begin(self, wire: ssl.SSLSocket) -> None:
        self._wire = wire
        self._timer.start()

    def end(self) -> None:
        self._timer.cancel()

    def _hang_up(self) -> None:
        self.is_over = True
        if self._wire is not None:
            with suppress(OSError):
                # Of the socket below: TLS's own farewell would wait for the other end.
                socket.socket.shutdown(self._wire, socket.SHUT_RDWR)


def _ask(
    wire: ssl.SSLSocket,
    address: Address,
    asked: tuple[str, str, bytes | None, dict[str, str]],
) -> Answer | Failure:
    method, path, body, headers = asked
    connection = http.client.HTTPConnection(address.host, address.port)
    connection.sock = wire
    connection.request(method, path, body, {"Connection": "close", **headers})
    response = connection.getresponse()
    said = response.read(ANSWER_BYTES_MAX + 1)
    if len(said) > ANSWER_BYTES_MAX:
        return Failure(Trouble.CLOUD_STRANGE, f"{address}: more than {ANSWER_BYTES_MAX} bytes")
    if response.length:
        return Failure(Trouble.NO_WAY, f"{address}: half an answer")
    return Answer(response.status, said)


def _failure(address: Address, error: Exception) -> Failure:
    said = _say(address, error)
    match error:
        case ssl.SSLCertVerificationError():
            is_of_time = error.verify_code in {_NOT_YET_VALID, _EXPIRED}
            return Failure(Trouble.CLOCK if is_of_time else Trouble.NOT_BELIEVED, said)
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError() | http.client.RemoteDisconnected():
            # A wire that was cut in the middle: that is no word of the cloud's.
            return Failure(Trouble.NO_WAY, said)
        case ssl.SSLError() | http.client.HTTPException():
            return Failure(Trouble.CLOUD_STRANGE, said)
        case OSError():
            return Failure(Trouble.NO_WAY, said)
        case _:
            return Failure(Trouble.CLOUD_STRANGE, said)


def _say(address: Address, error: Exception) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            why = str(error.verify_message)
        case ssl.SSLError():
            why = str(error.reason or error)
        case OSError():
            why = error.strerror or str(error) or type(error).__name__
        case _:
            why = type(error).__name__
    return f"{address}: {why}"
