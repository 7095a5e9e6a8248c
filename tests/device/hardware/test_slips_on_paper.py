import numpy as np
import pytest

from bench.slips import NARROW, WIDE, slips
from device.hardware.decoding import read_qr
from device.hardware.escpos_bytes import compose
from device.hardware.settings import PrinterSettings
from device.till.receipt import Columns, Qr
from venue.paper import EPSON_80, GENERIC_58, Model, Words, read_paper, render

SLIPS = slips()
PAPERS = {"80 mm": (WIDE, EPSON_80), "58 mm": (NARROW, GENERIC_58)}


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("kind", SLIPS)
def test_every_slip_fits_the_paper_and_every_amount_stays_in_one_piece(
    kind: str, paper: str
) -> None:
    settings, model = PAPERS[paper]
    rows = printed(kind, settings, model)
    assert all(len(row.text) * row.width <= model.columns for row in rows)
    texts = [row.text for row in rows]
    for line in SLIPS[kind].lines:
        if isinstance(line, Columns):
            assert any(text.endswith(line.right) for text in texts)


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("kind", ["receipt", "funds"])
def test_the_codes_on_the_slips_read(kind: str, paper: str) -> None:
    settings, model = PAPERS[paper]
    (code,) = (line for line in SLIPS[kind].lines if isinstance(line, Qr))
    reading = read_qr(np.asarray(render(compose(SLIPS[kind], settings), model)))
    assert reading is not None
    assert reading.text == code.content


def test_two_times_that_do_not_fit_side_by_side_stand_below_each_other_whole() -> None:
    texts = [row.text.strip() for row in printed("shift", NARROW, GENERIC_58)]
    assert "2026-07-11 14:00" in texts
    assert "2026-07-11 18:00" in texts


def printed(kind: str, settings: PrinterSettings, model: Model) -> list[Words]:
    marks = read_paper(compose(SLIPS[kind], settings), model)
    return [mark for mark in marks if isinstance(mark, Words)]
