"""CSV as RFC 4180 has it: UTF-8 without a byte order mark, and nothing a spreadsheet calculates."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Final

Cell = str | int | None
_FORMULA_STARTS: Final = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "\uff1d",
    "\uff0b",
    "\uff0d",
    "\uff20",
)


def csv_rows(rows: Iterable[Sequence[Cell]]) -> bytes:
    """The rows as lines; None is an empty cell."""
    written = io.StringIO()
    csv.writer(written, lineterminator="\r\n").writerows(rows)
    return written.getvalue().encode()


def defused(text: str) -> str:
    """An apostrophe before what a spreadsheet would take for a formula (OWASP, CSV injection).

    Whoever needs each text to the letter takes JSON Lines.
    """
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
