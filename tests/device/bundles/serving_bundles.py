"""A cloud's listener as far as bundles go: over TLS, with whatever tricks a test wants of it."""

import ssl
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from device.bundles.fetch import Way
from device.identity.exchange import Address


@dataclass
class Shelf:
    """What is served, and how."""

    content: bytes
    etag: str = ""
    cut_after: int | None = None
    """Bytes of each answer, and then the connection is gone."""
    ignores_range: bool = False
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])
    asked: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    before_body: Callable[[], None] = lambda: None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        shelf: Shelf = self.server.shelf  # type: ignore[attr-defined]
        shelf.asked.append({"path": self.path, **dict(self.headers.items())})
        begin, status = 0, 200
        asked = self.headers.get("Range")
        is_same = self.headers.get("If-Range", shelf.etag) == shelf.etag
        if asked is not None and not shelf.ignores_range and is_same:
            begin, status = int(asked.removeprefix("bytes=").removesuffix("-")), 206
        size = len(shelf.content)
        if begin >= size:
            status = 416
        body = shelf.content[begin:] if status != 416 else b""
        self.send_response(shelf.status or status)
        said = {"Content-Length": str(len(body)), "ETag": shelf.etag}
        if status == 206:
            said["Content-Range"] = f"bytes {begin}-{size - 1}/{size}"
        for name, value in (said | shelf.headers).items():
            self.send_header(name, value)
        self.end_headers()
        shelf.before_body()
        whole = body if shelf.cut_after is None else body[: shelf.cut_after]
        with suppress(OSError):
            self.wfile.write(whole)
            self.wfile.flush()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: the tests look at what was asked."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, shelf: Shelf, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.shelf = shelf
        self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One that is not believed hangs up; that is what is tried."""


@contextmanager
def serving(shelf: Shelf, certificate: Path, key: Path, believed: Path) -> Generator[Way]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = Server(shelf, context)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        ours = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ours.load_verify_locations(believed)
        yield Way(Address("127.0.0.1", server.server_address[1]), ours)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
