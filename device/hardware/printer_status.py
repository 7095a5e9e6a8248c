"""What a printer's real-time status means (Epson ESC/POS, `DLE EOT n`)."""

from typing import Final

from device.till.signals import PrinterState

PRINTER: Final = b"\x10\x04\x01"
OFFLINE_CAUSE: Final = b"\x10\x04\x02"
PAPER: Final = b"\x10\x04\x04"

_OFFLINE: Final = 0x08
_COVER_OPEN: Final = 0x04
_STOPPED_FOR_PAPER: Final = 0x20
_ERROR: Final = 0x40
_PAPER_END: Final = 0x60
_PAPER_NEAR_END: Final = 0x0C


def is_status(byte: int) -> bool:
    """Whether a byte from the printer answers `DLE EOT`: bits 1 and 4 are set, 0 and 7 are not.

    XON, XOFF and the printer's unasked-for status have another shape.
    """
    return byte & 0x93 == 0x12


def state_of(printer: int, cause: int | None, paper: int | None) -> PrinterState:
    """The answers to PRINTER, OFFLINE_CAUSE and PAPER; None: it was silent to that question.

    A jammed cutter and the like count as away: nothing prints until somebody comes.
    """
    cause, paper = cause or 0, paper or 0
    if paper & _PAPER_END or cause & _STOPPED_FOR_PAPER:
        return PrinterState.NO_PAPER
    if cause & _COVER_OPEN:
        return PrinterState.COVER_OPEN
    if printer & _OFFLINE or cause & _ERROR:
        return PrinterState.AWAY
    return PrinterState.PAPER_LOW if paper & _PAPER_NEAR_END else PrinterState.OK
