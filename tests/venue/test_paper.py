import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from venue.paper import (
    Cut,
    Feed,
    NativeQr,
    Picture,
    UnknownCommandError,
    Words,
    plain,
    read_paper,
    render,
)


def test_words_take_the_style_they_were_printed_in() -> None:
    printed = b"\x1b@\x1ba\x01\x1bE\x01\x1d!\x11Big\n\x1b!\x00small\n\x1ba\x02right\n"
    assert read_paper(printed) == (
        Words("Big", "center", bold=True, width=2, height=2),
        Words("small", "center", bold=False, width=1, height=1),
        Words("right", "right", bold=False, width=1, height=1),
    )


def test_letters_are_read_by_the_code_page_that_was_chosen() -> None:
    printed = b"\x1bt\x12" + "Żur".encode("cp852") + b" \x1bt\x13" + "5 €".encode("cp858") + b"\n"
    assert read_paper(printed) == (Words("Żur 5 €", "left", bold=False, width=1, height=1),)


def test_feeds_pictures_codes_and_cuts_are_seen() -> None:
    qr = b"\x1d(k\x03\x001C\x05\x1d(k\x05\x001P0AB\x1d(k\x03\x001Q0"
    printed = b"\n\x1bd\x06\x1dv0\x00\x01\x00\x02\x00\xf0\x0f" + qr + b"\x1dV\x00\x1dVB\x00"
    assert read_paper(printed) == (
        *(Feed(1), Feed(6), Picture(8, 2, b"\xf0\x0f", "left"), NativeQr("AB", 5, "left")),
        *(Cut(), Cut()),
    )


@pytest.mark.parametrize(
    "printed",
    [b"\x1bp\x00\x19\xfa", b"\x1b", b"\x07", b"\x1dv0\x00\x01", b"\x1ba\x09", b"\x1bt\xfe"],
)
def test_a_command_nobody_expects_is_an_error(printed: bytes) -> None:
    with pytest.raises(UnknownCommandError):
        read_paper(printed)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(printed: bytes) -> None:
    try:
        marks = read_paper(printed)
    except UnknownCommandError:
        return
    letters = [byte for byte in printed if 0x20 <= byte != 0x7F]
    assert sum(len(mark.text) for mark in marks if isinstance(mark, Words)) <= len(letters)


def test_the_picture_is_as_wide_as_the_paper_and_has_ink() -> None:
    picture = render(b"Hello\n\x1ba\x02\x1dv0\x00\x01\x00\x01\x00\xff\x1dV\x00")
    assert picture.width == 576 + 48
    assert np.asarray(picture)[24:54, 24:84].min() < 50
    assert picture.getpixel((24 + 575, 24 + 30)) == 0


def test_the_terminal_shows_what_the_paper_shows() -> None:
    assert plain(b"\x1ba\x01Hi\n\x1ba\x02r\n\x1dV\x00").splitlines()[:2] == [
        " " * 23 + "Hi",
        " " * 47 + "r",
    ]
