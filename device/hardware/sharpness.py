"""How sharp a picture is, to focus a camera by: a number to compare with the one before."""

from typing import Final, cast

EVERY_FRAMES: Final = 8
"""It is a person's help, not the till's: most frames are not measured."""
CENTRE: Final = 256
"""Pixels a side: where phones are held."""


def sharpness_of(grey: memoryview) -> float:
    """The spread of the centre's edges (its Laplacian), 0 for a blank wall; a millisecond."""
    from PIL import Image, ImageFilter, ImageStat  # noqa: PLC0415 -- see decoding.load_decoders

    height, width = grey.shape or (0, 0)
    left, top = max(0, (width - CENTRE) // 2), max(0, (height - CENTRE) // 2)
    picture = Image.frombuffer("L", (width, height), cast("bytes", grey), "raw", "L", 0, 1)
    centre = picture.crop((left, top, min(width, left + CENTRE), min(height, top + CENTRE)))
    laplacian = ImageFilter.Kernel((3, 3), (0, 1, 0, 1, -4, 1, 0, 1, 0), scale=2, offset=128)
    edges = centre.filter(laplacian).crop((1, 1, centre.width - 1, centre.height - 1))
    return round(float(ImageStat.Stat(edges).stddev[0]), 1)
