import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from device.hardware.camera import Camera, PiCamera
from device.hardware.settings import CameraSettings
from device.hardware.simulated import Scene, SimulatedCamera

SETTINGS = CameraSettings(width=64, height=48)


class FakePicamera2:
    """picamera2 as its documentation has it, with a stall when there is no picture."""

    picture: "NDArray[np.uint8] | None" = None
    released = 0
    requested = 0
    configuration: dict[str, Any] = {}  # noqa: RUF012 -- the test reads what was asked for

    def create_video_configuration(self, **asked: object) -> dict[str, object]:
        type(self).configuration = asked
        return asked

    def configure(self, configuration: object) -> None:
        assert configuration is type(self).configuration

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...

    def capture_request(self, wait: bool) -> object:
        assert not wait
        type(self).requested += 1
        return "job"

    def wait(self, job: object, timeout: float) -> object:
        assert (job, timeout <= 0.5) == ("job", True)
        picture = type(self).picture
        if picture is None:
            raise TimeoutError
        # YUV420: the Y plane's rows are padded to 32 bytes, the colour planes stand below.
        padded = np.full((48 * 3 // 2, 96), 7, np.uint8)
        padded[:48, :64] = picture
        return SimpleNamespace(make_array={"lores": padded}.__getitem__, release=self._release)

    def _release(self) -> None:
        type(self).released += 1


Show = Callable[["NDArray[np.uint8] | None"], None]


@pytest.fixture
def picamera2(monkeypatch: pytest.MonkeyPatch) -> type[FakePicamera2]:
    fake = type("Fake", (FakePicamera2,), {})
    module = ModuleType("picamera2")
    module.__dict__["Picamera2"] = fake
    monkeypatch.setitem(sys.modules, "picamera2", module)
    return fake


@pytest.fixture(params=["pi", "simulated"])
def part(
    request: pytest.FixtureRequest, picamera2: type[FakePicamera2]
) -> Iterator[tuple[Camera, Show]]:
    """A camera and how to put a picture before it."""
    if request.param == "pi":
        camera: Camera = PiCamera(SETTINGS)
        yield camera, lambda picture: setattr(picamera2, "picture", picture)
    else:
        simulated = SimulatedCamera(list[float]().append)
        camera = simulated
        yield (
            camera,
            lambda picture: simulated.put(
                None if picture is None else Scene(64, 48, picture.tobytes())
            ),
        )
    camera.close()


def gradient() -> "NDArray[np.uint8]":
    return (np.arange(48)[:, None] + np.arange(64)[None, :]).astype(np.uint8)


def test_a_frame_is_the_grey_picture_and_nothing_of_its_padding(part: tuple[Camera, Show]) -> None:
    camera, show = part
    show(gradient())
    frame = camera.capture()
    assert frame is not None
    assert frame.grey.dtype == np.uint8
    assert np.array_equal(frame.grey, gradient())


def test_the_next_frame_is_a_newer_one(part: tuple[Camera, Show]) -> None:
    camera, show = part
    show(gradient())
    first = camera.capture()
    show(255 - gradient())
    second = camera.capture()
    assert first is not None
    assert second is not None
    assert second.captured_at > first.captured_at
    assert np.array_equal(second.grey, 255 - gradient())


def test_every_request_goes_back_to_the_camera(picamera2: type[FakePicamera2]) -> None:
    camera = PiCamera(SETTINGS)
    picamera2.picture = gradient()
    for _ in range(3):
        camera.capture()
    assert picamera2.released == 3


def test_a_stalled_camera_gives_none_and_is_not_asked_twice(
    picamera2: type[FakePicamera2],
) -> None:
    camera = PiCamera(SETTINGS)
    assert camera.capture() is None
    assert camera.capture() is None
    assert picamera2.requested == 1
    picamera2.picture = gradient()
    assert camera.capture() is not None


def test_focus_and_exposure_are_set_by_hand(picamera2: type[FakePicamera2]) -> None:
    PiCamera(SETTINGS)
    controls = picamera2.configuration["controls"]
    assert controls["AeEnable"] is False
    assert controls["ExposureTime"] % 10_000 == 0
    assert (controls["AfMode"], controls["LensPosition"]) == (0, SETTINGS.lens_position)
    assert picamera2.configuration["queue"] is False
    assert picamera2.configuration["lores"] == {"size": (64, 48), "format": "YUV420"}


def test_a_camera_without_a_focus_motor_is_not_told_to_focus(
    picamera2: type[FakePicamera2],
) -> None:
    PiCamera(CameraSettings(width=64, height=48, lens_position="fixed"))
    assert "LensPosition" not in picamera2.configuration["controls"]
