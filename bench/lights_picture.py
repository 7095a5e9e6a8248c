"""What the lamp says between flashing a card and the first badge: docs/pictures/first-lights.svg.

make first-lights

Drawn from the patterns that the lamp itself plays, eight seconds from the left to the right.
"""

import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Final

from device.hardware.lamp import DARK, Colour, pattern_of
from device.till.signals import Light

PICTURE: Final = Path(__file__).parents[1] / "docs" / "pictures" / "first-lights.svg"
FIRST: Final = (
    Light.ENROL,
    Light.JOINING,
    Light.NO_WAY,
    Light.NOT_ENROLLED,
    Light.ENROLLED,
    Light.NOBODY_SIGNED_IN,
    Light.UPDATING,
    Light.FAULT,
)
SECONDS: Final = 8.0
WIDTH: Final = 760
_NAMES: Final = 230
_ROW: Final = 34
_STRIP: Final = 22
_A_SECOND: Final = (WIDTH - _NAMES - 16) / SECONDS
_EYE: Final = 0.45
"""A lamp at half its power looks brighter than half."""


def picture(lights: tuple[Light, ...] = FIRST) -> str:
    """As SVG."""
    height = _ROW * len(lights) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}">',
        '<g font-family="sans-serif" font-size="14">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for number, light in enumerate(lights):
        top = 6 + number * _ROW
        parts.append(f'<text x="10" y="{top + 16}" fill="#222">{escape(light.value)}</text>')
        parts += _strip(light, top)
    below = 6 + len(lights) * _ROW + 10
    for second in range(int(SECONDS) + 1):
        parts.append(
            f'<text x="{_NAMES + second * _A_SECOND:.0f}" y="{below}" fill="#666" '
            f'font-size="11" text-anchor="middle">{second} s</text>'
        )
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _strip(light: Light, top: int) -> Iterator[str]:
    for colour, starts, ends in _spans(light):
        left, width = _NAMES + starts * _A_SECOND, (ends - starts) * _A_SECOND
        yield (
            f'<rect x="{left:.1f}" y="{top}" width="{width + 0.4:.1f}" height="{_STRIP}" '
            f'fill="{_seen(colour)}"/>'
        )


def _spans(light: Light) -> Iterator[tuple[Colour, float, float]]:
    """Each colour from when until when; the last one stays."""
    at = 0.0
    last = DARK
    for step in pattern_of(light).steps():
        last = step.colour
        until = min(SECONDS, at + step.seconds)
        if until > at:
            yield step.colour, at, until
        at = until
        if at >= SECONDS:
            return
    yield last, at, SECONDS


def _seen(colour: Colour) -> str:
    red, green, blue = (round(255 * level**_EYE) for level in colour)
    return f"#{red:02x}{green:02x}{blue:02x}"


def main() -> None:
    (Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE).write_text(picture(), encoding="utf-8")


if __name__ == "__main__":
    main()
