"""The camera: the newest grey frame, or None; never a queue of old ones."""

from dataclasses import dataclass
from time import monotonic  # noqa: TID251 -- the camera is an edge: it says when a frame came
from typing import TYPE_CHECKING, Final, Protocol

from device.hardware.settings import CameraSettings

if TYPE_CHECKING:
    from picamera2 import (  # pyright: ignore[reportMissingModuleSource] -- on a Pi alone
        CompletedRequest,
        Job,
    )

CAPTURE_TIMEOUT_S: Final = 0.5


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture: `grey` has two dimensions (height, width), 0 black to 255 white."""

    grey: memoryview
    captured_at: float
    """Monotonic seconds."""


class Camera(Protocol):
    """Where frames come from."""

    def capture(self) -> Frame | None:
        """Wait up to about half a second for a frame newer than the last; None if none came."""
        ...

    def rest(self) -> None:
        """Nobody looks now: the next capture shows what is there when it is asked for."""
        ...

    def close(self) -> None: ...


class PiCamera:
    """A Raspberry Pi camera through picamera2.

    One a process: libcamera does not survive being opened twice (picamera2 #887, #958).
    """

    def __init__(self, settings: CameraSettings) -> None:
        # libcamera exists on a Pi alone, so nothing else may need it to import this file.
        from picamera2 import Picamera2  # noqa: PLC0415 # pyright: ignore[reportMissingModuleSource]

        self._width, self._height = settings.width, settings.height
        size = (settings.width, settings.height)
        controls: dict[str, float | int | bool] = {
            "AeEnable": False,
            "ExposureTime": settings.exposure_us,
            "AnalogueGain": settings.analogue_gain,
        }
        if settings.lens_position != "fixed":
            controls |= {"AfMode": 0, "LensPosition": settings.lens_position}
        self._camera = Picamera2()
        self._camera.configure(
            self._camera.create_video_configuration(
                main={"size": size, "format": "YUV420"},
                lores={"size": size, "format": "YUV420"},
                controls=controls,
                buffer_count=3,
                queue=False,  # a queued frame would be one from before the phone came
                **_orientation(settings),
            )
        )
        self._camera.start()
        self._job: Job | None = None
        self._is_stale = False

    def capture(self) -> Frame | None:
        request = self._next_request()
        if request is not None and self._is_stale:
            # Asked for before the rest, it may have come at any time since: the phone of a
            # customer who left long ago.
            request.release()
            self._is_stale = False
            request = self._next_request()
        if request is None:
            return None
        captured_at = monotonic()
        try:
            # The Y plane is a grey picture; its rows are padded (picamera2 #645).
            grey = request.make_array("lores")[: self._height, : self._width].copy()
        finally:
            request.release()
        return Frame(grey.data, captured_at)

    def rest(self) -> None:
        self._is_stale = self._job is not None

    def close(self) -> None:
        self._camera.stop()
        self._camera.close()

    def _next_request(self) -> "CompletedRequest | None":
        # A request that did not come in time is still under way; asking again would queue a
        # second one behind it (picamera2 #794: a capture can hang for ever).
        job = self._job if self._job is not None else self._camera.capture_request(wait=False)
        self._job = job
        try:
            request = self._camera.wait(job, timeout=CAPTURE_TIMEOUT_S)
        except TimeoutError:
            return None
        self._job = None
        return request


def _orientation(settings: CameraSettings) -> dict[str, object]:
    """A sensor mounted upright needs nothing; only a turned one needs libcamera's own word."""
    if not (settings.hflip or settings.vflip):
        return {}
    from libcamera import (  # noqa: PLC0415 # pyright: ignore[reportMissingModuleSource] -- as above
        Transform,
    )

    return {"transform": Transform(hflip=settings.hflip, vflip=settings.vflip)}
