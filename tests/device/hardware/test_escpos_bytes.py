import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.hardware.decoding import read_qr
from device.hardware.escpos_bytes import compose, load_escpos
from device.hardware.settings import PrinterSettings
from device.till.receipt import Columns, Qr, Rule, Slip, Text
from venue.paper import Cut, Words, plain, read_paper, render

load_escpos()  # before hypothesis looks at the clock

WIDE = PrinterSettings()
NARROW = PrinterSettings(profile="RP-F10-58mm")
RECEIPT = Slip(
    (
        Text("SUMMER FAIR", bold=True, large=True, centred=True),
        Text("Bar Süd, till 3", centred=True),
        Rule(),
        Columns("2 x Pils 0.5 l", "9.00"),
        Columns("Total EUR", "9.00", bold=True),
        Qr("RAILTIX:0198c0ffee-4711-RECEIPT", "K7F-2QX"),
    )
)


def words(slip: Slip, settings: PrinterSettings = WIDE) -> list[Words]:
    return [mark for mark in read_paper(compose(slip, settings)) if isinstance(mark, Words)]


def test_a_slip_begins_with_a_reset_and_ends_with_a_cut() -> None:
    composed = compose(RECEIPT, WIDE)
    assert composed.startswith(b"\x1b@")
    assert read_paper(composed)[-1] == Cut()


def test_every_line_is_printed_as_it_was_meant() -> None:
    assert words(RECEIPT) == [
        Words("SUMMER FAIR", "center", bold=True, width=2, height=2),
        Words("Bar Süd, till 3", "center", bold=False, width=1, height=1),
        Words("-" * 48, "left", bold=False, width=1, height=1),
        Words(f"{'2 x Pils 0.5 l':<44}9.00", "left", bold=False, width=1, height=1),
        Words(f"{'Total EUR':<44}9.00", "left", bold=True, width=1, height=1),
        Words("K7F-2QX", "center", bold=False, width=1, height=1),
    ]


@pytest.mark.parametrize("qr", ["image", "native"])
@pytest.mark.parametrize("content", ["K7F-2QX", "R" * 150, "7" * 300])
def test_the_qr_on_the_paper_reads_what_was_printed(qr: str, content: str) -> None:
    settings = PrinterSettings(qr="native" if qr == "native" else "image")
    paper = render(compose(Slip((Qr(content, "scan me"),)), settings))
    reading = read_qr(np.asarray(paper))
    assert reading is not None
    assert reading.text == content


def test_a_long_name_goes_onto_the_next_line_and_its_price_stays() -> None:
    slip = Slip((Columns("A cider with a name that no paper is wide enough for", "12.00"),))
    first, second = words(slip, NARROW)
    assert first.text.endswith("12.00")
    assert len(first.text) == 36
    assert second.text == "paper is wide enough for"


def test_two_long_columns_stand_below_each_other() -> None:
    slip = Slip((Columns("reference", "0198c0ff-ee00-7000-8000-00000000beef"),))
    assert [line.text.strip() for line in words(slip, NARROW)] == [
        "reference",
        "0198c0ff-ee00-7000-8000-00000000beef",
    ]


@pytest.mark.parametrize(
    "text", ["Käse", "Żubrówka", "Πίτα", "Квас", "5 €", "Crème brûlée", "Phở bò Hà Nội"]
)
def test_letters_of_the_events_language_reach_the_paper(text: str) -> None:
    assert words(Slip((Text(text),)))[0].text == text


def test_the_code_page_is_sent_with_every_slip() -> None:
    slip = Slip((Text("Käse"),))
    assert compose(slip, WIDE) == compose(slip, WIDE)
    assert b"\x1bt" in compose(slip, WIDE)


def test_a_name_cannot_command_the_printer() -> None:
    open_the_drawer = "Beer\x1bp\x00\x19\xfa\x1d\x56\x00"
    line = words(Slip((Columns(open_the_drawer, "5\n.00\x1b@"),)))[0]
    assert line.text.split() == ["Beerpú", "V", "5", ".00@"]


@given(st.text(max_size=60), st.text(max_size=60))
def test_whatever_a_name_holds_only_known_commands_are_printed(left: str, right: str) -> None:
    slip = Slip((Text(left, large=True), Columns(left, right), Text(right, centred=True)))
    assert read_paper(compose(slip, WIDE))[-1] == Cut()


def test_a_profile_without_a_paper_width_is_refused() -> None:
    with pytest.raises(ValueError, match="no paper width"):
        compose(RECEIPT, PrinterSettings(profile="default"))


def test_the_slip_can_be_read_in_a_terminal() -> None:
    text = plain(compose(RECEIPT, WIDE))
    assert "Bar Süd, till 3" in text
    assert f"{'Total EUR':<44}9.00" in text


def test_loading_python_escpos_leaves_logging_and_the_environment_alone() -> None:
    program = (
        "import logging, os\n"
        "from device.hardware.escpos_bytes import load_escpos\n"
        "load_escpos()\n"
        "assert logging.getLogger().handlers == []\n"
        "assert not [name for name in os.environ if name.startswith('ESCPOS')]\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_its_printer_database_is_the_one_it_would_have_read_by_itself_for_longer() -> None:
    program = (
        "import yaml\n"
        "slowly = yaml.safe_load\n"
        "def nobody(file):\n"
        "    raise AssertionError('read as YAML')\n"
        "yaml.safe_load = nobody\n"
        "from device.hardware.escpos_bytes import load_escpos\n"
        "load_escpos()\n"
        "from escpos.capabilities import CAPABILITIES, capabilities_path\n"
        "assert CAPABILITIES == slowly(open(capabilities_path))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
