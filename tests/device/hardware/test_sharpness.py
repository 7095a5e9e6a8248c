import numpy as np
from PIL import Image, ImageFilter

from device.hardware.sharpness import sharpness_of
from venue.phone import phone


def view_of(height: int, width: int, pixels: bytes) -> memoryview:
    return memoryview(pixels).cast("B", (height, width))


def measured(blur: float) -> float:
    grey = phone("railtix" * 30, np.random.default_rng(1), "easy")
    blurred = np.asarray(Image.fromarray(grey).filter(ImageFilter.GaussianBlur(blur)))
    return sharpness_of(view_of(len(grey), len(grey[0]), blurred.tobytes()))


def test_a_phone_in_focus_measures_higher_than_one_that_is_not() -> None:
    assert measured(0) > measured(1) > measured(2) > measured(4) > 0


def test_a_blank_wall_has_no_edges_whatever_its_size() -> None:
    for height, width in ((16, 16), (90, 160), (720, 1280)):
        assert sharpness_of(view_of(height, width, bytes([90]) * height * width)) == 0.0
