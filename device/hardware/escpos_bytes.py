"""A slip as ESC/POS bytes, composed by python-escpos for the printer that will get them."""

import json
import logging
import os
import pickle
import platform
import sys
import textwrap
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, assert_never

from device.hardware.letters import letters_of
from device.hardware.settings import PrinterSettings
from device.till.receipt import Columns, Qr, Rule, Slip, Text, words_of

QR_LEVEL_M: Final = 1

QR_CAPACITY: Final = (
    *(14, 26, 42, 62, 84, 106, 122, 152, 180, 213),
    *(251, 287, 331, 362, 412, 450, 504, 560, 624, 666),
)
"""Bytes a QR code of version 1, 2, ... holds at level M (ISO/IEC 18004, table 7)."""


def load_escpos() -> None:
    """Import python-escpos without what its import does to the program around it.

    It takes a while and 17 MiB, so it is loaded by the printer's thread and not before.
    """
    if "escpos.printer" in sys.modules:
        return
    with TemporaryDirectory(prefix="escpos-") as folder, our_own_log():
        # It writes a pickle of its printer database there, and would leave it behind in /tmp.
        name = "ESCPOS_CAPABILITIES_PICKLE_DIR"
        is_ours = os.environ.setdefault(name, folder) == folder
        if is_ours:
            _prepare_database(Path(folder))
        try:
            import escpos.printer  # noqa: F401, PLC0415 # pyright: ignore[reportUnusedImport]
        finally:
            if is_ours:
                del os.environ[name]


def _prepare_database(folder: Path) -> None:
    """Its printer database, as it would leave it there for its next start.

    The file is JSON, which it reads as YAML: half of its whole import, before the first slip of
    each start. Whatever is not as expected here it reads by itself.
    """
    found = find_spec("escpos")
    if found is None or not found.submodule_search_locations:
        return
    source = Path(found.submodule_search_locations[0]) / "capabilities.json"
    try:
        database = json.loads(source.read_bytes())
        times = source.stat()
    except (OSError, ValueError):
        return
    made = folder / f"{platform.python_version()}.capabilities.pickle"
    made.write_bytes(pickle.dumps(database))
    # It takes one that is no older than its source; a Pi's clock may be.
    os.utime(made, ns=(times.st_atime_ns, times.st_mtime_ns))


@contextmanager
def our_own_log() -> Generator[None]:
    """Take away what a `logging.info` of python-escpos adds: a handler that prints to stderr."""
    root = logging.getLogger()
    handlers = list(root.handlers)
    try:
        yield
    finally:
        for handler in set(root.handlers) - set(handlers):
            root.removeHandler(handler)


def compose(slip: Slip, settings: PrinterSettings) -> bytes:
    """The ESC/POS bytes of a slip, from reset to cut.

    Raises ValueError for a profile whose paper width python-escpos does not know.
    """
    load_escpos()
    from escpos.magicencode import Encoder  # noqa: PLC0415
    from escpos.printer import Dummy  # noqa: PLC0415

    letters = letters_of(settings.profile, settings.code_pages)
    pages = letters.pages_for(letters.fit(words) for line in slip.lines for words in words_of(line))
    # A fresh one a slip: after `ESC @` the printer forgets its code page and so must the encoder
    # (python-escpos #272).
    paper = Dummy(profile=settings.profile, magic_encode_args={"encoder": Encoder(pages)})
    width_dots = paper.profile.media["width"]["pixels"]
    if not isinstance(width_dots, int):
        raise ValueError(f"printer profile {settings.profile!r} has no paper width")
    columns = paper.profile.get_columns("a")
    paper.hw("INIT")
    for line in slip.lines:
        match line:
            case Text(text, bold, large, centred):
                paper.set(
                    align="center" if centred else "left",
                    bold=bold,
                    normal_textsize=not large,
                    double_width=large,
                    double_height=large,
                )
                width = columns // 2 if large else columns
                for row in textwrap.wrap(letters.fit(text), width) or [""]:
                    paper.textln(row)
            case Columns(left, right, bold):
                paper.set(align="left", bold=bold, normal_textsize=True)
                for row in _in_columns(letters.fit(left), letters.fit(right), columns):
                    paper.textln(row)
            case Rule():
                paper.set(align="left", bold=False, normal_textsize=True)
                paper.textln("-" * columns)
            case Qr(content, caption):
                paper.set(align="center", bold=False, normal_textsize=True)
                paper.qr(
                    content,
                    ec=QR_LEVEL_M,
                    size=_dots_a_module(content, width_dots),
                    native=settings.qr == "native",
                )
                for row in textwrap.wrap(letters.fit(caption), columns):
                    paper.textln(row)
            case _:
                assert_never(line)
    paper.cut()
    return paper.output


def _in_columns(left: str, right: str, columns: int) -> list[str]:
    room = columns - len(right) - 1
    if room < columns // 3 or (len(left) > room and len(right) >= columns // 2):
        return [
            *textwrap.wrap(left, columns),
            *(row.rjust(columns) for row in _wrap(right, columns)),
        ]
    first, *more = _wrap(left, room)
    return [f"{first:<{room}} {right}", *more]


def _wrap(text: str, columns: int) -> list[str]:
    return textwrap.wrap(text, columns) or [""]


def _dots_a_module(content: str, width_dots: int) -> int:
    length = len(content.encode())
    version = 1 + sum(capacity < length for capacity in QR_CAPACITY)
    modules = 17 + 4 * version + 2
    return max(2, min(8, width_dots * 3 // 4 // modules))
