"""Transactions as an Excel workbook, row by row to disk: times and amounts are numbers there."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from xlsxwriter import Workbook
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

from cloud.reports.columns import COLUMNS, Kind, spell_lines
from cloud.reports.transactions import Transaction

SHEET_ROWS_MAX: Final = 1_048_576
"""Excel's own limit, the header included."""
_WIDTHS: Final = {
    Kind.TEXT: 18,
    Kind.ID: 38,
    Kind.MOMENT: 22,
    Kind.CENTS: 12,
    Kind.AMOUNT: 16,
    Kind.LINES: 30,
}
_CURRENCY_AT: Final = list(COLUMNS).index("currency")


def write_xlsx(
    file: Path,
    pages: Iterable[Sequence[Transaction]],
    *,
    sheet_rows_max: int = SHEET_ROWS_MAX,
) -> None:
    """The workbook, a further sheet whenever one is full.

    Rows go to files beside it as they come (`constant_memory`). Excel counts 15 digits: the cents
    stand in a column of their own and are exact up to there; times are UTC, to the millisecond.
    """
    workbook = Workbook(
        str(file),
        {
            "constant_memory": True,
            "tmpdir": str(file.parent),
            # A text is a text, whatever it looks like.
            "strings_to_formulas": False,
            "strings_to_urls": False,
            "strings_to_numbers": False,
            "use_zip64": True,
        },
    )
    with workbook:
        styles = _Styles(workbook)
        sheet, row = _begin_sheet(workbook, styles, 1), 1
        for page in pages:
            for transaction in page:
                if row == sheet_rows_max:
                    sheet, row = _begin_sheet(workbook, styles, len(workbook.worksheets()) + 1), 1
                _write_row(sheet, row, transaction, styles)
                row += 1


class _Styles:
    """A workbook's number formats: one a currency, made as each turns up."""

    def __init__(self, workbook: Workbook) -> None:
        self._workbook = workbook
        self._amounts: dict[str, Format] = {}
        self.header: Final = workbook.add_format({"bold": True})
        self.moment: Final = workbook.add_format({"num_format": "yyyy-mm-dd hh:mm:ss.000"})
        self.cents: Final = workbook.add_format({"num_format": "0"})

    def amount(self, currency: str) -> Format:
        found = self._amounts.get(currency)
        if found is None:
            number = f"#,##0.00 [${currency}];[Red]-#,##0.00 [${currency}]"
            found = self._amounts[currency] = self._workbook.add_format({"num_format": number})
        return found


def _begin_sheet(workbook: Workbook, styles: _Styles, number: int) -> Worksheet:
    sheet = workbook.add_worksheet("Transactions" if number == 1 else f"Transactions {number}")
    sheet.freeze_panes(1, 0)
    for at, (name, kind) in enumerate(COLUMNS.items()):
        sheet.set_column(at, at, _WIDTHS[kind])
        sheet.write_string(0, at, name, styles.header)
    return sheet


def _write_row(sheet: Worksheet, row: int, transaction: Transaction, styles: _Styles) -> None:
    values: tuple[Any, ...] = msgspec.structs.astuple(transaction)
    for at, (kind, value) in enumerate(zip(_KINDS, values, strict=True)):
        if value is None:
            continue
        match kind:
            case Kind.TEXT:
                sheet.write_string(row, at, value)
            case Kind.ID:
                sheet.write_string(row, at, str(value))
            case Kind.MOMENT:
                moment: datetime = value
                sheet.write_datetime(row, at, moment.replace(tzinfo=None), styles.moment)
            case Kind.CENTS:
                sheet.write_number(row, at, value, styles.cents)
            case Kind.AMOUNT:
                sheet.write_number(row, at, float(value), styles.amount(values[_CURRENCY_AT]))
            case Kind.LINES:
                sheet.write_string(row, at, spell_lines(value))


_KINDS: Final = tuple(COLUMNS.values())
