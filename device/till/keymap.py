"""Which key does what, and when, in words: the quick card shows them, a test presses them all."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

DIGITS: Final = "0123456789"
KEYS: Final = "123A456B789C*0#D"
"""As they lie on the keypad, row by row."""


class Work(StrEnum):
    """What staff are about when a key is pressed."""

    NOBODY = "nobody is signed in"
    PIN = "the PIN is wanted"
    PIN_AGAIN = "a new PIN is wanted once more"
    READY = "ready"
    SCANNED = "a wallet was scanned first"
    AMOUNT = "an amount is being keyed"
    PRODUCTS = "products are being keyed"
    SHOW_QR = "the customer's QR is wanted"
    ASKING = "a sale is being asked"
    RESULT = "the result is shown"
    FAULT = "the fault light is on"
    CODE_WANTED = "a QR for a balance or a refund, or a supervisor's badge, is wanted"
    REFUND_AMOUNT = "the refund's amount is wanted"
    INQUIRING = "a balance, a receipt, a PIN or a refund is being asked"
    LEAVING = "the shift report is printed"
    HANDED_OVER = "a slip asks: handed over?"


@dataclass(frozen=True)
class Deed:
    """What some keys do; `held` is None where a tap and a long press are the same."""

    keys: str
    words: str
    held: bool | None = None

    def is_done_by(self, key: str, *, held: bool) -> bool:
        return key in self.keys and self.held in {None, held}


KEYMAP: Final[Mapping[Work, tuple[Deed, ...]]] = {
    Work.NOBODY: (),
    Work.PIN: (
        Deed(DIGITS, "key the PIN"),
        Deed("#", "confirms the PIN"),
        Deed("*", "clears it; a second time, or held, gives up"),
    ),
    Work.PIN_AGAIN: (
        Deed(DIGITS, "the same PIN"),
        Deed("#", "confirms it"),
        Deed("*", "starts over; held, gives up"),
    ),
    Work.READY: (
        Deed(DIGITS, "begin an amount: 5 0 0 # is 5.00", held=False),
        Deed("A", "product: A 3 A 3 # is two of product 3", held=False),
        Deed("B", "refund: scan the receipt's QR", held=False),
        Deed("C", "balance slip: show the wallet's QR", held=False),
        Deed("D", "the last receipt again", held=False),
        Deed("D", "held: shift report, then # signs out", held=True),
    ),
    Work.SCANNED: (
        Deed(DIGITS, "begin an amount; # then deducts at once", held=False),
        Deed("A", "product; # then deducts at once", held=False),
        Deed("B", "refund: scan the receipt's QR", held=False),
        Deed("C", "this wallet's balance on a slip", held=False),
        Deed("D", "the last receipt again", held=False),
        Deed("D", "held: shift report, then # signs out", held=True),
        Deed("*", "lets this wallet go"),
    ),
    Work.AMOUNT: (
        Deed(DIGITS, "go on"),
        Deed("#", "confirms: then the customer's QR"),
        Deed("*", "clears"),
    ),
    Work.PRODUCTS: (
        Deed(DIGITS, "the product's number"),
        Deed("A", "the next product"),
        Deed("#", "confirms: then the customer's QR"),
        Deed("*", "clears"),
    ),
    Work.SHOW_QR: (Deed("*", "lets the customer go"),),
    Work.ASKING: (Deed("*", "held: cancels the sale", held=True),),
    Work.RESULT: (Deed(KEYS, "any key goes on"),),
    Work.FAULT: (Deed("*#", "seen: goes on"),),
    Work.CODE_WANTED: (Deed("*", "ends it"),),
    Work.REFUND_AMOUNT: (
        Deed(DIGITS, "the amount to give back"),
        Deed("#", "confirms; without an amount: all that is left"),
        Deed("*", "clears; a second time, or held, ends it"),
    ),
    Work.INQUIRING: (Deed("*", "held: stops waiting; a refund is asked for on and on", held=True),),
    Work.LEAVING: (
        Deed("#", "within 10 seconds: signs out"),
        Deed(f"{DIGITS}ABCD*", "any other key goes on selling"),
    ),
    Work.HANDED_OVER: (
        Deed("#", "yes: it stays paid"),
        Deed("*", "held: no, it is paid back", held=True),
    ),
}


def deed_of(work: Work, key: str, *, held: bool) -> Deed | None:
    """What this key does now; None: nothing, which two low beeps or silence say."""
    return next((each for each in KEYMAP[work] if each.is_done_by(key, held=held)), None)
