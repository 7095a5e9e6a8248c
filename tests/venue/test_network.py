import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from venue.network import Network, Wire


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that says back what it is told, and counts what reached it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=server.accept()[:1], daemon=True).start()

        def answer(peer: socket.socket) -> None:
            with peer, contextlib.suppress(OSError):
                while said := peer.recv(1024):
                    peer.sendall(said)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def network(echo: int) -> Iterator[Network]:
    relay = Network(echo)
    yield relay
    relay.close()


def connect(network: Network) -> socket.socket:
    return socket.create_connection(("127.0.0.1", network.port), timeout=5)


def wait_until(it_is_so: Callable[[], bool]) -> None:
    """The test's own time limit ends it."""
    while not it_is_so():
        time.sleep(0.01)


def is_broken(peer: socket.socket) -> bool:
    try:
        return peer.recv(10) == b""
    except ConnectionError:
        return True


def test_a_whole_wire_carries_both_ways(network: Network) -> None:
    with connect(network) as peer:
        peer.sendall(b"hello")
        assert peer.recv(10) == b"hello"


def test_a_cut_breaks_what_is_connected_and_refuses_the_next(network: Network) -> None:
    with connect(network) as peer:
        peer.sendall(b"hello")
        assert peer.recv(10) == b"hello"
        network.cut()
        assert is_broken(peer)
    with connect(network) as late:
        assert is_broken(late)
    network.mend()
    with connect(network) as peer:
        peer.sendall(b"again")
        assert peer.recv(10) == b"again"


@pytest.mark.parametrize("lose", ["swallow_replies", "silence"])
def test_a_wire_that_loses_bytes_tells_nobody_until_it_is_mended(
    network: Network, lose: str
) -> None:
    with connect(network) as peer:
        peer.sendall(b"hello")
        assert peer.recv(10) == b"hello"
        getattr(network, lose)()
        assert network.wire is not Wire.WHOLE
        peer.sendall(b"anybody?")
        peer.settimeout(0.3)
        with pytest.raises(TimeoutError):
            peer.recv(10)
        network.mend()
        peer.settimeout(5)
        assert is_broken(peer)


def test_lost_requests_never_reach_the_server_and_are_counted(network: Network) -> None:
    with connect(network) as peer:
        peer.sendall(b"hello")
        assert peer.recv(10) == b"hello"
        network.swallow_requests()
        peer.sendall(b"anybody?")
        wait_until(lambda: network.requests.lost == 8)
        assert network.requests.carried == 5
        assert (network.replies.carried, network.replies.lost) == (5, 0)
        network.mend()
        peer.settimeout(5)
        assert is_broken(peer)


def test_replies_are_lost_from_the_last_awaited_word_on(network: Network) -> None:
    network.swallow_replies_after(b"INSERT", b"COMMIT")
    with connect(network) as peer:
        for said in (b"COMMIT", b"INSERT", b"COM"):
            peer.sendall(said)
            assert peer.recv(10) == said
        peer.sendall(b"MIT")
        wait_until(lambda: network.replies.lost == 3)
        assert network.wire is Wire.SWALLOWING_REPLIES
        assert (network.requests.carried, network.requests.lost) == (18, 0)
