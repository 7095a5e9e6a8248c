import csv
import io
import re
import tempfile
import tracemalloc
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID
from zipfile import ZipFile

import msgspec
import pytest

from cloud.ledger.postings import TransactionType
from cloud.reports import transactions
from cloud.reports.columns import COLUMNS
from cloud.reports.comma_separated import defused
from cloud.reports.export import Format, export
from cloud.reports.transactions import (
    Place,
    Position,
    Selection,
    Tally,
    Transaction,
    newest_transactions,
    read_transactions,
)
from cloud.reports.xlsx import write_xlsx
from protocol.ids import EventId, StallId
from tests.cloud.floor import EVENT, START, Floor
from tests.cloud.reports.books import Books, signed

_ALL: Final = Selection()


def _exported(floor: Floor, form: Format, selection: Selection = _ALL) -> tuple[bytes, Tally]:
    tally = Tally()
    return b"".join(export(floor.database, selection, form, tally)), tally


def _lines(floor: Floor, selection: Selection) -> list[dict[str, Any]]:
    data, _ = _exported(floor, Format.JSONL, selection)
    return [msgspec.json.decode(line) for line in data.splitlines()]


def test_every_transaction_is_there_once_in_order_with_its_sum(floor: Floor) -> None:
    books = Books.open(floor)
    books.add_at_random(7, 1500)
    books.write()
    data, tally = _exported(floor, Format.CSV)
    rows = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    assert [UUID(row["id"]) for row in rows] == [
        row["id"] for row in sorted(books.rows, key=lambda row: (row["created_at"], row["id"]))
    ]
    assert sum(int(row["signed_amount_in_cents"]) for row in rows) == sum(map(signed, books.rows))
    assert tally.rows == len(books.rows)
    assert sum(tally.signed_in_cents.values()) == sum(map(signed, books.rows))


def test_a_row_says_all_that_the_ledger_knows(floor: Floor) -> None:
    books = Books.open(floor)
    accepted = datetime(2026, 6, 20, 17, 30, 0, 5000, tzinfo=UTC)
    sale = books.sell((1, 2), (7, 1), device_id="till-1", accepted_offline_at=accepted)
    books.give_back(sale, 80, created_at=START + timedelta(seconds=1))
    books.write()
    [sold, back] = _lines(floor, _ALL)
    assert set(sold) == set(COLUMNS)
    assert sold | {"id": "", "user_id": "", "correlation_id": "", "idempotency_key": ""} == {
        "created_at": "2026-06-20T18:00:00Z",
        "id": "",
        "type": "Deduct",
        "direction": "out",
        "amount_in_cents": 780,
        "signed_amount_in_cents": -780,
        "signed_amount": "-7.80",
        "currency": "EUR",
        "event_id": "summer-fair",
        "event_name": "Summer fair",
        "stall_id": "bar",
        "stall_name": "Bar",
        "reference": sale["reference"],
        "correlation_id": "",
        "idempotency_key": "",
        "reversal_of_transaction_id": None,
        "order_id": None,
        "device_id": "till-1",
        "staff_id": "mia",
        "created_by": "system:test",
        "accepted_offline_at": "2026-06-20T17:30:00.005000Z",
        "lines": [
            {"product": 1, "quantity": 2, "unit_price_in_cents": 350},
            {"product": 7, "quantity": 1, "unit_price_in_cents": 80},
        ],
        "user_id": "",
    }
    assert sold["correlation_id"] == sale["correlation_id"]
    assert back["reversal_of_transaction_id"] == str(sale["id"])


@pytest.mark.parametrize(
    ("selection", "kept"),
    [
        (Selection(since=START + timedelta(hours=1)), "BCDE"),
        (Selection(until=START + timedelta(hours=1)), "A"),
        (Selection(type=TransactionType.PURCHASE), "E"),
        (Selection(event_id=EVENT), "ABD"),
        (Selection(event_id=EVENT, stall_id=StallId("grill")), "B"),
        (Selection(within=(Place(EVENT),)), "ABD"),
        (Selection(within=(Place(EVENT, StallId("bar")), Place(EventId("winter")))), "AC"),
        (Selection(within=()), ""),
        (Selection(event_id=EventId("winter"), within=(Place(EVENT),)), ""),
        (Selection(reference="D"), "D"),
    ],
)
def test_a_selection_keeps_what_it_names(floor: Floor, selection: Selection, kept: str) -> None:
    books = Books.open(floor)
    books.sell((1, 1), reference="A")
    hour = START + timedelta(hours=1)
    books.sell((1, 1), stall_id="grill", created_at=hour, reference="B")
    books.sell((1, 1), event_id="winter", created_at=hour, reference="C")
    books.add("Adjustment", 5, created_at=hour, reference="D")
    books.add("Purchase", 500, event_id=None, created_at=hour, reference="E")
    books.write()
    assert sorted(row["reference"] for row in _lines(floor, selection)) == list(kept)


def test_users_are_left_out_where_nobody_may_see_them(floor: Floor) -> None:
    books = Books.open(floor)
    books.sell((1, 1))
    books.write()
    [row] = _lines(floor, Selection(shows_users=False))
    assert row["user_id"] is None


def test_an_export_shows_one_moment(floor: Floor) -> None:
    books = Books.open(floor)
    books.add_at_random(3, 1100)
    books.write()
    stood = len(books.rows)
    tally = Tally()
    blocks = export(floor.database, _ALL, Format.JSONL, tally)
    next(blocks)
    later = Books(floor, books.user_id)
    later.sell((1, 1), created_at=START + timedelta(days=30))
    later.write()
    for _ in blocks:
        pass
    assert tally.rows == stood


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\N{FULLWIDTH EQUALS SIGN}1"]
)
def test_no_text_is_calculated_by_a_spreadsheet(floor: Floor, text: str) -> None:
    books = Books.open(floor)
    books.add("Deduct", 5, reference=text, created_by='a"quoted", line')
    books.write()
    data, _ = _exported(floor, Format.CSV)
    [row] = csv.DictReader(io.StringIO(data.decode(), newline=""))
    assert row["reference"] == defused(text) == f"'{text}"
    assert row["created_by"] == 'a"quoted", line'
    # A number of our own stays one.
    assert row["signed_amount"] == "-0.05"
    [sheet] = _sheets(_exported(floor, Format.XLSX)[0])
    assert sheet[1]["reference"] == text


def test_csv_is_utf_8_without_a_mark_in_lines_of_rfc_4180(floor: Floor) -> None:
    books = Books.open(floor)
    books.sell((1, 1), reference="Grüße")
    books.write()
    data, _ = _exported(floor, Format.CSV)
    assert data.startswith(b"created_at,id,type,")
    assert data.endswith(b"\r\n")
    assert data.count(b"\r\n") == data.count(b"\n") == 2
    assert "Grüße".encode() in data


def test_a_workbook_holds_numbers_that_can_be_added_up(floor: Floor) -> None:
    books = Books.open(floor)
    books.add_at_random(5, 60)
    books.write()
    [sheet] = _sheets(_exported(floor, Format.XLSX)[0])
    assert list(sheet[0].values()) == list(COLUMNS)
    rows = sheet[1:]
    cents = sum(int(row["signed_amount_in_cents"]) for row in rows)
    assert cents == sum(map(signed, books.rows))
    assert all(
        round(float(row["signed_amount"]) * 100) == int(row["signed_amount_in_cents"])
        for row in rows
    )
    began = (START.replace(tzinfo=None) - datetime(1899, 12, 30)) / timedelta(days=1)  # noqa: DTZ001  # Excel's days have no zone
    assert all(began <= float(row["created_at"]) < began + 4 for row in rows)


def test_a_full_sheet_is_followed_by_another(floor: Floor, tmp_path: Path) -> None:
    books = Books.open(floor)
    books.add_at_random(6, 20)
    books.write()
    with floor.database.reading() as connection:
        write_xlsx(tmp_path / "out.xlsx", read_transactions(connection, _ALL), sheet_rows_max=11)
    sheets = _sheets((tmp_path / "out.xlsx").read_bytes())
    told = [row["id"] for sheet in sheets for row in sheet[1:]]
    assert len(sheets) == -(-len(books.rows) // 10) > 1
    assert len(told) == len(set(told)) == len(books.rows)
    assert all(list(sheet[0].values()) == list(COLUMNS) for sheet in sheets)


@pytest.mark.parametrize("form", Format)
def test_an_export_of_nothing_is_a_file_of_its_kind(floor: Floor, form: Format) -> None:
    data, tally = _exported(floor, form)
    assert tally.rows == 0
    match form:
        case Format.CSV:
            assert data.count(b"\r\n") == 1
        case Format.JSONL:
            assert data == b""
        case Format.XLSX:
            assert len(_sheets(data)[0]) == 1


def test_a_workbook_leaves_nothing_behind(
    floor: Floor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    _exported(floor, Format.XLSX)
    given_up = export(floor.database, _ALL, Format.XLSX, Tally())
    next(given_up)
    assert list(tmp_path.glob("railtix-export-*"))
    given_up.close()
    assert not list(tmp_path.glob("railtix-export-*"))


def test_progress_is_told_page_by_page(floor: Floor) -> None:
    books = Books.open(floor)
    books.add_at_random(8, 1200)
    books.write()
    told: list[tuple[int, int]] = []
    blocks = export(
        floor.database, _ALL, Format.CSV, Tally(), lambda done, total: told.append((done, total))
    )
    assert sum(1 for _ in blocks) >= 2
    total = len(books.rows)
    assert told[0] == (0, total)
    assert told[-1] == (total, total)


@pytest.mark.parametrize("form", Format)
def test_memory_does_not_grow_with_the_rows(
    floor: Floor, form: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small pages: measuring takes ten times as long as exporting. `make bench-export`, a million.
    monkeypatch.setattr(transactions, "PAGE_ROWS", 100)
    few, many = 300, 3_000
    books = Books.open(floor)
    for number in range(many):
        books.sell((1, 1), created_at=START + timedelta(seconds=number))
    books.write()
    books.rows.clear()
    until_few = Selection(until=START + timedelta(seconds=few))
    for _ in export(floor.database, until_few, form, Tally()):
        pass  # what is imported and compiled on first use is no row's
    peak_of_few, peak_of_many = (_peak(floor, form, each) for each in (until_few, _ALL))
    # Ten times the rows; what other threads of this process hold meanwhile is a fraction.
    assert peak_of_many < 2 * peak_of_few + 500_000


def test_pages_newest_first_hold_everything_once(floor: Floor) -> None:
    books = Books.open(floor)
    for number in range(25):
        # Several at one moment: the id decides.
        books.sell((1, 1), created_at=START + timedelta(seconds=number // 4))
    books.write()
    found: list[Transaction] = []
    with floor.database.reading() as connection:
        while page := newest_transactions(connection, _ALL, _after(found), 7):
            found += page
    assert [each.id for each in reversed(found)] == [
        row["id"] for row in sorted(books.rows, key=lambda row: (row["created_at"], row["id"]))
    ]


def _after(found: list[Transaction]) -> Position | None:
    return Position(found[-1].created_at, found[-1].id) if found else None


def _peak(floor: Floor, form: Format, selection: Selection) -> int:
    tracemalloc.start()
    try:
        for _ in export(floor.database, selection, form, Tally()):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def _sheets(workbook: bytes) -> list[list[dict[str, str]]]:
    """Each sheet's rows; cells by the name that their column's number has in `COLUMNS`."""
    with ZipFile(io.BytesIO(workbook)) as archive:
        names = [name for name in archive.namelist() if "worksheets/sheet" in name]
        ordered = sorted(names, key=lambda name: int(re.findall(r"\d+", name)[0]))
        roots = [ET.fromstring(archive.read(name)) for name in ordered]
    return [[dict(_cells(row)) for row in root.iter(f"{_SHEET}row")] for root in roots]


def _cells(row: ET.Element) -> Iterator[tuple[str, str]]:
    for cell in row.iter(f"{_SHEET}c"):
        assert cell.find(f"{_SHEET}f") is None, "a formula"
        letters = re.sub(r"\d", "", cell.attrib["r"])
        at = 0
        for letter in letters:
            at = at * 26 + ord(letter) - 64
        name = list(COLUMNS)[at - 1]
        value = cell.find(f"{_SHEET}v")
        if value is None:
            texts = cell.iter(f"{_SHEET}t")
            yield name, "".join(text.text or "" for text in texts).replace("_x000D_", "\r")
        else:
            yield name, value.text or ""
