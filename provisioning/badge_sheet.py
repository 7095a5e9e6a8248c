"""Staff badges on paper: a PDF of nine a page, with marks to cut along."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from io import BytesIO
from typing import Final

import segno
from fpdf import FPDF
from PIL import Image, ImageDraw, ImageFont

from protocol.wallet_qr import to_digits
from provisioning.badge_fonts import BOLD, PLAIN, Face, NoFont, find_face

WIDTH_MM: Final = 60.0
HEIGHT_MM: Final = 85.0
COLUMNS: Final = 3
ROWS: Final = 3
A_PAGE: Final = COLUMNS * ROWS

QR_MM: Final = 48.0
"""With its quiet zone; a badge's code has 61 modules or so, of which each is then 0.7 mm."""
QUIET_ZONE: Final = 4
_QR_PIXELS_A_MODULE: Final = 12

_INNER_MM: Final = WIDTH_MM - 6
_NAME_MM: Final = 17.0
"""How tall a name may become, in one line or several."""
_NAME_PT: Final = 17.0
_NAME_PT_MIN: Final = 9.0
"""One that would be smaller than this is broken into one more line, as long as there is room."""
_NAME_LINES_MAX: Final = 3
_DRAWN_PIXELS: Final = 160
"""How tall a drawn line is, before it is scaled."""
_DRAWN_LINE: Final = 1.3
"""Of the letters' own size: room for what hangs below the line."""
_MM_A_PT: Final = 25.4 / 72
_CUT_MM: Final = 3.0


class Paper(StrEnum):
    A4 = "a4"
    LETTER = "letter"


_SIZES_MM: Final = {Paper.A4: (210.0, 297.0), Paper.LETTER: (215.9, 279.4)}


@dataclass(frozen=True, slots=True)
class BadgeFace:
    """What stands on one badge."""

    name: str
    initials: str
    is_supervisor: bool
    jws: str = field(repr=False)
    """What its QR says."""


def draw_sheet(
    event_name: str, badges: Sequence[BadgeFace], paper: Paper, made_at: datetime
) -> bytes | NoFont:
    """The PDF, or why a name cannot be printed on this machine."""
    faces = {text: find_face(text) for each in badges for text in _texts(event_name, each)}
    for face in faces.values():
        if isinstance(face, NoFont):
            return face
    found = {text: face for text, face in faces.items() if isinstance(face, Face)}
    sheet = _Sheet(event_name, paper, made_at, found)
    for number, badge in enumerate(badges):
        if number % A_PAGE == 0:
            sheet.begin_page()
        sheet.draw(number % A_PAGE, badge)
    return sheet.finish()


def _texts(event_name: str, badge: BadgeFace) -> tuple[str, ...]:
    return (event_name, badge.name, badge.initials)


class _Sheet:
    def __init__(
        self, event_name: str, paper: Paper, made_at: datetime, faces: dict[str, Face]
    ) -> None:
        self._event_name = event_name
        self._faces = faces
        width, height = _SIZES_MM[paper]
        self._left = (width - COLUMNS * WIDTH_MM) / 2
        self._top = (height - ROWS * HEIGHT_MM) / 2
        self._pdf = FPDF(unit="mm", format=(width, height))
        self._pdf.set_auto_page_break(False)
        self._pdf.set_margin(0)
        self._pdf.c_margin = 0
        self._pdf.set_creation_date(made_at)
        self._pdf.set_title(f"Badges: {event_name}")
        self._pdf.add_font("plain", fname=PLAIN)
        self._pdf.add_font("bold", fname=BOLD)

    def finish(self) -> bytes:
        return bytes(self._pdf.output())

    def begin_page(self) -> None:
        self._pdf.add_page()
        self._pdf.set_draw_color(120)
        self._pdf.set_line_width(0.1)
        for column in range(COLUMNS + 1):
            for row in range(ROWS + 1):
                x, y = self._left + column * WIDTH_MM, self._top + row * HEIGHT_MM
                self._pdf.line(x - _CUT_MM, y, x + _CUT_MM, y)
                self._pdf.line(x, y - _CUT_MM, x, y + _CUT_MM)

    def draw(self, place: int, badge: BadgeFace) -> None:
        row, column = divmod(place, COLUMNS)
        x, y = self._left + column * WIDTH_MM, self._top + row * HEIGHT_MM
        event = self._event_name
        self._line((x, y + 4), event, event, size_pt=9, tall=4, font="plain")
        self._pdf.image(
            _qr(badge.jws), x + (WIDTH_MM - QR_MM) / 2, y + 9, QR_MM, QR_MM, keep_aspect_ratio=True
        )
        self._name(x, y + 57.5, badge.name)
        self._role(x, y + 76, badge)

    def _name(self, x: float, y: float, name: str) -> None:
        parts, fits_pt = self._parted(name)
        tall = _NAME_MM / len(parts)
        for number, part in enumerate(parts):
            self._line((x, y + number * tall), part, name, size_pt=fits_pt, tall=tall, font="bold")

    def _parted(self, name: str, lines: int = 1) -> tuple[list[str], float]:
        """In as few lines as leave it legible to whoever stands before its wearer."""
        parts = _broken(name, lines)
        fits_pt = min(self._fitting_pt(each, name, _NAME_PT, "bold") for each in parts)
        if fits_pt >= _NAME_PT_MIN or lines == _NAME_LINES_MAX:
            return parts, fits_pt
        return self._parted(name, lines + 1)

    def _role(self, x: float, y: float, badge: BadgeFace) -> None:
        initials = badge.initials
        self._line((x, y), initials, initials, size_pt=11, tall=6, font="bold", wide=18)
        role = "SUPERVISOR" if badge.is_supervisor else "STAFF"
        self._pdf.set_font("bold", size=9)
        if badge.is_supervisor:
            self._pdf.set_fill_color(0)
            self._pdf.set_text_color(255)
        self._pdf.set_xy(x + 24, y)
        self._pdf.cell(WIDTH_MM - 27, 6, role, align="C", fill=badge.is_supervisor)
        self._pdf.set_text_color(0)

    def _line(
        self,
        corner: tuple[float, float],
        text: str,
        whole: str,
        *,
        size_pt: float,
        tall: float,
        font: str,
        wide: float = _INNER_MM,
    ) -> None:
        """One line in the middle of its place (mm); `whole`: the text its font was found for."""
        fits_pt = self._fitting_pt(text, whole, size_pt, font, wide)
        size = min(fits_pt, tall / _MM_A_PT / 1.2)
        left, top = corner[0] + (WIDTH_MM - _INNER_MM) / 2, corner[1]
        face = self._faces[whole]
        if _is_set(face):
            self._pdf.set_font(font, size=size)
            self._pdf.set_xy(left, top)
            self._pdf.cell(wide, tall, text, align="C")
            return
        picture = _drawn(text, face)
        height = size * _MM_A_PT * _DRAWN_LINE
        width = height * picture.width / picture.height
        self._pdf.image(
            picture, left + (wide - width) / 2, top + (tall - height) / 2, width, height
        )

    def _fitting_pt(
        self, text: str, whole: str, size_pt: float, font: str, wide: float = _INNER_MM
    ) -> float:
        """The size it was meant to have, or as much as goes into this width (mm)."""
        face = self._faces[whole]
        if _is_set(face):
            self._pdf.set_font(font, size=100)
            wide_at_100 = self._pdf.get_string_width(text)
        else:
            picture = _drawn(text, face)
            wide_at_100 = 100 * _MM_A_PT * _DRAWN_LINE * picture.width / picture.height
        return size_pt if wide_at_100 <= 0 else min(size_pt, 100 * wide / wide_at_100)


def _is_set(face: Face) -> bool:
    """With the sheet's own fonts; whatever else is drawn, and its letters need no embedding."""
    return face.path == BOLD and not face.is_shaped


def _broken(name: str, lines: int) -> list[str]:
    """In so many parts, each at the blank nearest to where it would be even, or just there."""
    if lines == 1:
        return [name]
    even = len(name) // lines
    blanks = [at for at, letter in enumerate(name) if letter.isspace()]
    near = [at for at in blanks if abs(at - even) <= even // 2]
    at = min(near, key=lambda blank: abs(blank - even), default=even)
    return [name[:at].strip(), *_broken(name[at:].strip(), lines - 1)]


def _drawn(text: str, face: Face) -> Image.Image:
    font = ImageFont.truetype(
        str(face.path),
        _DRAWN_PIXELS,
        index=face.index,
        layout_engine=ImageFont.Layout.RAQM if face.is_shaped else ImageFont.Layout.BASIC,
    )
    wide = max(1, round(font.getlength(text)))
    picture = Image.new("L", (wide, round(_DRAWN_PIXELS * _DRAWN_LINE)), 255)
    ImageDraw.Draw(picture).text((0, _DRAWN_PIXELS), text, font=font, fill=0, anchor="ls")
    return picture


def _qr(jws: str) -> BytesIO:
    """As digits, like the wallet's: fewer modules, so cameras read it from further away."""
    drawn = BytesIO()
    code = segno.make_qr(to_digits(jws), error="m")
    code.save(drawn, kind="png", scale=_QR_PIXELS_A_MODULE, border=QUIET_ZONE)
    return drawn
