"""Whose certificate a TLS connection was made with, as the ASGI TLS extension tells it."""

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any, Final, cast

from fastapi import Request
from starlette.types import Receive, Scope, Send

from cloud.api.wire import Wire
from protocol.signing import thumbprint

_EXTENSION: Final = "tls"


class PeerWire(Wire):
    """uvicorn leaves the extension out (docs/decisions/0027-est-on-a-listener-of-its-own.md).

    OpenSSL checked the chain before this is called: one it did not accept ended the handshake.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        said, app = _extension(transport), self.app

        async def with_peer(scope: Scope, receive: Receive, send: Send) -> None:
            extensions = {**scope.get("extensions", {}), _EXTENSION: said}
            await app({**scope, "extensions": extensions}, receive, send)

        self.app = with_peer


def peer_thumbprint(request: Request) -> str | None:
    """`x5t#S256` of the client's certificate; None where it showed none."""
    said = cast("dict[str, Any]", request.scope.get("extensions", {}).get(_EXTENSION, {}))
    chain = cast("Sequence[str]", said.get("client_cert_chain", ()))
    return thumbprint(ssl.PEM_cert_to_DER_cert(chain[0])) if chain else None


def _extension(transport: asyncio.Transport) -> dict[str, Any]:
    """As https://asgi.readthedocs.io/en/latest/specs/tls.html has it; the chain is its first
    certificate alone."""
    line = cast("ssl.SSLObject", transport.get_extra_info("ssl_object"))
    shown = line.getpeercert(binary_form=True)
    return {
        "server_cert": None,
        "client_cert_chain": () if shown is None else (ssl.DER_cert_to_PEM_cert(shown),),
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}.get(line.version() or ""),
        "cipher_suite": None,
    }
