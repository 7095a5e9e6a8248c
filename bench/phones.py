"""Phones on a few kept connections: each asks again as soon as it was answered."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import msgspec

from bench.percentiles import percentiles


class Asked(msgspec.Struct, frozen=True):
    """One round: how many answers, how fast, and what they said."""

    answers: int
    seconds: float
    per_s: float
    ms: dict[str, float]
    statuses: dict[int, int]


def ask(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Asked:
    """Send the requests one after the other, over and over, until the time is up."""
    return asyncio.run(_ask(port, requests, connections, seconds))


async def _ask(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Asked:
    loop, crowd = asyncio.get_running_loop(), _Crowd(requests, time.perf_counter() + seconds)
    began_s = time.perf_counter()
    phones = [
        (await loop.create_connection(lambda: _Phone(crowd), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(phone.is_done for phone in phones))
    taken_s = time.perf_counter() - began_s
    return Asked(
        answers=len(crowd.took_s),
        seconds=taken_s,
        per_s=len(crowd.took_s) / taken_s,
        ms={name: s * 1000 for name, s in percentiles(crowd.took_s).items()},
        statuses=dict(crowd.statuses),
    )


class _Crowd:
    """What the phones share: whose turn it is, and what was measured."""

    def __init__(self, requests: Sequence[bytes], ends_at_s: float) -> None:
        self._requests = requests
        self._at = 0
        self.ends_at_s = ends_at_s
        self.took_s: list[float] = []
        self.statuses: Counter[int] = Counter()

    def next(self) -> bytes:
        self._at = (self._at + 1) % len(self._requests)
        return self._requests[self._at]


class _Phone(asyncio.Protocol):
    def __init__(self, crowd: _Crowd) -> None:
        self._crowd = crowd
        self._transport: asyncio.WriteTransport | None = None
        self._sent_at_s = 0.0
        self._received = b""
        self.is_done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not blank or len(body) < _length(head):
            return
        now = time.perf_counter()
        self._received = b""
        self._crowd.took_s.append(now - self._sent_at_s)
        self._crowd.statuses[int(head[9:12])] += 1
        if now < self._crowd.ends_at_s:
            self._ask()
        else:
            assert self._transport is not None
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio names it
        if not self.is_done.done():
            self.is_done.set_result(None)

    def _ask(self) -> None:
        assert self._transport is not None
        self._sent_at_s = time.perf_counter()
        self._transport.write(self._crowd.next())


def _length(head: bytes) -> int:
    _, name, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.split(b"\r\n", 1)[0]) if name else 0
