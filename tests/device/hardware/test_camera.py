import os
import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from device.hardware.camera import Camera, Frame, PiCamera
from device.hardware.settings import CameraSettings
from device.hardware.simulated_camera import Scene, SimulatedCamera, Stage

SETTINGS = CameraSettings(width=160, height=120)
PADDED = 192
"""The real module cannot be installed here; its stand-in pads rows to 64 bytes, as the Pi does."""


class FakeJob:
    """A request under way, answered with what is before the lens when a frame comes."""

    def __init__(self) -> None:
        self.request: SimpleNamespace | None = None


class FakePicamera2:
    """picamera2 as its manual has it, with a stall when there is no picture."""

    picture: "NDArray[np.uint8] | None" = None
    open_requests = 0
    requested = 0
    released = 0
    is_open = False
    is_running = False
    pending: FakeJob | None = None
    configuration: dict[str, Any] = {}  # noqa: RUF012 -- the test reads what was asked for

    def __init__(self) -> None:
        assert not type(self).is_open, "libcamera does not survive being opened twice"
        type(self).is_open = True

    def create_video_configuration(self, **asked: object) -> dict[str, object]:
        type(self).configuration = asked
        return asked

    def configure(self, configuration: object) -> None:
        assert configuration is type(self).configuration

    def start(self) -> None:
        type(self).is_running = True

    def stop(self) -> None:
        type(self).is_running = False

    def close(self) -> None:
        assert not type(self).is_running
        type(self).is_open = False

    def capture_request(self, wait: bool) -> FakeJob:
        assert not wait
        assert type(self).pending is None, "a second request would queue behind the first"
        type(self).requested += 1
        job = FakeJob()
        type(self).pending = job
        self.frame_comes()
        return job

    @classmethod
    def frame_comes(cls) -> None:
        """The job that waits takes the frame that is there now, looked at or not."""
        if cls.pending is not None and cls.picture is not None and cls.pending.request is None:
            # YUV420: the Y plane's rows are padded, the colour planes stand below.
            padded = np.full((120 * 3 // 2, PADDED), 7, np.uint8)
            padded[:120, :160] = cls.picture
            cls.pending.request = SimpleNamespace(
                make_array={"lores": padded}.__getitem__, release=cls._release
            )

    def wait(self, job: FakeJob, timeout: float) -> object:
        assert timeout <= 0.5
        assert job is type(self).pending
        self.frame_comes()
        if job.request is None:
            raise TimeoutError
        type(self).pending = None
        type(self).open_requests += 1
        return job.request

    @classmethod
    def _release(cls) -> None:
        cls.open_requests -= 1
        cls.released += 1


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
        camera.close()
    else:
        stage = Stage()
        camera = SimulatedCamera(*stage.descriptors)
        yield (
            camera,
            lambda picture: stage.put(
                None if picture is None else Scene(160, 120, picture.tobytes())
            ),
        )
        camera.close()
        stage.close()


def gradient() -> "NDArray[np.uint8]":
    return (np.arange(120)[:, None] + np.arange(160)[None, :]).astype(np.uint8)


def pixels(frame: Frame | None) -> "NDArray[np.uint8]":
    assert frame is not None
    assert (frame.grey.ndim, frame.grey.format, frame.grey.c_contiguous) == (2, "B", True)
    return np.asarray(frame.grey)


def test_a_frame_is_the_grey_picture_and_nothing_of_its_padding(part: tuple[Camera, Show]) -> None:
    camera, show = part
    show(gradient())
    assert np.array_equal(pixels(camera.capture()), gradient())


def test_the_next_frame_is_a_newer_one(part: tuple[Camera, Show]) -> None:
    camera, show = part
    show(gradient())
    first = camera.capture()
    show(255 - gradient())
    second = camera.capture()
    assert first is not None
    assert second is not None
    assert second.captured_at > first.captured_at
    assert np.array_equal(pixels(second), 255 - gradient())
    assert np.array_equal(pixels(first), gradient()), "a frame is the reader's own"


def test_after_a_rest_the_frame_is_what_is_there_now(part: tuple[Camera, Show]) -> None:
    camera, show = part
    show(gradient())
    camera.capture()
    camera.rest()
    show(255 - gradient())
    assert np.array_equal(pixels(camera.capture()), 255 - gradient())


def test_whoever_left_while_the_camera_stalled_is_not_seen_after_the_rest(
    picamera2: type[FakePicamera2],
) -> None:
    camera = PiCamera(SETTINGS)
    assert camera.capture() is None
    camera.rest()
    picamera2.picture = gradient()
    picamera2.frame_comes()  # nobody looks, but the request was still under way
    picamera2.picture = 255 - gradient()
    assert np.array_equal(pixels(camera.capture()), 255 - gradient())
    assert (picamera2.open_requests, picamera2.released) == (0, 2)


def test_a_simulated_picture_that_is_being_exchanged_is_no_frame() -> None:
    stage = Stage()
    camera = SimulatedCamera(*stage.descriptors)
    stage.put(Scene(160, 120, gradient().tobytes()))
    assert camera.capture() is not None
    os.pwrite(stage.descriptors[0], b"\0" * 17, 0)
    assert camera.capture() is None
    stage.put(None)
    assert pixels(camera.capture()).shape == (90, 160)
    stage.close()


def test_the_first_capture_of_a_scene_is_told_once_and_only_of_this_scene() -> None:
    stage = Stage()
    one, other = (SimulatedCamera(*stage.descriptors) for _ in range(2))
    stage.put(Scene(160, 120, gradient().tobytes()))
    frame = one.capture()
    assert frame is not None
    assert stage.first_captures() == [frame.captured_at]
    other.capture()  # a process that was started anew
    assert stage.first_captures() == []
    stage.put(Scene(160, 120, gradient().tobytes()))
    one.capture()
    stage.put(None)
    assert stage.first_captures() == [], "that scene is gone already"
    stage._tell.send(b"garbage")
    assert stage.first_captures() == []
    stage.close()


def test_every_request_goes_back_to_the_camera(picamera2: type[FakePicamera2]) -> None:
    camera = PiCamera(SETTINGS)
    picamera2.picture = gradient()
    for _ in range(3):
        camera.capture()
    assert (picamera2.released, picamera2.open_requests) == (3, 0)
    camera.close()
    assert not picamera2.is_open


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
    assert picamera2.configuration["lores"] == {"size": (160, 120), "format": "YUV420"}
    assert "transform" not in picamera2.configuration


def test_a_camera_without_a_focus_motor_is_not_told_to_focus(
    picamera2: type[FakePicamera2],
) -> None:
    PiCamera(CameraSettings(width=160, height=120, lens_position="fixed"))
    assert "LensPosition" not in picamera2.configuration["controls"]


def test_a_sensor_mounted_upside_down_is_turned(
    picamera2: type[FakePicamera2], monkeypatch: pytest.MonkeyPatch
) -> None:
    libcamera = ModuleType("libcamera")
    libcamera.__dict__["Transform"] = dict
    monkeypatch.setitem(sys.modules, "libcamera", libcamera)
    PiCamera(CameraSettings(width=160, height=120, hflip=True, vflip=True))
    assert picamera2.configuration["transform"] == {"hflip": True, "vflip": True}
