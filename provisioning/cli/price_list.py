"""A stall's price list as a spreadsheet saves it: every line is read before any counts."""

import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from protocol.policy import PRODUCTS_MAX
from provisioning.cli.amounts import CENTS_MAX, read_cents, show_cents
from provisioning.cli.cloud import Document

COLUMNS: Final = ("number", "name", "price")
BYTES_MAX: Final = 4 * 1024 * 1024
NUMBER_MAX: Final = 9999
NAME_CHARS_MAX: Final = 40
_NUMBER: Final = re.compile(r"[0-9]{1,4}")
_FORMULA: Final = tuple("=+-@\t\r")
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class BadLine:
    line: int
    why: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.why}"


def read_price_list(content: bytes) -> list[Document] | list[BadLine]:
    """Its products in the order of their numbers; or each line that cannot be one, and why."""
    text = _read_text(content)
    if isinstance(text, BadLine):
        return [text]
    first, lines = _skip_separator_hint(list(io.StringIO(text, newline="")))
    if not lines:
        return [BadLine(1, f"the file is empty; its first line names {','.join(COLUMNS)}")]
    delimiter = max(",;\t", key=lines[0].count)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    columns: list[str] | None = None
    read: list[tuple[int, Document]] = []
    bad: list[BadLine] = []
    began = first
    try:
        for row in reader:
            here, began = began, first + reader.line_num
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if columns is None:
                columns = [cell.lower() for cell in cells]
                if sorted(columns) != sorted(COLUMNS):
                    return [BadLine(here, _no_header(cells))]
                continue
            product = _read_product(columns, cells)
            if isinstance(product, str):
                bad.append(BadLine(here, product))
            else:
                read.append((here, product))
    except csv.Error as why:
        bad.append(BadLine(began, f"{why}: is a quotation mark left open?"))
    bad += _twins(read)
    if not bad and len(read) > PRODUCTS_MAX:
        bad.append(BadLine(read[PRODUCTS_MAX][0], f"a stall has {PRODUCTS_MAX} products at most"))
    if bad:
        return sorted(bad, key=lambda each: each.line)
    return [product for _, product in sorted(read, key=lambda each: each[1]["number"])]


def write_price_list(products: Sequence[Document]) -> str:
    """What `read_price_list` reads, and what a spreadsheet takes for no formula."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for product in products:
        name = product["name"]
        shown = f"'{name}" if name.startswith((*_FORMULA, "'")) else name
        writer.writerow((product["number"], shown, show_cents(product["price_in_cents"])))
    return out.getvalue()


def _read_text(content: bytes) -> str | BadLine:
    if len(content) > BYTES_MAX:
        return BadLine(1, f"the file is larger than {BYTES_MAX // 1024 // 1024} MiB")
    encoding = "utf-16" if content.startswith(_UTF16) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as why:
        line = content[: why.start].count(b"\n") + 1
        return BadLine(line, "this is no UTF-8: save the sheet as `CSV UTF-8`")
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        return BadLine(line, "there is a NUL character: save the sheet as `CSV UTF-8`")
    return text


def _skip_separator_hint(lines: list[str]) -> tuple[int, list[str]]:
    """Excel writes `sep=;` before the columns. The number of the first line that counts."""
    if lines and lines[0].strip().lower().startswith("sep="):
        return 2, lines[1:]
    return 1, lines


def _no_header(cells: Sequence[str]) -> str:
    found = ",".join(_shown(cell) for cell in cells[:8])
    return (
        f"the first line names the columns {','.join(COLUMNS)}, in any order; here it says {found}"
    )


def _read_product(columns: Sequence[str], cells: Sequence[str]) -> Document | str:
    """The product, or what is wrong with the line."""
    if len(cells) != len(columns):
        return (
            f"{len(cells)} values where {len(columns)} belong (a comma within a price or a name "
            "needs quotation marks)"
        )
    said = dict(zip(columns, cells, strict=True))
    name = said["name"]
    if name.startswith("'") and name[1:].startswith((*_FORMULA, "'")):
        name = name[1:]
    cents = read_cents(said["price"])
    wrong = [
        why
        for why in (
            _wrong_number(said["number"]),
            wrong_name(name),
            _wrong_price(said["price"]) if cents is None else None,
        )
        if why is not None
    ]
    if wrong:
        return "; ".join(wrong)
    return {"number": int(said["number"]), "name": name, "price_in_cents": cents}


def wrong_name(name: str) -> str | None:
    """None: it may be printed."""
    if not name:
        return "the name is missing"
    if len(name) > NAME_CHARS_MAX:
        return f"the name has {len(name)} characters, and {NAME_CHARS_MAX} are printed"
    if any(unicodedata.category(each) in {"Cc", "Zl", "Zp"} for each in name):
        return f"the name {_shown(name)} has control characters"
    return None


def _wrong_number(text: str) -> str | None:
    if _NUMBER.fullmatch(text) and 1 <= int(text) <= NUMBER_MAX:
        return None
    return f"{_shown(text)} is no number from 1 to {NUMBER_MAX}"


def _wrong_price(text: str) -> str:
    if re.fullmatch(r"[0-9]+[.,][0-9]{3,}", text):
        return f"the price {_shown(text)} has more than two decimals"
    if text.startswith("-"):
        return f"the price {_shown(text)} is negative"
    return f"{_shown(text)} is no price like 4.80, up to {show_cents(CENTS_MAX)}"


def _twins(read: Sequence[tuple[int, Document]]) -> list[BadLine]:
    first: dict[int, int] = {}
    twins: list[BadLine] = []
    for line, product in read:
        number = product["number"]
        if number in first:
            twins.append(BadLine(line, f"number {number} stands in line {first[number]} already"))
        else:
            first[number] = line
    return twins


def _shown(text: str) -> str:
    """Quoted, short, and without what a terminal would obey."""
    return ascii(text) if len(text) <= NAME_CHARS_MAX else ascii(text[:NAME_CHARS_MAX]) + "..."
