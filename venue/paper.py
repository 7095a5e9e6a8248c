"""What a receipt printer would put on paper, from the ESC/POS bytes it was sent.

Reads the commands python-escpos emits for our slips (Epson's ESC/POS reference); any other is an
error, since a real printer would have done something nobody looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, assert_never

import segno
from PIL import Image, ImageDraw, ImageFont

CELL: Final = (12, 24)
"""Dots of a character in font A."""

LINE_DOTS: Final = 30
MARGIN: Final = 24
MODULE_DOTS: Final = 6

_CODE_PAGES: Final = {
    0: "cp437", 1: "cp932", 2: "cp850", 3: "cp860", 4: "cp863", 5: "cp865",
    13: "cp857", 14: "cp737", 15: "iso8859_7", 16: "cp1252", 17: "cp866", 18: "cp852",
    19: "cp858", 32: "cp720",
    33: "cp775", 34: "cp855", 35: "cp861", 36: "cp862", 37: "cp864", 38: "cp869",
    39: "iso8859_2", 40: "iso8859_15", 44: "cp1125", 45: "cp1250", 46: "cp1251",
    47: "cp1253", 48: "cp1254",
    49: "cp1255", 50: "cp1256", 51: "cp1257", 52: "cp1258",
}  # fmt: skip
"""`ESC t n` on Epson's printers, where Python has the encoding."""

_ZJIANG_PAGES: Final = {
    0: "cp437", 1: "cp932", 2: "cp850", 3: "cp860", 4: "cp863", 5: "cp865", 16: "cp1252",
    17: "cp866", 18: "cp852", 19: "cp858", 25: "cp1257", 27: "cp1258", 28: "cp864", 32: "cp1255",
    60: "cp855", 61: "cp857", 62: "cp862", 64: "cp737", 66: "cp869", 71: "cp1252", 72: "cp1250",
    73: "cp1251", 90: "cp1253", 91: "cp1254", 92: "cp1256", 93: "cp720", 95: "cp775",
}  # fmt: skip
"""The same on the printers that most nameless 58 mm ones are made after."""

_VIETNAMESE: Final = (
    " " * 40
    + "ăâêôơưđ      àảãáạ ằẳẵắ       ặầẩẫấậè ẻẽéẹềểễếệìỉ   ĩíịò ỏõóọồổỗốộờởỡớợù ủũúụừửữứựỳỷỹýỵ "
)
_TABLES: Final = {
    30: _VIETNAMESE,
    31: " " * 33 + "ĂÂ    Ð  ÊÔƠƯ  " + _VIETNAMESE[48:].upper(),
}
"""`ESC t n` where Python has none: TCVN 5712-3 in small and in capital letters, from byte 128."""

_ALIGNMENTS: Final[dict[int, "Alignment"]] = {0: "left", 1: "center", 2: "right"}
_FONTS: Final = ("DejaVuSansMono.ttf", "LiberationMono-Regular.ttf", "NotoSansMono-Regular.ttf")
_BOLD_FONTS: Final = ("DejaVuSansMono-Bold.ttf", "LiberationMono-Bold.ttf")

Alignment = Literal["left", "center", "right"]


@dataclass(frozen=True)
class Model:
    """A printer: how wide it prints, in dots of an eighth of a millimetre, and its code pages."""

    width_dots: int
    code_pages: Mapping[int, str]

    @property
    def columns(self) -> int:
        return self.width_dots // CELL[0]


EPSON_80: Final = Model(576, _CODE_PAGES)
GENERIC_58: Final = Model(384, _ZJIANG_PAGES)
SEIKO_58: Final = Model(432, _CODE_PAGES)


class UnknownCommandError(ValueError):
    """Bytes that this reader does not know, or that end in the middle of a command."""


@dataclass(frozen=True)
class Words:
    """One printed line of characters."""

    text: str
    alignment: Alignment
    bold: bool
    width: int
    """Times as wide and `height` times as high as usual."""
    height: int


@dataclass(frozen=True)
class Picture:
    """A raster image: one bit a dot, rows padded to whole bytes, 1 is black."""

    width: int
    height: int
    dots: bytes
    alignment: Alignment


@dataclass(frozen=True)
class NativeQr:
    """A QR code that the printer draws itself."""

    content: str
    module_dots: int
    alignment: Alignment


@dataclass(frozen=True)
class Feed:
    """Blank lines."""

    lines: int


@dataclass(frozen=True)
class Cut:
    """The end of a slip."""


Mark = Words | Picture | NativeQr | Feed | Cut


@dataclass(frozen=True)
class _Style:
    alignment: Alignment = "left"
    bold: bool = False
    width: int = 1
    height: int = 1
    code_page: int = 0


def read_paper(printed: bytes, model: Model = EPSON_80) -> tuple[Mark, ...]:
    """What the bytes put on paper, from top to bottom. Raises UnknownCommandError."""
    return _Reader(printed, model).read()


def plain(printed: bytes, model: Model = EPSON_80) -> str:
    """The words of a slip as text, for a terminal: QR codes and pictures as a note in brackets."""
    lines: list[str] = []
    columns = model.columns
    for mark in read_paper(printed, model):
        match mark:
            case Words(text, alignment, _, width, _):
                room = columns // width
                lines.append(
                    text.center(room * width).rstrip()
                    if alignment == "center"
                    else text.rjust(room)
                    if alignment == "right"
                    else text
                )
            case Picture():
                lines.append("[picture]".center(columns).rstrip())
            case NativeQr():
                lines.append("[QR code]".center(columns).rstrip())
            case Feed(count):
                lines += [""] * count
            case Cut():
                lines.append("- " * (columns // 2))
            case _:
                assert_never(mark)
    return "\n".join(lines)


def render(printed: bytes, model: Model = EPSON_80) -> Image.Image:
    """A picture of the paper, one pixel a dot, for a person to look at."""
    pieces = [_draw(mark, model.width_dots) for mark in read_paper(printed, model)]
    height = sum(piece.height for piece in pieces)
    paper = Image.new("L", (model.width_dots + 2 * MARGIN, height + 2 * MARGIN), 252)
    top = MARGIN
    for piece in pieces:
        paper.paste(piece, (MARGIN, top))
        top += piece.height
    return paper


class _Reader:
    def __init__(self, printed: bytes, model: Model) -> None:
        self._bytes = printed
        self._pages = model.code_pages
        self._at = 0
        self._style = _Style()
        self._line = ""
        self._line_style = _Style()
        self._marks: list[Mark] = []
        self._qr_content = ""
        self._qr_dots = MODULE_DOTS

    def read(self) -> tuple[Mark, ...]:
        while self._at < len(self._bytes):
            byte = self._take(1)[0]
            match byte:
                case 0x1B:
                    self._escape(self._take(1))
                case 0x1D:
                    self._group(self._take(1))
                case 0x0A:
                    self._end_line()
                case _ if byte < 0x20 or byte == 0x7F:
                    raise UnknownCommandError(f"control byte 0x{byte:02x} at {self._at - 1}")
                case _:
                    if not self._line:
                        self._line_style = self._style
                    self._line += _letter(byte, self._style.code_page, self._pages)
        if self._line:
            self._end_line()
        return tuple(self._marks)

    def _take(self, count: int) -> bytes:
        taken = self._bytes[self._at : self._at + count]
        if len(taken) < count:
            raise UnknownCommandError("the bytes end in the middle of a command")
        self._at += count
        return taken

    def _number(self, size: int = 2) -> int:
        return int.from_bytes(self._take(size), "little")

    def _end_line(self) -> None:
        if not self._line:
            self._marks.append(Feed(1))
            return
        style = self._line_style
        self._marks.append(
            Words(self._line, style.alignment, style.bold, style.width, style.height)
        )
        self._line = ""

    def _escape(self, command: bytes) -> None:
        match command:
            case b"@":
                self._style = _Style()
            case b"!":
                mode = self._number(1)
                self._style = replace(
                    self._style,
                    bold=bool(mode & 0x08),
                    height=2 if mode & 0x10 else 1,
                    width=2 if mode & 0x20 else 1,
                )
            case b"E":
                self._style = replace(self._style, bold=bool(self._number(1) & 1))
            case b"a":
                at = self._number(1)
                if at not in _ALIGNMENTS:
                    raise UnknownCommandError(f"alignment {at}")
                self._style = replace(self._style, alignment=_ALIGNMENTS[at])
            case b"t":
                page = self._number(1)
                if page not in self._pages and page not in _TABLES:
                    raise UnknownCommandError(f"code page {page}")
                self._style = replace(self._style, code_page=page)
            case b"d":
                self._marks.append(Feed(self._number(1)))
            case _:
                raise UnknownCommandError(f"ESC {command!r} at {self._at - 1}")

    def _group(self, command: bytes) -> None:
        match command:
            case b"!":
                size = self._number(1)
                self._style = replace(self._style, width=(size >> 4 & 7) + 1, height=(size & 7) + 1)
            case b"V":
                mode = self._number(1)
                if mode in {65, 66}:
                    self._take(1)
                self._marks.append(Cut())
            case b"v":
                self._take(2)  # "0" and the density
                width, height = self._number() * 8, self._number()
                dots = self._take(width // 8 * height)
                self._marks.append(Picture(width, height, dots, self._style.alignment))
            case b"(":
                if self._take(1) != b"k":
                    raise UnknownCommandError(f"GS ( at {self._at - 1}")
                self._qr(self._take(self._number()))
            case _:
                raise UnknownCommandError(f"GS {command!r} at {self._at - 1}")

    def _qr(self, order: bytes) -> None:
        match order[:2]:
            case b"1A" | b"1E":
                return  # the model and the error correction: drawn as level M of model 2
            case b"1C":
                self._qr_dots = order[2]
            case b"1P":
                self._qr_content = order[3:].decode()
            case b"1Q":
                self._marks.append(NativeQr(self._qr_content, self._qr_dots, self._style.alignment))
            case _:
                raise UnknownCommandError(f"GS ( k {order[:2]!r}")


def _letter(byte: int, code_page: int, pages: Mapping[int, str]) -> str:
    if code_page in _TABLES and code_page not in pages and byte >= 128:
        return _TABLES[code_page][byte - 128]
    return bytes([byte]).decode(pages.get(code_page, "ascii"), errors="replace")


def _draw(mark: Mark, width_dots: int) -> Image.Image:
    match mark:
        case Words(text, alignment, bold, wide, high):
            # Characters that do not fit go on in the next line, as they do on a printer.
            room = max(1, width_dots // (CELL[0] * wide))
            rows = [
                _placed(
                    _words(text[at : at + room], bold=bold, wide=wide, high=high),
                    width_dots,
                    alignment,
                )
                for at in range(0, len(text), room)
            ]
            line = Image.new("L", (width_dots, sum(row.height for row in rows)), 255)
            for at, row in enumerate(rows):
                line.paste(row, (0, at * row.height))
            return line
        case Picture(width, height, dots, alignment):
            picture = Image.frombytes("1", (width, height), bytes(255 - byte for byte in dots))
            return _placed(picture.convert("L"), width_dots, alignment)
        case NativeQr(content, module_dots, alignment):
            modules = segno.make(content, error="m", micro=False).matrix_iter(border=2)
            rows = [bytes(0 if dark else 255 for dark in row) for row in modules]
            code = Image.frombytes("L", (len(rows[0]), len(rows)), b"".join(rows))
            size = (code.width * module_dots, code.height * module_dots)
            return _placed(code.resize(size, Image.Resampling.NEAREST), width_dots, alignment)
        case Feed(lines):
            return Image.new("L", (width_dots, LINE_DOTS * lines), 255)
        case Cut():
            edge = Image.new("L", (width_dots, 2 * MARGIN), 255)
            pen = ImageDraw.Draw(edge)
            for x in range(0, width_dots, 16):
                pen.line((x, MARGIN, x + 8, MARGIN), fill=150, width=2)
            return edge
        case _:
            assert_never(mark)


def _placed(piece: Image.Image, width_dots: int, alignment: Alignment) -> Image.Image:
    free = max(0, width_dots - piece.width)
    left = {"left": 0, "center": free // 2, "right": free}[alignment]
    line = Image.new("L", (width_dots, piece.height), 255)
    line.paste(piece, (left, 0))
    return line


def _words(text: str, *, bold: bool, wide: int, high: int) -> Image.Image:
    """Characters in cells of one width, as a printer's font has them, then enlarged."""
    width, height = CELL
    line = Image.new("L", (max(1, len(text)) * width, LINE_DOTS), 255)
    pen = ImageDraw.Draw(line)
    font = _font(_BOLD_FONTS if bold else _FONTS)
    for at, char in enumerate(text):
        pen.text((at * width + width // 2, height - 5), char, fill=0, font=font, anchor="ms")
    return line.resize((line.width * wide, line.height * high), Image.Resampling.NEAREST)


def _font(names: tuple[str, ...]) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    for name in names:
        try:
            return ImageFont.truetype(name, 19)
        except OSError:
            continue  # not on this machine
    return ImageFont.load_default(19)
