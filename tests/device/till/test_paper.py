import pytest

from device.till.events import LinkDown, PrinterChanged
from device.till.receipt import COPY, Columns, Qr, Rule, Slip, SlipKind, Text, copy_of, words_of
from device.till.signals import Light, PrinterState
from device.till.states import HandedOverAsked, Showing
from tests.device.stage import Stage, approved, asking, ready, scanning

HELD_BACK = (PrinterState.NO_PAPER, PrinterState.COVER_OPEN, PrinterState.AWAY)
WELL = (PrinterState.OK, PrinterState.PAPER_LOW, PrinterState.NONE)


@pytest.mark.parametrize("state", HELD_BACK)
def test_a_till_at_rest_winks_while_slips_are_held_back(state: PrinterState) -> None:
    stage = ready()
    stage.take(PrinterChanged(state, 2))
    assert stage.light is Light.READY_NO_PAPER
    assert (stage.till.printer, stage.till.slips_waiting) == (state, 2)
    stage.press("5")
    assert stage.light is Light.READY_NO_PAPER
    stage.take(LinkDown())
    assert stage.light is Light.OFFLINE_NOT_ALLOWED_NO_PAPER
    stage.take(PrinterChanged(PrinterState.OK, 0))
    assert stage.light is Light.OFFLINE_NOT_ALLOWED


@pytest.mark.parametrize("state", WELL)
def test_a_printer_that_prints_or_is_not_there_changes_no_light(state: PrinterState) -> None:
    stage = ready()
    lights = list(stage.lights)
    stage.take(PrinterChanged(state, 0))
    assert stage.lights == lights


def test_green_means_what_it_always_means_without_paper() -> None:
    stage = asking()
    stage.take(PrinterChanged(PrinterState.NO_PAPER, 0))
    assert stage.light is Light.ASKING
    stage.answer(approved())
    assert stage.light is Light.APPROVED
    stage.take(PrinterChanged(PrinterState.NO_PAPER, 1))
    assert isinstance(stage.till.phase, Showing)
    assert stage.light is Light.APPROVED
    stage.wait(3)
    assert stage.light is Light.READY_NO_PAPER


def test_paper_that_ends_while_a_code_is_looked_for_lets_the_sale_go_on() -> None:
    stage = scanning()
    phase = stage.till.phase
    stage.take(PrinterChanged(PrinterState.NO_PAPER, 0))
    assert (stage.till.phase, stage.light) == (phase, Light.SHOW_QR)


def unseen_approval() -> Stage:
    stage = asking()
    journal = [*stage.journal]
    stage.answer(approved())
    answered = next(each for each in stage.journal if each not in journal)
    stage.journal = [*journal, answered]
    stage.cut_power()
    assert isinstance(stage.till.phase, HandedOverAsked)
    return stage


def test_a_question_that_had_no_paper_is_asked_again_when_there_is_some() -> None:
    stage = unseen_approval()
    stage.take(PrinterChanged(PrinterState.NO_PAPER, 0))
    asked = len(stage.slips)
    stage.take(PrinterChanged(PrinterState.COVER_OPEN, 0))
    assert len(stage.slips) == asked
    stage.take(PrinterChanged(PrinterState.OK, 0))
    assert len(stage.slips) == asked + 1
    assert "Handed over?" in stage.texts()
    stage.take(PrinterChanged(PrinterState.PAPER_LOW, 0))
    assert len(stage.slips) == asked + 1


def test_only_receipts_become_copies_and_only_once() -> None:
    lines = (Text("Summer Fair"), Rule(), Columns("Total", "9.00 EUR"))
    receipt = Slip(lines, SlipKind.RECEIPT)
    copy = copy_of(receipt)
    assert copy.lines == (
        Text("Summer Fair"),
        Rule(),
        Text(COPY, bold=True, centred=True),
        lines[2],
    )
    assert copy_of(copy) == copy
    assert copy_of(Slip(lines)) == Slip(lines)
    bare = copy_of(Slip((Text("Water"),), SlipKind.RECEIPT))
    assert bare.lines == (Text(COPY, bold=True, centred=True), Text("Water"))


def test_a_lines_words_are_all_that_is_read_on_it() -> None:
    lines = (Text("a"), Columns("b", "c"), Rule(), Qr("https://d", "e"))
    assert [words_of(line) for line in lines] == [("a",), ("b", "c"), (), ("e",)]
