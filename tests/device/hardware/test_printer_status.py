import pytest

from device.hardware.printer_status import is_status, state_of
from device.till.signals import PrinterState

WELL = 0x12


@pytest.mark.parametrize(
    ("printer", "cause", "paper", "expected"),
    [
        (WELL, WELL, WELL, PrinterState.OK),
        (WELL, None, None, PrinterState.OK),
        (WELL, WELL, 0x1E, PrinterState.PAPER_LOW),
        (WELL | 0x08, 0x32, 0x7E, PrinterState.NO_PAPER),
        (WELL | 0x08, None, 0x72, PrinterState.NO_PAPER),
        (WELL | 0x08, 0x32, None, PrinterState.NO_PAPER),
        (WELL | 0x08, 0x16, 0x1E, PrinterState.COVER_OPEN),
        (WELL | 0x08, 0x16, 0x7E, PrinterState.NO_PAPER),
        (WELL | 0x08, 0x52, WELL, PrinterState.AWAY),
        (WELL | 0x08, None, None, PrinterState.AWAY),
        (WELL | 0x08, 0x1A, WELL, PrinterState.AWAY),
    ],
)
def test_a_printers_answers_in_one_word(
    printer: int, cause: int | None, paper: int | None, expected: PrinterState
) -> None:
    assert state_of(printer, cause, paper) is expected


def test_only_the_shape_of_a_real_time_status_is_one() -> None:
    assert all(is_status(byte) for byte in (0x12, 0x1A, 0x16, 0x32, 0x7E, 0x1E))
    xon, xoff, unasked_status, letter = 0x11, 0x13, 0x14, 0x41
    assert not any(is_status(byte) for byte in (0x00, xon, xoff, unasked_status, letter, 0xFF))
