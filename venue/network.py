"""The wire between an appliance and the cloud, which can be cut, mended, or made one-way."""

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from venue.programs import free_port

CHUNK_BYTES: Final = 64 * 1024
START_WITHIN_S: Final = 60.0


class Wire(Enum):
    """What the wire does with what is put on it."""

    WHOLE = auto()
    SWALLOWING_REPLIES = auto()
    """Requests arrive, replies do not: the worst moment to lose a network."""
    SWALLOWING_REQUESTS = auto()
    """What this end sends is lost; what is sent to it arrives."""
    SILENT = auto()
    """Nothing arrives either way, and nobody is told: a dead access point."""
    CUT = auto()
    """Connections break, and new ones are refused."""


@dataclass
class Traffic:
    """Bytes of one direction, over all connections."""

    carried: int = 0
    lost: int = 0


class Network:
    """A TCP relay on loopback that stands between one program and the server it calls.

    What was swallowed is lost for its connection (TLS notices the hole), so mending breaks the
    connections that lost bytes, as a real network would end them sooner or later.
    """

    def __init__(self, target_port: int) -> None:
        """Relay a port of our own, `port`, to `target_port` on this machine."""
        self.port: Final = free_port()
        self.requests: Final = Traffic()
        self.replies: Final = Traffic()
        self._target_port = target_port
        self._wire = Wire.WHOLE
        self._needles: tuple[bytes, ...] = ()
        self._pipes: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stopped = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="network", daemon=True)
        self._thread.start()
        assert self._ready.wait(START_WITHIN_S), "the relay did not start"

    @property
    def wire(self) -> Wire:
        return self._wire

    def swallow_replies(self) -> None:
        self._wire = Wire.SWALLOWING_REPLIES

    def swallow_replies_after(self, *needles: bytes) -> None:
        """Let requests through until one connection has sent all of these, in this order.

        From then on replies are swallowed, the reply to the last of them first.
        """
        self._needles = needles

    def swallow_requests(self) -> None:
        self._wire = Wire.SWALLOWING_REQUESTS

    def silence(self) -> None:
        self._wire = Wire.SILENT

    def cut(self) -> None:
        self._break_connections(Wire.CUT)

    def mend(self) -> None:
        self._needles = ()
        if self._wire is not Wire.WHOLE:
            self._break_connections(Wire.WHOLE)

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)
        self._ready.set()
        await self._stopped.wait()
        server.close()
        self._abort_all()
        pending = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._wire is Wire.CUT:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._pipes |= {writer, far_writer}
        try:
            await asyncio.gather(
                self._pump_requests(reader, far_writer),
                self._pump_replies(far_reader, writer),
            )
        finally:
            for end in (writer, far_writer):
                end.transport.abort()
            self._pipes -= {writer, far_writer}

    async def _pump_requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        armed: tuple[bytes, ...] = ()
        unsaid: tuple[bytes, ...] = ()
        said = b""
        with contextlib.suppress(ConnectionError, TimeoutError):
            while chunk := await reader.read(CHUNK_BYTES):
                if armed is not self._needles:
                    armed = unsaid = self._needles
                    said = b""
                if unsaid:
                    unsaid, said = _seek(unsaid, said + chunk)
                    if not unsaid:
                        self._wire = Wire.SWALLOWING_REPLIES
                lost_on = (Wire.SWALLOWING_REQUESTS, Wire.SILENT)
                await self._carry(chunk, writer, self.requests, lost_on)
        writer.transport.abort()

    async def _pump_replies(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            while chunk := await reader.read(CHUNK_BYTES):
                lost_on = (Wire.SWALLOWING_REPLIES, Wire.SILENT)
                await self._carry(chunk, writer, self.replies, lost_on)
        writer.transport.abort()

    async def _carry(
        self,
        chunk: bytes,
        writer: asyncio.StreamWriter,
        traffic: Traffic,
        lost_on: Sequence[Wire],
    ) -> None:
        if self._wire in lost_on:
            traffic.lost += len(chunk)
            return
        writer.write(chunk)
        await writer.drain()
        traffic.carried += len(chunk)

    def _break_connections(self, wire: Wire) -> None:
        """At one moment for all: none that is made meanwhile is broken by mistake."""
        done = threading.Event()

        def abort() -> None:
            self._wire = wire
            self._abort_all()
            done.set()

        self._loop.call_soon_threadsafe(abort)
        done.wait(START_WITHIN_S)

    def _abort_all(self) -> None:
        for writer in tuple(self._pipes):
            writer.transport.abort()


def _seek(needles: tuple[bytes, ...], said: bytes) -> tuple[tuple[bytes, ...], bytes]:
    """The needles not said so far, in their order, and what may hold the next one's beginning."""
    for number, needle in enumerate(needles):
        at = said.find(needle)
        if at < 0:
            return needles[number:], said[-len(needle) :]
        said = said[at + len(needle) :]
    return (), b""
