"""What is keyed between two sales: an amount or products, and the keys for everything else."""

from collections import Counter
from dataclasses import replace
from typing import Final

from device.till.effects import MakeSound
from device.till.entries import KeyedLine
from device.till.events import KeyPressed, Now
from device.till.leaving import ask_to_leave
from device.till.refunding import want_refund
from device.till.reprinting import want_last_receipt
from device.till.resting import Step, decline
from device.till.scanning_first import drop_scanned, kept
from device.till.selling import open_sale
from device.till.showing_balance import want_balance
from device.till.signals import Sound
from device.till.states import KeyingAmount, KeyingProducts, Ready, ScannedFirst, Till
from protocol.messages import LINES_MAX

DIGITS_MAX: Final = 32
"""Far more than any amount has: a number keyed too long is refused as what it is, at `#`."""
QUANTITY_MAX: Final = 999

CLICK: Final = (MakeSound(Sound.CLICK),)
NO: Final = (MakeSound(Sound.DECLINED),)


def key_when_ready(till: Till, phase: Ready, event: KeyPressed, now: Now) -> Step:
    scanned = kept(phase.scanned, now)
    match event.key, event.held:
        case "A", False:
            return replace(till, phase=KeyingProducts(scanned=scanned)), CLICK
        case "B", False:
            return want_refund(till, now)
        case "C", False:
            return want_balance(till, phase, now)
        case "D", False:
            return want_last_receipt(till, now)
        case "D", True:
            return ask_to_leave(till, now)
        case "*", _:
            return drop_scanned(till, phase, now), CLICK
        case (digit, False) if digit.isdecimal():
            return replace(till, phase=KeyingAmount(digit, scanned)), CLICK
        case _:
            return till, NO


def key_amount(till: Till, phase: KeyingAmount, event: KeyPressed, now: Now) -> Step:
    phase = replace(phase, scanned=kept(phase.scanned, now))
    match event.key:
        case "*":
            return _clear(till, phase, event, now)
        case "#":
            return open_sale(till, int(phase.digits), (), now, phase.scanned)
        case digit if digit.isdecimal() and len(phase.digits) < DIGITS_MAX:
            return replace(till, phase=replace(phase, digits=phase.digits + digit)), CLICK
        case _:
            return till, NO


def key_products(till: Till, phase: KeyingProducts, event: KeyPressed, now: Now) -> Step:
    phase = replace(phase, scanned=kept(phase.scanned, now))
    match event.key:
        case "*":
            return _clear(till, phase, event, now)
        case digit if digit.isdecimal() and len(phase.digits) < DIGITS_MAX:
            return replace(till, phase=replace(phase, digits=phase.digits + digit)), CLICK
        # There is no display: nothing is refused before the `#`, or the keys that staff press on
        # would begin another sale.
        case "A" if phase.digits:
            numbers = (*phase.numbers, int(phase.digits))
            return replace(till, phase=replace(phase, numbers=numbers, digits="")), CLICK
        case "#" if phase.digits:
            numbers = (*phase.numbers, int(phase.digits))
            return _sell_products(till, numbers, now, phase.scanned)
        case _:
            return till, NO


def _clear(till: Till, phase: KeyingAmount | KeyingProducts, event: KeyPressed, now: Now) -> Step:
    """What was keyed goes; the wallet that was scanned first stays, unless `*` is held."""
    ready = Ready(phase.scanned)
    if event.held:
        return drop_scanned(till, ready, now), CLICK
    return replace(till, phase=ready), CLICK


def _sell_products(
    till: Till, numbers: tuple[int, ...], now: Now, scanned: ScannedFirst | None
) -> Step:
    assert till.terms is not None, "somebody is signed in, so there is a policy"
    then = None if scanned is None else Ready(scanned)
    lines: list[KeyedLine] = []
    for number, quantity in Counter(numbers).items():
        product = till.terms.policy.product(number)
        if product is None:
            return decline(till, now.monotonic_s, "product_unknown", then=then)
        if quantity > QUANTITY_MAX or len(lines) == LINES_MAX:
            return decline(till, now.monotonic_s, "too_many_products", then=then)
        lines.append(KeyedLine(number, product.name, quantity, product.price_in_cents))
    total = sum(line.quantity * line.unit_price_in_cents for line in lines)
    return open_sale(till, total, tuple(lines), now, scanned)
