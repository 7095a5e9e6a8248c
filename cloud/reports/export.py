"""Part of the ledger as a file, in memory that does not grow with it: CSV, JSON Lines or XLSX."""

import tempfile
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from cloud.reports.columns import COLUMNS, Kind, spell_lines, spell_moment
from cloud.reports.comma_separated import Cell, csv_rows, defused
from cloud.reports.snapshot import snapshot
from cloud.reports.transactions import (
    Selection,
    Tally,
    Transaction,
    count_transactions,
    read_transactions,
)
from cloud.reports.xlsx import write_xlsx
from cloud.store.database import Database

_BLOCK_BYTES: Final = 256 * 1024

Pages = Iterable[Sequence[Transaction]]
Progress = Callable[[int, int], None]
"""Called before the first page and after each: how many are done, of how many."""


class Format(StrEnum):
    CSV = "csv"
    JSONL = "jsonl"
    XLSX = "xlsx"

    @property
    def media_type(self) -> str:
        match self:
            case Format.CSV:
                return "text/csv; charset=utf-8; header=present"
            case Format.JSONL:
                return "application/jsonl"
            case Format.XLSX:
                return "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def export(
    database: Database,
    selection: Selection,
    form: Format,
    tally: Tally,
    progress: Progress | None = None,
) -> Generator[bytes]:
    """The file's bytes, block by block, from one snapshot; `tally` holds the sums at the end.

    XLSX is a ZIP archive: it is put together in a temporary folder first, which is gone once the
    last block was taken or the generator is closed.
    """
    with (
        snapshot(database) as connection,
        closing(_counted(connection, selection, tally, progress)) as pages,
    ):
        match form:
            case Format.CSV:
                yield from csv_blocks(pages)
            case Format.JSONL:
                yield from jsonl_blocks(pages)
            case Format.XLSX:
                yield from _xlsx_blocks(pages)


def csv_blocks(pages: Pages) -> Generator[bytes]:
    """A line of column names, then a line for each transaction."""
    yield csv_rows([tuple(COLUMNS)])
    for page in pages:
        yield csv_rows(_cells(each) for each in page)


def jsonl_blocks(pages: Pages) -> Generator[bytes]:
    """One JSON object a line."""
    encoder = msgspec.json.Encoder()
    for page in pages:
        yield encoder.encode_lines(page)


def _xlsx_blocks(pages: Pages) -> Generator[bytes]:
    with tempfile.TemporaryDirectory(prefix="railtix-export-") as folder:
        file = Path(folder) / "transactions.xlsx"
        write_xlsx(file, pages)
        with file.open("rb") as finished:
            while block := finished.read(_BLOCK_BYTES):
                yield block


def _counted(
    connection: Connection, selection: Selection, tally: Tally, progress: Progress | None
) -> Generator[Sequence[Transaction]]:
    total = 0
    if progress is not None:
        total = count_transactions(connection, selection)
        progress(0, total)
    with closing(read_transactions(connection, selection)) as pages:
        for page in pages:
            tally.add(page)
            yield page
            if progress is not None:
                progress(tally.rows, total)


def _cells(transaction: Transaction) -> list[Cell]:
    values: tuple[Any, ...] = msgspec.structs.astuple(transaction)
    return [
        None if value is None else write(value)
        for write, value in zip(_CELL_WRITERS, values, strict=True)
    ]


def _cell_writer(kind: Kind) -> Callable[[Any], Cell]:
    match kind:
        case Kind.TEXT:
            return defused
        case Kind.ID | Kind.AMOUNT:
            return str
        case Kind.MOMENT:
            return spell_moment
        case Kind.CENTS:
            return int
        case Kind.LINES:
            return spell_lines


_CELL_WRITERS: Final = tuple(_cell_writer(kind) for kind in COLUMNS.values())
