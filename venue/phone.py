"""The attendee's phone, or a staff badge, as the appliance's camera sees it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import segno
from PIL import Image, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH: Final = 1280
HEIGHT: Final = 720
QUIET_ZONE: Final = 4
MODULE: Final = 8
"""Pixels a QR module has where the screen is drawn, before the camera looks at it."""

Difficulty = Literal["easy", "normal", "hard"]


@dataclass(frozen=True)
class _Look:
    """How unkindly the camera sees; the numbers are the worst that is drawn."""

    pixels_a_module: float
    tilt: float
    """By how much of its size a corner may be out of place."""
    turn_degrees: float
    blur: float
    noise: float
    gain: tuple[float, float]
    glare: float


_LOOKS: Final[dict[Difficulty, _Look]] = {
    "easy": _Look(6.6, 0.02, 4, 0.5, 2, (0.85, 1.0), 0),
    "normal": _Look(5.4, 0.06, 12, 0.9, 6, (0.6, 1.1), 25),
    "hard": _Look(4.4, 0.10, 25, 1.3, 12, (0.4, 1.25), 60),
}


def phone(
    content: str, rng: np.random.Generator, difficulty: Difficulty = "normal"
) -> "NDArray[np.uint8]":
    """A phone that shows `content` as a QR code: (720, 1280) grey.

    Digits alone are drawn in the QR's numeric mode, as the wallet page draws them.
    """
    card = _qr_card(content)
    margin = MODULE * 4
    width, height = card.width + 2 * margin, int((card.width + 2 * margin) * 1.35)
    screen = Image.new("L", (width, height), 225)
    screen.paste(card, (margin, (height - card.height) // 2))
    writing = ImageDraw.Draw(screen)
    writing.rectangle((margin, margin, width // 2, margin + 18), fill=70)
    writing.rectangle((margin, height - margin - 12, width - margin, height - margin), fill=160)
    return _before_the_camera(_framed(screen, bezel=MODULE * 3, shade=15), rng, difficulty, card)


def badge(
    content: str, rng: np.random.Generator, difficulty: Difficulty = "normal"
) -> "NDArray[np.uint8]":
    """A printed staff badge with `content` as its QR code: (720, 1280) grey."""
    card = _qr_card(content)
    paper = Image.new("L", (card.width + MODULE * 6, card.height + MODULE * 14), 245)
    paper.paste(card, (MODULE * 3, MODULE * 3))
    writing = ImageDraw.Draw(paper)
    top = card.height + MODULE * 6
    writing.rectangle((MODULE * 6, top, paper.width // 2, top + MODULE * 2), fill=40)
    return _before_the_camera(paper, rng, difficulty, card)


def empty_counter(rng: np.random.Generator) -> "NDArray[np.uint8]":
    """What the camera sees when nobody holds anything before it."""
    return _noisy(np.full((HEIGHT, WIDTH), 95.0), rng, _LOOKS["normal"])


def _qr_card(content: str) -> Image.Image:
    is_digits = content.isascii() and content.isdigit()
    code = segno.make(
        content,
        error="m",
        mode="numeric" if is_digits else None,
        micro=False,
        boost_error=False,
    )
    modules = np.array([list(row) for row in code.matrix_iter(border=QUIET_ZONE)], np.uint8)
    pixels = np.kron(np.where(modules, 0, 255), np.ones((MODULE, MODULE))).astype(np.uint8)
    return Image.fromarray(pixels)


def _framed(screen: Image.Image, *, bezel: int, shade: int) -> Image.Image:
    framed = Image.new("L", (screen.width + 2 * bezel, screen.height + 2 * bezel), shade)
    framed.paste(screen, (bezel, bezel))
    return framed


def _before_the_camera(
    thing: Image.Image, rng: np.random.Generator, difficulty: Difficulty, card: Image.Image
) -> "NDArray[np.uint8]":
    look = _LOOKS[difficulty]
    modules = card.width / MODULE
    # A long code is held closer to fill the frame, never beyond it.
    scale = min(look.pixels_a_module, HEIGHT * 0.86 / modules) / MODULE
    corners = _corners(thing.width * scale, thing.height * scale, rng, look)
    seen = thing.filter(ImageFilter.GaussianBlur(0.4 / scale)).transform(
        (WIDTH, HEIGHT),
        Image.Transform.PERSPECTIVE,
        _coefficients(corners, thing.width, thing.height),
        Image.Resampling.BILINEAR,
    )
    mask = Image.new("L", thing.size, 255).transform(
        (WIDTH, HEIGHT),
        Image.Transform.PERSPECTIVE,
        _coefficients(corners, thing.width, thing.height),
        Image.Resampling.BILINEAR,
    )
    scene = Image.new("L", (WIDTH, HEIGHT), 95)
    scene.paste(seen, mask=mask)
    blurred = scene.filter(ImageFilter.GaussianBlur(look.blur * rng.uniform(0.5, 1)))
    return _noisy(np.asarray(blurred, np.float64), rng, look)


def _corners(
    width: float, height: float, rng: np.random.Generator, look: _Look
) -> "NDArray[np.float64]":
    """Where the four corners come to lie in the frame, clockwise from the top left."""
    turn = np.deg2rad(rng.uniform(-look.turn_degrees, look.turn_degrees))
    square = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    square = square * (1 + rng.uniform(-look.tilt, look.tilt, (4, 2)))
    placed = square * (width, height)
    rotation = np.array([(np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))])
    middle = (WIDTH / 2 + rng.uniform(-40, 40), HEIGHT / 2 + rng.uniform(-12, 12))
    return placed @ rotation + middle


def _coefficients(corners: "NDArray[np.float64]", width: int, height: int) -> list[float]:
    """Pillow's eight numbers, which take a point in the frame back to one of the thing."""
    rows: list[list[float]] = []
    sources: list[float] = []
    ends = [(0.0, 0.0), (float(width), 0.0), (float(width), float(height)), (0.0, float(height))]
    for corner, (u, v) in zip(corners, ends, strict=True):
        x, y = float(corner[0]), float(corner[1])
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        sources += [u, v]
    return np.linalg.solve(np.array(rows), np.array(sources)).tolist()


def _noisy(
    grey: "NDArray[np.float64]", rng: np.random.Generator, look: _Look
) -> "NDArray[np.uint8]":
    lit = grey * rng.uniform(*look.gain)
    if look.glare:
        x0, y0 = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT)
        ys, xs = np.ogrid[:HEIGHT, :WIDTH]
        lit = lit + look.glare * np.exp(-((xs - x0) ** 2 + (ys - y0) ** 2) / (2 * 220.0**2))
    noise = rng.standard_normal(lit.shape, np.float32) * look.noise
    return np.clip(lit + noise, 0, 255).astype(np.uint8)
