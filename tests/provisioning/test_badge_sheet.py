"""Badges on paper, as they come out of a renderer: read by the appliance's own scanner."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import segno
from cryptography.hazmat.primitives.asymmetric import ec
from PIL import Image

from device.hardware.decoding import read_qr
from protocol.policy import Badge, sign_badge
from protocol.wallet_qr import read, to_digits
from provisioning import badge_fonts
from provisioning.badge_fonts import NoFont, find_face
from provisioning.badge_sheet import (
    A_PAGE,
    COLUMNS,
    HEIGHT_MM,
    QR_MM,
    QUIET_ZONE,
    WIDTH_MM,
    BadgeFace,
    Paper,
    draw_sheet,
)

DPI = 200
MADE_AT = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
SIZES_MM = {Paper.A4: (210.0, 297.0), Paper.LETTER: (215.9, 279.4)}
NAMES = (
    "Mia Byrne",
    "Ольга Иванова",
    "Zoë Nguyễn Thị Hồng",
    "N",
    "Ana-María Fernández de la Cruz y Torreblanca",
    "Wolfeschlegelsteinhausenbergerdorff-Maximiliane",
    "W" * 100,
    "Μαρία Παπαδοπούλου",
    "محمد علي",
    "Nia Doyle",
)


def face(name: str, number: int = 0, *, is_supervisor: bool = False) -> BadgeFace:
    badge = Badge(1, f"badge-{number:010}", f"staff-{number}", "harbour-festival")
    return BadgeFace(name, name[:2], is_supervisor, sign_badge(badge, KEY, "badge-2026"))


def rendered(pdf: bytes, folder: Path) -> list[Image.Image]:
    (folder / "sheet.pdf").write_bytes(pdf)
    subprocess.run(
        [
            "gs",
            "-q",
            "-dNOPAUSE",
            "-dBATCH",
            "-dSAFER",
            "-sDEVICE=pnggray",
            f"-r{DPI}",
            f"-sOutputFile={folder}/page-%02d.png",
            f"{folder}/sheet.pdf",
        ],
        check=True,
        capture_output=True,
    )
    return [Image.open(each) for each in sorted(folder.glob("page-*.png"))]


def cut_out(page: Image.Image, place: int, paper: Paper) -> Image.Image:
    """What is on one badge, as whoever cuts along the marks has it in hand."""
    row, column = divmod(place, COLUMNS)
    width, height = SIZES_MM[paper]
    left = (width - COLUMNS * WIDTH_MM) / 2 + column * WIDTH_MM
    top = (height - COLUMNS * HEIGHT_MM) / 2 + row * HEIGHT_MM
    corners = (left, top, left + WIDTH_MM, top + HEIGHT_MM)
    return page.crop(tuple(round(each / 25.4 * DPI) for each in corners))  # pyright: ignore[reportArgumentType] -- four


@pytest.mark.parametrize("paper", Paper)
def test_every_badge_of_a_sheet_is_read_by_the_scanner_once_it_is_cut_out(
    tmp_path: Path, paper: Paper
) -> None:
    faces = [face(name, number) for number, name in enumerate(NAMES)]
    pdf = draw_sheet("Harbour Festival 2026", faces, paper, MADE_AT)
    assert isinstance(pdf, bytes), pdf
    pages = rendered(pdf, tmp_path)
    assert len(pages) == 2
    for number, each in enumerate(faces):
        badge = cut_out(pages[number // A_PAGE], number % A_PAGE, paper)
        reading = read_qr(np.asarray(badge))
        assert reading is not None, each.name
        assert read(reading.text) == each.jws


def test_a_name_however_long_stays_on_its_own_badge(tmp_path: Path) -> None:
    long = [face("W" * 100, 1), face("Wolfeschlegelsteinhausenbergerdorff " * 2, 2), face("M", 3)]
    pdf = draw_sheet("H" * 100, long, Paper.A4, MADE_AT)
    assert isinstance(pdf, bytes)
    [page] = rendered(pdf, tmp_path)
    for place in range(3):
        ink = np.asarray(cut_out(page, place, Paper.A4)) < 128
        edge = round(2.5 / 25.4 * DPI)
        # Between the cut marks' corners nothing comes near the edge.
        corner = round(4 / 25.4 * DPI)
        assert not ink[corner:-corner, :edge].any()
        assert not ink[corner:-corner, -edge:].any()
        name = ink[round(58 / 25.4 * DPI) : round(74 / 25.4 * DPI)]
        assert name.any(), "the name is there"


def test_the_code_is_large_and_stands_in_white_of_four_modules(tmp_path: Path) -> None:
    one = face("Mia Byrne")
    pdf = draw_sheet("Harbour Festival", [one], Paper.A4, MADE_AT)
    assert isinstance(pdf, bytes)
    [page] = rendered(pdf, tmp_path)
    modules = segno.make_qr(to_digits(one.jws), error="m").symbol_size(border=0)[0]
    module_mm = QR_MM / (modules + 2 * QUIET_ZONE)
    assert modules * module_mm >= 30
    assert QUIET_ZONE >= 4
    badge = np.asarray(cut_out(page, 0, Paper.A4)) < 128
    rows = slice(round(9 / 25.4 * DPI), round((9 + QR_MM) / 25.4 * DPI))
    columns = np.flatnonzero(badge[rows].any(axis=0))
    inside = [each for each in columns if 4 / 25.4 * DPI < each < (WIDTH_MM - 4) / 25.4 * DPI]
    left_mm, right_mm = min(inside) / DPI * 25.4, (max(inside) + 1) / DPI * 25.4
    assert right_mm - left_mm == pytest.approx(modules * module_mm, abs=0.4)
    assert left_mm - (WIDTH_MM - QR_MM) / 2 == pytest.approx(4 * module_mm, abs=0.3)


def test_a_supervisor_is_told_from_others_at_a_glance(tmp_path: Path) -> None:
    faces = [face("Sue Carty", 1, is_supervisor=True), face("Mia Byrne", 2)]
    pdf = draw_sheet("Harbour Festival", faces, Paper.A4, MADE_AT)
    assert isinstance(pdf, bytes)
    [page] = rendered(pdf, tmp_path)
    shares: list[float] = []
    for place in range(2):
        badge = np.asarray(cut_out(page, place, Paper.A4)) < 128
        role = badge[round(76 / 25.4 * DPI) : round(82 / 25.4 * DPI), round(26 / 25.4 * DPI) :]
        shares.append(float(role.mean()))
    assert shares[0] > 0.5
    assert shares[1] < 0.2


def test_a_badges_secret_is_in_no_repr_and_the_sheet_is_made_the_same_way_twice() -> None:
    one = face("Mia Byrne")
    assert one.jws not in repr(one)
    first = draw_sheet("Harbour Festival", [one], Paper.A4, MADE_AT)
    assert draw_sheet("Harbour Festival", [one], Paper.A4, MADE_AT) == first


def test_a_letter_that_no_font_has_is_refused_with_what_to_install() -> None:
    """From a plane for private use: nobody's font has it."""
    refused = draw_sheet("Harbour", [face("Mia \U0010fffd")], Paper.A4, MADE_AT)
    assert isinstance(refused, NoFont)
    assert "fonts-noto" in str(refused)


def test_without_any_font_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(badge_fonts, "BOLD", Path("/nowhere/bold.ttf"))
    assert "apt-get install fonts-dejavu-core" in str(find_face("Mia"))


def test_without_fontconfig_the_sheets_own_font_is_all_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert not isinstance(find_face("Ольга"), NoFont)
    refused = find_face("张伟")
    assert isinstance(refused, NoFont)
    assert "伟张" in str(refused)


def test_joined_scripts_are_refused_where_letters_cannot_be_joined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def has_none(_: str) -> bool:
        return False

    monkeypatch.setattr(badge_fonts.features, "check", has_none)
    assert "joined or turned" in str(find_face("محمد"))
    assert not isinstance(find_face("Mia"), NoFont)
