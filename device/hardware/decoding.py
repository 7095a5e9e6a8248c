"""What QR code a grey picture holds: zxing-cpp, and zbar where it sees nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from numpy.typing import NDArray
    from PIL.Image import Image
    from typing_extensions import Buffer

    # numpy's arrays are buffers, though its types say so from Python 3.12 on alone.
    Picture = Buffer | NDArray[Any]

ZBAR_PIXELS_MAX: Final = 500_000
"""zbar takes 50 to 80 ms for 1280 x 720, and a frame may not: a larger one is halved for it."""

_LIGHT_AT_MOST: Final = 5
"""How much darker than its neighbourhood's mean a pixel may be and still be light."""

_LIGHT: Final = [255 if darker <= _LIGHT_AT_MOST else 0 for darker in range(256)]


@dataclass(frozen=True)
class Reading:
    """What a QR code says and which decoder read it."""

    text: str = field(repr=False)
    decoder: str


Read = Callable[["Picture", int], Reading | None]
"""Given a picture and the frame's number."""


def read_qr(grey: "Picture", turn: int = 0) -> Reading | None:
    """The QR code in a (height, width) grey picture, if one can be read.

    zxing-cpp first; on a miss one more treatment, another each `turn` (the frame's number): all of
    them would take longer than the next frame, which is as good. Where zxing-cpp has no wheel,
    zbar alone rotates its own. Raises ValueError for anything but bytes in two dimensions.
    """
    view = _checked(grey)
    if _zxing() is None:
        return read_with_zbar_alone(view, turn)
    reading = _read_with_zxing(view)
    if reading is not None:
        return reading
    match turn % 3:
        case 0:
            return _read_with_zbar(threshold(_for_zbar(_image(view))))
        case 1:
            # Noise and the beat of a screen's pixels against the camera's go.
            soft = _soften(_image(view))
            return _read_with_zxing(_view(soft)) or _read_with_zbar(_for_zbar(soft))
        case _:
            # A wide neighbourhood keeps a blurred code's modules apart.
            return _read_with_zxing(_view(threshold(_image(view), parts=8)), is_two_toned=True)


def read_with_zbar_alone(grey: "Picture", turn: int = 0) -> Reading | None:
    """As `read_qr`, where zxing-cpp has no wheel."""
    from PIL import ImageChops  # noqa: PLC0415 -- as all decoders: see load_decoders

    image = _image(_checked(grey))
    match turn % 3:
        case 0:
            return _read_with_zbar(threshold(image))
        case 1:
            return _read_with_zbar(image)
        case _:
            return _read_with_zbar(threshold(ImageChops.invert(image)))


def threshold(grey: "Image", parts: int = 24) -> "Image":
    """Black where a pixel is darker than its neighbourhood's mean, white elsewhere.

    Glare and a screen's own gradient move the brightness from place to place; the mean moves along.
    The neighbourhood reaches a `parts`-th of the height to each side.
    """
    from PIL import ImageChops, ImageFilter  # noqa: PLC0415 -- as all decoders: see load_decoders

    mean = grey.filter(ImageFilter.BoxBlur(max(1, grey.height // parts)))
    return ImageChops.subtract(mean, grey).point(_LIGHT)


def load_decoders() -> None:
    """Load what `read_qr` imports, so that the first phone does not wait for it.

    They are imported where they are used: 15 MiB that a program without a camera does not need.
    """
    nothing = memoryview(bytes([200]) * (64 * 48)).cast("B", (48, 64))
    for turn in range(3):
        read_qr(nothing, turn)


def _checked(grey: "Picture") -> memoryview:
    view = memoryview(cast("Buffer", grey))
    if view.ndim != 2 or view.format != "B" or view.nbytes == 0 or not view.c_contiguous:
        raise ValueError(f"not a grey picture: {view.format} {view.shape}")
    return view


@cache
def _zxing() -> "ModuleType | None":
    try:
        import zxingcpp  # noqa: PLC0415
    except ImportError:
        return None
    return zxingcpp


def _read_with_zxing(view: memoryview, *, is_two_toned: bool = False) -> Reading | None:
    import zxingcpp  # noqa: PLC0415

    found = zxingcpp.read_barcode(
        view,
        formats=zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode),
        text_mode=zxingcpp.TextMode.Plain,
        binarizer=zxingcpp.Binarizer.BoolCast if is_two_toned else zxingcpp.Binarizer.LocalAverage,
    )
    return Reading(found.text, "zxing-cpp") if found is not None and found.text else None


def _read_with_zbar(grey: "Image") -> Reading | None:
    from pyzbar.pyzbar import ZBarSymbol, decode  # noqa: PLC0415

    # QR codes alone: 2.6 times faster, and the assertion of pyzbar #143 is in another decoder.
    found = decode((grey.tobytes(), grey.width, grey.height), symbols=[ZBarSymbol.QRCODE])
    if not found or not found[0].data:
        return None
    try:
        return Reading(found[0].data.decode(), "zbar")
    except UnicodeDecodeError:
        return None  # a text with a letter replaced is not what the code says


def _for_zbar(grey: "Image") -> "Image":
    return grey if grey.width * grey.height <= ZBAR_PIXELS_MAX else grey.reduce(2)


def _soften(grey: "Image") -> "Image":
    from PIL import ImageFilter  # noqa: PLC0415

    return grey.filter(ImageFilter.BoxBlur(1))


def _image(view: memoryview) -> "Image":
    from PIL import Image  # noqa: PLC0415

    assert view.shape is not None, "read_qr refuses what has no two dimensions"
    height, width = view.shape
    # Pillow takes any buffer, whatever its types say, and copies none.
    flat = cast("bytes", view.cast("B"))
    return Image.frombuffer("L", (width, height), flat, "raw", "L", 0, 1)


def _view(grey: "Image") -> memoryview:
    return memoryview(grey.tobytes()).cast("B", (grey.height, grey.width))
