"""The simulated camera: scenes go to the reading process in memory that both can see."""

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from select import select
from struct import Struct
from time import monotonic  # noqa: TID251 -- the edge stamps what leaves it
from typing import Annotated, Final

import msgspec

from device.hardware.camera import Frame

FRAME_INTERVAL_S: Final = 0.04
EMPTY_INTERVAL_S: Final = 0.1

_HEADER: Final = Struct("=QII?")
"""Number, width, height, and whether the pixels behind it are all there. Width 0: no scene."""

_CAPTURE: Final = Struct("=Qd")
"""A scene's number and when it was first captured."""

_TOLD_AT_ONCE_MAX: Final = 16

# Small, so that looking at nothing costs next to nothing.
_EMPTY_COUNTER: Final = memoryview(bytes([128]) * (160 * 90)).cast("B", (90, 160))


class Scene(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What lies before the camera: `grey` is width times height bytes, row by row."""

    width: Annotated[int, msgspec.Meta(ge=16, le=4096)]
    height: Annotated[int, msgspec.Meta(ge=16, le=4096)]
    grey: bytes

    def __post_init__(self) -> None:
        if len(self.grey) != self.width * self.height:
            raise ValueError("grey is not width times height bytes")


class Stage:
    """The edge's side: what lies before the camera, whichever process looks at it, and how often.

    A file without a name, not a line: nothing queues for a process that rests, hangs or died.
    """

    def __init__(self) -> None:
        self._picture = os.memfd_create("scene")
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.told, self._tell = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.told.setblocking(False)
        self._tell.setblocking(False)
        self._number = 0
        self._is_captured = True
        self.put(None)

    @property
    def descriptors(self) -> tuple[int, int, int]:
        """What a SimulatedCamera is made of."""
        return self._picture, self._bell, self._tell.fileno()

    def put(self, scene: Scene | None) -> None:
        self._number += 1
        os.pwrite(self._picture, _HEADER.pack(self._number, 0, 0, False), 0)
        width = height = 0
        if scene is not None:
            width, height = scene.width, scene.height
            written = 0
            while written < len(scene.grey):
                written += os.pwrite(
                    self._picture, memoryview(scene.grey)[written:], _HEADER.size + written
                )
        os.pwrite(self._picture, _HEADER.pack(self._number, width, height, True), 0)
        self._is_captured = scene is None
        os.eventfd_write(self._bell, 1)

    def first_captures(self) -> list[float]:
        """When the present scene was first captured, if that has just been told."""
        captures: list[float] = []
        with suppress(BlockingIOError):
            for _ in range(_TOLD_AT_ONCE_MAX):
                packet = self.told.recv(_CAPTURE.size + 1)
                if len(packet) != _CAPTURE.size:
                    continue  # whoever sees pictures may be made to say anything, and much of it
                number, captured_at = _CAPTURE.unpack(packet)
                if number == self._number and not self._is_captured:
                    self._is_captured = True
                    captures.append(captured_at)
        return captures

    def close(self) -> None:
        self.told.close()
        self._tell.close()
        os.close(self._bell)
        os.close(self._picture)


@dataclass(frozen=True)
class _Shown:
    number: int
    frame: memoryview
    is_empty: bool


class SimulatedCamera:
    """Yields a new scene at once, then 25 times a second; without one, an empty counter."""

    def __init__(self, picture: int, bell: int, told: int) -> None:
        """Descriptors as in `Stage`, which keeps them."""
        self._picture, self._bell, self._told = picture, bell, told
        self._shown = _Shown(0, _EMPTY_COUNTER, is_empty=True)

    def capture(self) -> Frame | None:
        shown = self._newest()
        if shown is None or shown.number == self._shown.number:
            self._wait(EMPTY_INTERVAL_S if self._shown.is_empty else FRAME_INTERVAL_S)
            shown = self._newest()
            if shown is None:
                return None
        captured_at = monotonic()
        is_new = shown.number != self._shown.number
        self._shown = shown
        if is_new and not shown.is_empty:
            with suppress(BlockingIOError):
                os.write(self._told, _CAPTURE.pack(shown.number, captured_at))
        return Frame(shown.frame, captured_at)

    def rest(self) -> None: ...

    def close(self) -> None: ...

    def _wait(self, seconds: float) -> None:
        if select([self._bell], [], [], seconds)[0]:
            with suppress(BlockingIOError):
                os.eventfd_read(self._bell)

    def _newest(self) -> _Shown | None:
        """What lies there now; None while it is being exchanged."""
        header = self._header()
        number, width, height, is_whole = header
        if not is_whole:
            return None
        if number == self._shown.number:
            return self._shown
        if width == 0:
            return _Shown(number, _EMPTY_COUNTER, is_empty=True)
        grey = os.pread(self._picture, width * height, _HEADER.size)
        if self._header() != header:
            return None
        return _Shown(number, memoryview(grey).cast("B", (height, width)), is_empty=False)

    def _header(self) -> tuple[int, int, int, bool]:
        number, width, height, is_whole = _HEADER.unpack(os.pread(self._picture, _HEADER.size, 0))
        return number, width, height, is_whole
