"""The edge behind the server that the programs use, and a plain socket to say anything to it."""

import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from cloud.api.app import make_app
from cloud.api.server import Server, listen
from cloud.settings import HttpSettings
from tests.cloud.api.edge import Edge

Address = tuple[str, int]


@contextmanager
def serving_for_real(edge: Edge) -> Generator[Address]:
    settings = HttpSettings(port=0)
    with listen(settings.host, settings.port) as listening:
        server = Server(make_app(edge.cloud), settings, edge.cloud.changes)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the server did not start"
                time.sleep(0.005)
            yield listening.getsockname()
        finally:
            server.should_exit = True
            thread.join(10)


def said_to(address: Address, sent: bytes) -> bytes:
    """Everything the server says until it hangs up."""
    with socket.create_connection(address, 10) as line:
        line.sendall(sent)
        heard: list[bytes] = []
        while chunk := line.recv(65536):
            heard.append(chunk)
    return b"".join(heard)
