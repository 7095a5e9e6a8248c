"""Which code pages a slip's letters need, and what stands for a letter that no page has."""

import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from escpos.magicencode import Encoder

TRIED_FIRST: Final = (
    *("CP437", "CP858", "CP850", "CP852", "CP1252", "CP866", "CP737", "CP857", "CP775", "CP860"),
    *("CP863", "CP865", "CP862", "CP1250", "CP1251", "CP1253", "CP1254", "CP1257", "CP1255"),
    *("CP855", "CP1125", "ISO_8859-2", "ISO_8859-7", "ISO_8859-15", "TCVN-3-1", "TCVN-3-2"),
)
"""The oldest pages first: a printer whose profile promises too much has these."""

_STAND_INS: Final[Mapping[str, str]] = {
    "ș": "ş", "ț": "ţ", "Ș": "Ş", "Ț": "Ţ", "Ґ": "Г", "ґ": "г",
    "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ð": "d", "Ð": "D",
    "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ħ": "h", "Ħ": "H",
    "þ": "th", "Þ": "Th", "ı": "i", "ŋ": "n", "Ŋ": "N", "ŧ": "t", "Ŧ": "T", "ĸ": "k",
    "\u2018": "'", "\u2019": "'", "\u201a": ",", "\u2032": "'", "\u02bc": "'",
    "\u201c": '"', "\u201d": '"', "\u201e": '"', "«": '"', "»": '"', "‹": "'", "›": "'",
    "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2014": "-", "\u2212": "-",
    "…": "...", "•": "*", "·": "-", "\u00d7": "x", "÷": "/", "№": "No",
    "€": "EUR", "£": "GBP",
}  # fmt: skip
"""Letters and signs that Unicode does not take apart, or not into what a printer has."""


def printable(text: str) -> str:
    """`text` in characters that are only ever ink: no control codes, one line, one cell each.

    A product named with `ESC` in it must not open the cash drawer. Ideographs become "?":
    python-escpos would send them in an encoding that only Chinese printers know.
    """
    spaced = "".join(" " if char.isspace() else char for char in text)
    ink = "".join(char for char in spaced if not unicodedata.category(char).startswith("C"))
    cells = (_in_one_cell(char) for char in unicodedata.normalize("NFC", ink))
    return unicodedata.normalize("NFC", "".join(cells))


def _in_one_cell(char: str) -> str:
    if unicodedata.category(char) in {"Mn", "Me"}:
        return ""  # a mark that no letter took in would take a cell of its own
    if unicodedata.east_asian_width(char) in "WF":
        narrow = unicodedata.normalize("NFKC", char)
        return narrow if len(narrow) == 1 and narrow.isascii() and narrow.isprintable() else "?"
    return char


class Letters:
    """The letters of one printer."""

    def __init__(self, encoder: "Encoder", pages: Mapping[str, int]) -> None:
        """`pages`: the number of each of the printer's code pages, by python-escpos' names."""
        self._encoder = encoder
        self._pages = dict(pages)
        rank = {page: at for at, page in enumerate(TRIED_FIRST)}
        self._in_order = sorted(pages, key=lambda page: (rank.get(page, len(rank)), pages[page]))

    def fit(self, text: str) -> str:
        """`text` in letters that the printer has, "?" last."""
        return "".join(self._fit(char) for char in printable(text))

    def pages_for(self, texts: Iterable[str]) -> dict[str, int]:
        """The fewest pages that have the letters of fitted texts: one, nearly always."""
        missing = {char for text in texts for char in text if ord(char) >= 128}
        chosen: list[str] = []
        while missing or not chosen:
            # The first of those that have most: `max` keeps the order.
            page = max(self._in_order, key=lambda page: len(self._of(page, missing)))
            chosen.append(page)
            missing -= self._of(page, missing)
        return {page: self._pages[page] for page in chosen}

    def _fit(self, char: str) -> str:
        if self._has(char):
            return char
        if (stand_in := _STAND_INS.get(char)) is not None:
            return "".join(self._fit(each) for each in stand_in)
        # U+0141 and its like aside, a letter is its base letter and marks; the base is read.
        apart = unicodedata.normalize("NFKD", char)
        base = "".join(each for each in apart if not unicodedata.combining(each))
        if base and base != char and all(self._has(each) for each in base):
            return base
        return "?"

    def _has(self, char: str) -> bool:
        return ord(char) < 128 or any(
            self._encoder.can_encode(page, char) for page in self._in_order
        )

    def _of(self, page: str, chars: set[str]) -> set[str]:
        return {char for char in chars if self._encoder.can_encode(page, char)}


@cache
def letters_of(profile: str, only: tuple[str, ...] = ()) -> Letters:
    """The letters of a python-escpos profile, from all of its code pages or those named.

    Raises ValueError where the profile has none of those named.
    """
    from escpos.capabilities import get_profile  # noqa: PLC0415 -- see load_escpos
    from escpos.magicencode import Encoder  # noqa: PLC0415

    pages: dict[str, int] = {}
    numbered = get_profile(profile).profile_data["codePages"]
    for number, page in sorted((int(number), page) for number, page in numbered.items()):
        # A page that a profile lists twice is surest at its lowest number.
        if page != "Unknown" and (not only or page in only):
            pages.setdefault(page, number)
    if not pages:
        raise ValueError(f"printer profile {profile!r} has none of the code pages {only}")
    return Letters(Encoder(pages), pages)
