"""The camera: the newest grey frame, or None; never a queue of old ones."""

from dataclasses import dataclass
from time import monotonic  # noqa: TID251 -- the camera is an edge: it says when a frame came
from typing import TYPE_CHECKING, Final, Protocol

from device.hardware.settings import CameraSettings

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray
    from picamera2 import Job  # pyright: ignore[reportMissingModuleSource] -- on a Pi alone

CAPTURE_TIMEOUT_S: Final = 0.5


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture: `grey` is (height, width), 0 black to 255 white."""

    grey: "NDArray[uint8]"
    captured_at: float
    """Monotonic seconds."""


class Camera(Protocol):
    """Where frames come from."""

    def capture(self) -> Frame | None:
        """Wait up to about half a second for a frame newer than the last; None if none came."""
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
            )
        )
        self._camera.start()
        self._job: Job | None = None

    def capture(self) -> Frame | None:
        # A request that did not come in time is still under way; asking again would queue a
        # second one behind it (picamera2 #794: a capture can hang for ever).
        job = self._job if self._job is not None else self._camera.capture_request(wait=False)
        self._job = job
        try:
            request = self._camera.wait(job, timeout=CAPTURE_TIMEOUT_S)
        except TimeoutError:
            return None
        captured_at = monotonic()
        self._job = None
        try:
            # The Y plane is a grey picture; its rows are padded (picamera2 #645).
            grey = request.make_array("lores")[: self._height, : self._width].copy()
        finally:
            request.release()
        return Frame(grey, captured_at)

    def close(self) -> None:
        self._camera.stop()
        self._camera.close()
