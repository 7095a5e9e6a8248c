"""Letters for a printed name: an installed font that has them all, or what to install."""

import shutil
import subprocess
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from fontTools.ttLib import TTFont, TTLibError
from PIL import features

PLAIN: Final = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")
BOLD: Final = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf")
PACKAGE: Final = "fonts-dejavu-core"
MORE: Final = "fonts-noto-core or fonts-noto-cjk"

_SHAPED: Final = (
    *range(0x0590, 0x08FF + 1),  # Hebrew, Arabic, Syriac: right to left, and joined
    *range(0x0900, 0x109F + 1),  # the scripts of India, Thai, Lao, Tibetan, Burmese
    *range(0x1780, 0x18AF + 1),  # Khmer, Mongolian
    *range(0xFB1D, 0xFDFF + 1),  # Hebrew's and Arabic's presentation forms
    *range(0xFE70, 0xFEFF + 1),
)
_SHAPED_SET: Final = frozenset(_SHAPED)


@dataclass(frozen=True, slots=True)
class Face:
    """A font file that has every letter of a name."""

    path: Path
    index: int = 0
    """Within a collection."""
    is_shaped: bool = False
    """Its letters change with their neighbours, or run from the right: they are drawn, not set."""


@dataclass(frozen=True, slots=True)
class NoFont:
    """Why a name cannot be printed, and what to install."""

    why: str

    def __str__(self) -> str:
        return self.why


def find_face(name: str) -> Face | NoFont:
    """DejaVu where it is enough, else any font that fontconfig knows."""
    if not PLAIN.exists() or not BOLD.exists():
        return NoFont(f"there is no font to print with: `apt-get install {PACKAGE}`")
    letters = {each for each in name if not each.isspace()}
    is_shaped = any(
        ord(each) in _SHAPED_SET or unicodedata.category(each) in {"Mn", "Mc", "Cf"}
        for each in letters
    )
    if is_shaped and not features.check("raqm"):
        return NoFont(
            f"{name!r} is in a script whose letters have to be joined or turned, and this "
            "machine's Pillow cannot: `pip install --upgrade pillow`, whose wheels can"
        )
    for face in _faces(letters):
        if _has(face, letters):
            return Face(face.path, face.index, is_shaped)
    missing = "".join(sorted(letters - _letters_of(BOLD, 0)))
    return NoFont(
        f"no installed font has all the letters of {name!r} (not in DejaVu: {missing}): "
        f"`apt-get install fontconfig` and {MORE}"
    )


def _faces(letters: set[str]) -> Iterator[Face]:
    yield Face(BOLD)
    listing = shutil.which("fc-list")
    if listing is None:
        return
    wanted = " ".join(sorted(f"{ord(each):x}" for each in letters))
    told = subprocess.run(  # noqa: S603 -- fontconfig's own program; code points in hexadecimal
        [listing, f":charset={wanted}", "--format=%{file}\t%{index}\t%{style}\n"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    found = sorted(line.split("\t") for line in told.stdout.splitlines())
    # A bold face stands out at arm's length; of the others any will do.
    for path, index, _ in sorted(found, key=lambda each: "Bold" not in each[2]):
        if Path(path).suffix.lower() in {".ttf", ".otf", ".ttc"} and index.isdecimal():
            # Above 16 bits fontconfig counts a variable font's instances.
            yield Face(Path(path), int(index) & 0xFFFF)


def _has(face: Face, letters: set[str]) -> bool:
    """Asked of the file itself: a font that lacks a letter prints a box."""
    return letters <= _letters_of(face.path, face.index)


@lru_cache(maxsize=64)
def _letters_of(path: Path, index: int) -> frozenset[str]:
    try:
        with TTFont(path, fontNumber=index, lazy=True) as font:
            return frozenset(chr(code) for code in font.getBestCmap() or ())
    except (OSError, TTLibError):
        return frozenset()
