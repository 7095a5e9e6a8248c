"""The judges themselves: a fault that is planted is found."""

import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from image.build.layout import LAYOUT
from image.emulation.counter import Posting
from image.emulation.cut_sales import (
    Cut,
    Journal,
    Receipt,
    _faults,
    _paper_faults,
    receipts_among,
)
from image.emulation.lamp import Glance, Hue, Lamp
from image.emulation.slots import root_at
from image.emulation.tree import Built
from image.emulation.volatile_disk import DISK_GIB, SECTOR, Loss, VolatileDisk

HEADS = {1: "aa", 2: "bb"}
CODE = "PTMW-APXW"
SALE = Posting("k", 500, is_reversed=False, code=CODE)
BACK = Posting("k", 500, is_reversed=True, code=CODE)
RECEIPT, COPY = Receipt(CODE, is_copy=False), Receipt(CODE, is_copy=True)


def cut(*, was_green: bool, receipts: tuple[Receipt, ...] = ()) -> Cut:
    journal = Journal(HEADS, is_settled=True)
    return Cut(1.0, Loss(0, 0, 0, torn=False), was_green, receipts, 0, journal)


@pytest.mark.parametrize(
    ("was_green", "asked", "keeps", "sales", "says"),
    [
        (True, False, True, [], "green, and 0 deducts stand"),
        (True, False, True, [SALE, SALE], "green, and 2 deducts stand"),
        (True, False, True, [BACK], "green, and 0 deducts stand"),
        (False, False, True, [SALE], "nobody was asked, and a deduct stands"),
        (False, True, False, [SALE], "staff took it back, and 1 deducts stand"),
        (False, True, True, [], "staff kept it, and 0 deducts stand"),
    ],
)
def test_a_sale_that_breaks_a_lights_promise_is_found(
    *, was_green: bool, asked: bool, keeps: bool, sales: list[Posting], says: str
) -> None:
    journal = Journal({**HEADS, 3: "cc"}, is_settled=True)
    found = _faults(cut(was_green=was_green), sales, journal, asked=asked, keeps=keeps)
    assert [says in each for each in found] == [True]


@pytest.mark.parametrize(
    ("was_green", "asked", "keeps", "sales"),
    [
        (True, False, True, [SALE]),
        (False, False, True, [BACK]),
        (False, False, True, []),
        (True, True, True, [SALE]),
        (True, True, False, [BACK]),
    ],
)
def test_a_sale_that_keeps_them_is_not(
    *, was_green: bool, asked: bool, keeps: bool, sales: list[Posting]
) -> None:
    journal = Journal(HEADS, is_settled=True)
    assert _faults(cut(was_green=was_green), sales, journal, asked=asked, keeps=keeps) == []


@pytest.mark.parametrize("kept", [{1: "aa"}, {1: "aa", 2: "xx"}, {}])
def test_a_journal_that_lost_or_changed_an_entry_is_found(kept: dict[int, str]) -> None:
    found = _faults(
        cut(was_green=False), [], Journal(kept, is_settled=True), asked=False, keeps=True
    )
    assert found[0].startswith("the journal lost")


@pytest.mark.parametrize(
    ("before", "known", "after", "asked", "says"),
    [
        ((RECEIPT,), [], (), False, "nobody knows"),
        ((RECEIPT,), [BACK], (), False, "does not stand"),
        ((), [BACK], (COPY,), False, "does not stand"),
        ((RECEIPT,), [SALE], (RECEIPT,), False, "does not say COPY"),
        ((RECEIPT,), [], (), True, "nobody knows"),
    ],
)
def test_paper_that_the_ledger_does_not_know_of_is_found(
    *,
    before: tuple[Receipt, ...],
    known: list[Posting],
    after: tuple[Receipt, ...],
    asked: bool,
    says: str,
) -> None:
    found = _paper_faults(cut(was_green=True, receipts=before), known, after, asked=asked)
    assert [says in each for each in found] == [True]


@pytest.mark.parametrize(
    ("before", "known", "after", "asked"),
    [
        ((), [SALE], (), False),
        ((RECEIPT,), [SALE], (), False),
        ((RECEIPT,), [SALE], (COPY,), False),
        ((), [SALE], (RECEIPT,), False),
        ((), [SALE], (COPY,), False),
        ((RECEIPT,), [BACK], (), True),
    ],
)
def test_paper_that_agrees_is_not(
    *,
    before: tuple[Receipt, ...],
    known: list[Posting],
    after: tuple[Receipt, ...],
    asked: bool,
) -> None:
    one = cut(was_green=True, receipts=before)
    assert _paper_faults(one, known, after, asked=asked) == []


def test_a_receipt_is_known_by_its_code_and_a_copy_by_its_word() -> None:
    receipt = "Harbour Festival\nTotal   5.00 EUR\n2026-11-23 16:03   Served by MB\n  PTMW-APXW\n"
    slips = [receipt, receipt.replace("\n", "\nCOPY\n", 1), "Handed over?", "Total\n1.00"]
    assert receipts_among(slips) == (RECEIPT, COPY)


def logged(path: Path, *writes: tuple[int, bytes]) -> None:
    """A log as blklogwrites writes it: a flush where there are no bytes."""
    with path.open("wb") as log:
        log.write(struct.pack("<QQQI", 0x6A736677736872, 1, len(writes), SECTOR).ljust(SECTOR))
        for sector, content in writes:
            flags = 0 if content else 1
            sectors = len(content) // SECTOR
            log.write(struct.pack("<QQQQ", sector, sectors, flags, 0).ljust(SECTOR, b"\0"))
            log.write(content)


@pytest.fixture
def disk(tmp_path: Path) -> VolatileDisk:
    image = tmp_path / "small.img"
    image.write_bytes(bytes(SECTOR))
    return VolatileDisk(Built(image, image, tmp_path, tmp_path), tmp_path / "disk")


def test_what_was_flushed_stays_and_what_was_not_may_go_whole_or_in_part(
    disk: VolatileDisk,
) -> None:
    outcomes: set[tuple[bool, bool]] = set()
    for seed in range(40):
        disk.make()
        whole = b"1" * 8 * SECTOR
        logged(disk._log, (0, whole), (0, b""), (8, b"2" * 8 * SECTOR), (16, b"3" * SECTOR))
        disk.settle(np.random.default_rng(seed), loses=True)
        with disk.raw.open("rb") as file:
            assert file.read(8 * SECTOR) == whole
            after = file.read(8 * SECTOR)
            outcomes.add((after.count(b"2") == 8 * SECTOR, 0 < after.count(b"2") < 8 * SECTOR))
    assert outcomes == {(True, False), (False, True)}, "kept whole, or torn"


def test_a_kind_cut_keeps_what_was_handed_over(disk: VolatileDisk) -> None:
    disk.make()
    logged(disk._log, (4, b"4" * SECTOR))
    assert disk.settle(np.random.default_rng(1), loses=False) == Loss(1, 1, 1, torn=False)
    with disk.raw.open("rb") as file:
        file.seek(4 * SECTOR)
        assert file.read(SECTOR) == b"4" * SECTOR
    assert disk.raw.stat().st_size == DISK_GIB << 30


def shown(*colours: tuple[int, int, int]) -> Lamp:
    lamp = Lamp()
    for at, (red, green, blue) in enumerate(colours, 1):
        lamp.glance(Glance(20, red, green, blue, float(at), float(at)))
    return lamp


def test_only_full_green_alone_is_an_approval() -> None:
    assert shown(*[(0, 20, 0)] * 3).approved_at(0.0) == 1.0
    assert shown(*[(0, 19, 0)] * 9).approved_at(0.0) is None
    assert shown(*[(0, 20, 20)] * 9).approved_at(0.0) is None
    assert shown(*[(1, 20, 0)] * 9).approved_at(0.0) is None
    assert shown((0, 20, 0), (0, 0, 0), (0, 20, 0)).approved_at(0.0) is None


def test_a_dim_colour_is_told_by_the_leads_that_are_ever_lit() -> None:
    swells = ((0, 0, 0),) * 6 + ((1, 0, 1), (0, 0, 0))
    assert shown(*swells * 2).hue() is Hue.VIOLET
    assert shown(*[(2, 1, 3)] * 16).hue() is Hue.WHITE
    assert shown(*[(0, 0, 0)] * 16).hue() is Hue.DARK
    assert shown((5, 5, 5)).hue() is None


def test_white_so_dim_that_a_lead_is_missed_is_not_another_colour() -> None:
    bright, dim = ((3, 3, 3),) * 8, ((0, 1, 0), (0, 0, 1)) * 4
    assert shown(*bright, *dim).hue() is None
    assert shown(*dim, *bright).hue() is None
    assert shown(*bright, *bright).hue() is Hue.WHITE


def test_a_file_system_is_told_by_its_own_bytes_and_not_by_what_lies_behind_it(
    tmp_path: Path,
) -> None:
    whole = tmp_path / "whole"
    whole.write_bytes(bytes(1 << 20))
    mke2fs = next(each for each in ("/sbin/mke2fs", "/usr/sbin/mke2fs") if Path(each).exists())
    subprocess.run([mke2fs, "-q", "-t", "ext4", str(whole), "512k"], check=True)
    found = root_at(whole)
    assert found.size == 512 << 10

    content = bytearray(whole.read_bytes())
    content[-1] ^= 1
    (tmp_path / "behind").write_bytes(content)
    content[(512 << 10) - 1] ^= 1
    (tmp_path / "within").write_bytes(content)
    (tmp_path / "none").write_bytes(bytes(4096))

    assert root_at(tmp_path / "behind") == found
    assert root_at(tmp_path / "within") != found
    assert root_at(tmp_path / "none").size == LAYOUT.slot_size
