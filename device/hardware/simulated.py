"""The edge to a socket: keys, frames, pin levels and printed bytes as JSON lines.

Behind it the real drivers run. The appliance is the server of a Unix socket; several clients may
come and go. A client sends (see `Order`)

    {"press": "5"}   {"release": "5"}   {"tap": "5", "hold_ms": 60}   {"paper": "out"}
    {"wifi": {"networks": {"name": "password"}, "has_wifi": true}}
    {"scene": {"width": w, "height": h, "grey": base64 of w * h bytes}}   {"scene": null}

where paper is "ok", "low", "out", "open" (the cover), "hung", "away" or "silent" (it prints and
never says how it is); and every client is sent, with times in monotonic seconds,

    {"pins": {"red": 0..1, "green": 0..1, "blue": 0..1}, "at": t}   at first and at each change
    {"tone": hertz or null, "at": t}   {"printed": base64 of bytes, "at": t}
    {"joined": name}   a Wi-Fi network
    {"captured_at": t}   when the camera first sees a new scene

while the sender of an order alone gets {"tapped": key, "at": t} when the driver had time to see the
press and the release, or {"refused": why}.
"""

import asyncio
import base64
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Thread
from time import monotonic  # noqa: TID251 -- the edge stamps what leaves it
from typing import Annotated, Final, TypeVar

import msgspec
import structlog

from device.hardware.keypad import LAYOUT
from device.hardware.settings import HardwareSettings
from device.hardware.simulated_camera import Scene, Stage
from device.hardware.simulated_paper import Paper, SimulatedPaper
from device.hardware.simulated_pins import KeyMatrix, SimulatedFactory
from device.hardware.simulated_wifi import Reach, SimulatedWifi

LINE_MAX: Final = 16 * 1024 * 1024
"""Bytes: a frame of 8 megapixels in base64, and some."""

UNREAD_MAX: Final = 8 * 1024 * 1024

TAP_GAP_S: Final = 0.04
TAP_MAX_S: Final = 5.0
PRESS_LOOKS: Final = 12
RELEASE_LOOKS: Final = 5
"""How often the driver must have looked at a key's column before a tap goes on: on a busy machine
a tap by the clock alone could fall between two scans."""

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line from a client."""

    press: str | None = None
    release: str | None = None
    tap: str | None = None
    hold_ms: Annotated[int, msgspec.Meta(ge=0, le=5000)] = 60
    scene: Scene | msgspec.UnsetType | None = msgspec.UNSET
    paper: Paper | None = None
    wifi: Reach | None = None

    def __post_init__(self) -> None:
        for key in (self.press, self.release, self.tap):
            if key is not None and (len(key) != 1 or key not in "".join(LAYOUT)):
                raise ValueError("there is no such key")


class SimulatedEdge:
    """The socket, and the parts' other side behind it."""

    def __init__(self, settings: HardwareSettings) -> None:
        assert settings.socket is not None, "HardwareSettings refuses a simulation with no socket"
        self._path = Path(settings.socket)
        self._clients: set[asyncio.StreamWriter] = set()
        self._pins: dict[str, object] = {"pins": {"red": 0.0, "green": 0.0, "blue": 0.0}, "at": 0.0}
        self.paper = SimulatedPaper(self._on_paper)
        self.wifi = SimulatedWifi(on_joined=lambda ssid: self._tell({"joined": ssid}))
        self.matrix = KeyMatrix()
        self.pin_factory = SimulatedFactory(
            settings, self.matrix, on_colour=self._on_colour, on_tone=self._on_tone
        )
        self._stage = Stage()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._run, name="edge", daemon=True)
        self._thread.start()
        try:
            self._server = self._call(self._listen())
        except BaseException:
            self._stop()
            self._stage.close()
            raise

    @property
    def stage(self) -> tuple[int, int, int]:
        """What the reading process looks at, until `close`."""
        return self._stage.descriptors

    def close(self) -> None:
        self.paper.put("away")  # whatever still hangs in it comes back
        self._call(self._hang_up())
        self._stop()
        self._stage.close()
        self._path.unlink(missing_ok=True)

    def _on_colour(self, red: float, green: float, blue: float) -> None:
        self._pins = {"pins": {"red": red, "green": green, "blue": blue}, "at": monotonic()}
        self._tell(self._pins)

    def _on_capture(self) -> None:
        for captured_at in self._stage.first_captures():
            self._tell({"captured_at": captured_at})

    def _on_tone(self, hz: float | None) -> None:
        self._tell({"tone": hz, "at": monotonic()})

    def _on_paper(self, printed: bytes) -> None:
        self._tell({"printed": base64.b64encode(printed).decode(), "at": monotonic()})

    def _tell(self, message: dict[str, object]) -> None:
        line = msgspec.json.encode(message) + b"\n"
        with suppress(RuntimeError):  # the edge is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._write, line)

    def _write(self, line: bytes) -> None:
        for client in self._clients:
            if client.transport.get_write_buffer_size() > UNREAD_MAX:
                client.transport.abort()  # it stopped reading; the device must not keep its mail
            elif not client.is_closing():
                client.write(line)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _call(self, work: "Coroutine[None, None, T]") -> T:
        result: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return result.result(timeout=10)

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _listen(self) -> asyncio.AbstractServer:
        self._path.unlink(missing_ok=True)  # left by a device that was killed
        server = await asyncio.start_unix_server(self._serve, self._path, limit=LINE_MAX)
        self._path.chmod(0o600)  # whoever presses these keys is staff
        self._loop.add_reader(self._stage.told, self._on_capture)
        return server

    async def _hang_up(self) -> None:
        self._loop.remove_reader(self._stage.told)
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for client in tuple(self._clients):
            client.close()
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(msgspec.json.encode(self._pins) + b"\n")
        self._clients.add(writer)
        try:
            while line := await reader.readline():
                try:
                    order = msgspec.json.decode(line, type=Order)
                except (msgspec.DecodeError, ValueError) as refusal:
                    writer.write(msgspec.json.encode({"refused": str(refusal)}) + b"\n")
                    continue
                await self._obey(order, writer)
        except asyncio.CancelledError:
            # Only `_hang_up` cancels, and it waits for this task to end.
            _log.debug("the simulated edge closes")
        except (ConnectionError, ValueError):
            _log.warning("a client of the simulated edge was cut off")
        finally:
            self._clients.discard(writer)
            writer.close()

    async def _obey(self, order: Order, writer: asyncio.StreamWriter) -> None:
        if order.press is not None:
            self.matrix.press(order.press)
        if order.release is not None:
            self.matrix.release(order.release)
        if order.tap is not None:
            # One tap after the other, as a finger does it: the next line waits.
            self.matrix.press(order.tap)
            await self._looked_at(order.tap, PRESS_LOOKS, order.hold_ms / 1000)
            self.matrix.release(order.tap)
            await self._looked_at(order.tap, RELEASE_LOOKS, TAP_GAP_S)
            tapped = {"tapped": order.tap, "at": monotonic()}
            writer.write(msgspec.json.encode(tapped) + b"\n")
        if order.scene is not msgspec.UNSET:
            self._stage.put(order.scene)
        if order.paper is not None:
            self.paper.put(order.paper)
        if order.wifi is not None:
            self.wifi.put(order.wifi)

    async def _looked_at(self, key: str, looks: int, at_least_s: float) -> None:
        began_at, first = monotonic(), self.matrix.looks(key)
        await asyncio.sleep(at_least_s)
        # The looks are counted by the keypad's own thread, which knows nothing of this one.
        while (  # noqa: ASYNC110
            self.matrix.looks(key) < first + looks and monotonic() < began_at + TAP_MAX_S
        ):
            await asyncio.sleep(0.005)
