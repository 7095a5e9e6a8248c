"""uvicorn as this server runs it: its own wire, its own shutdown, TLS where it has some."""

import socket
import ssl
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from cloud.api.changes import WalletChanges
from cloud.api.defences import HEAD_BYTES_MAX
from cloud.api.wire import Wire
from cloud.settings import HttpSettings, SettingsError

REQUESTS_END_WITHIN_S: Final = 25
"""How long the last requests may take once the server was told to stop; a card provider answers or
fails within that."""
_BACKLOG: Final = 512


class Server(uvicorn.Server):
    """Leaves the signals to us; open streams end before it waits for them."""

    def __init__(
        self,
        app: ASGIApp,
        settings: HttpSettings,
        changes: WalletChanges | None = None,
        *,
        wire: type[Wire] = Wire,
    ) -> None:
        super().__init__(_config(app, settings, wire))
        self._changes = changes

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._changes is not None:
            self._changes.stop()
        await super().shutdown(sockets)


def listen(host: str, port: int, section: str = "http") -> socket.socket:
    """Raises SettingsError, which names the section, where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise SettingsError(
            f"{section}: cannot listen on {host} port {port}: {error.strerror}"
        ) from error
    listening.listen(_BACKLOG)
    return listening


def reachable(host: str) -> str:
    """Where this machine itself reaches the address it listens on."""
    match host:
        case "0.0.0.0":  # noqa: S104  # read from the settings, not bound here
            return "127.0.0.1"
        case "::":
            return "[::1]"
        case _:
            return f"[{host}]" if ":" in host else host


def _config(app: ASGIApp, settings: HttpSettings, wire: type[Wire]) -> uvicorn.Config:
    certificate, key = settings.tls_certificate, settings.tls_key
    config = uvicorn.Config(
        app,
        http=wire,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,  # ours names the route: an address may hold a secret
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=HEAD_BYTES_MAX,
        timeout_graceful_shutdown=REQUESTS_END_WITHIN_S,
        ssl_certfile=None if certificate is None else str(certificate),
        ssl_keyfile=None if key is None else str(key),
    )
    config.load()
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return config
