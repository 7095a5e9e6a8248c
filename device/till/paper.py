"""What the till makes of its printer: a word of the lamp, and a question asked again."""

from dataclasses import replace

from device.till.effects import Print
from device.till.events import PrinterChanged
from device.till.receipt import handed_over_slip
from device.till.resting import Step
from device.till.states import HandedOverAsked, Till


def see_printer(till: Till, event: PrinterChanged) -> Step:
    """Take note. No sale waits for paper; the resting light follows from what the till knows."""
    held_back = till.printer.holds_slips_back
    till = replace(till, printer=event.state, slips_waiting=event.waiting)
    match till.phase:
        case HandedOverAsked(sales=(asked, *_)) if held_back and not event.state.holds_slips_back:
            # Only this slip says what the till waits for, and the printer dropped it.
            return till, (Print(handed_over_slip(asked.sale, asked.approval, till.terms)),)
        case _:
            return till, ()
