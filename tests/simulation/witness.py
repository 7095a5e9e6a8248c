"""What the people at the counters saw and did: the light's word on each sale, and nothing else."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from device.till.entries import SaleOpened
from device.till.receipt import COPY, Qr, Slip, Text
from device.till.signals import Light
from protocol.money import Money
from tests.simulation.history import History

SaleKey = tuple[str, str]
"""An appliance and an idempotency key."""


class Word(StrEnum):
    PAID = "paid"
    NOT_PAID = "not paid"


_WORDS: Final = {
    Light.APPROVED: Word.PAID,
    Light.APPROVED_OFFLINE: Word.PAID,
    Light.DECLINED: Word.NOT_PAID,
    Light.REFRESH_QR: Word.NOT_PAID,
    Light.FAULT: Word.NOT_PAID,
}
_IN_BETWEEN: Final = frozenset({Light.ASKING, Light.KEY_THE_AMOUNT})
"""No word yet, and the sale goes on. Every other light says that it is over."""


@dataclass
class Seen:
    """One sale as the people around it know it."""

    amount: Money
    was_asked: bool = False
    words: list[Word] = field(default_factory=list)
    went_dark: bool = False
    kept: bool | None = None
    """What staff answered to the slip after a power cut, last."""
    receipts: list[str] = field(default_factory=list)
    """What their QR codes say."""
    is_handed_over: bool = False
    """Where no light said anything: whether staff gave the goods all the same."""


class Witness:
    def __init__(self, history: History) -> None:
        self.sales: dict[SaleKey, Seen] = {}
        self._history = history
        self._in_front: dict[str, SaleKey] = {}
        """The sale that the next light speaks of, by appliance."""

    def meet(self, device_id: str, sale: SaleOpened) -> None:
        self.sales.setdefault((device_id, sale.key), Seen(sale.amount))

    def see_asked(self, device_id: str, sale: SaleOpened) -> None:
        self.meet(device_id, sale)
        self._expect_a_word(device_id)
        self.sales[device_id, sale.key].was_asked = True
        self._in_front[device_id] = (device_id, sale.key)

    def see_accepted(self, device_id: str, key: str) -> None:
        """The till is about to say yes on its own: it speaks of the sale it journals."""
        self._expect_a_word(device_id, unless=(device_id, key))
        self.sales[device_id, key].was_asked = True
        self._in_front[device_id] = (device_id, key)

    def see_light(self, device_id: str, light: Light) -> None:
        sale_key = self._in_front.get(device_id)
        word = _WORDS.get(light)
        if word is not None and sale_key is not None:
            seen = self.sales[sale_key]
            if seen.words and seen.words[-1] is not word:
                raise self._history.broken("one sale, two words", *sale_key)
            seen.words.append(word)
            self._history.note(device_id, f"word: {word}", sale_key[1])
        elif word is Word.PAID:
            raise self._history.broken("green, and no sale stands here", device_id)
        elif word is None and light not in _IN_BETWEEN:
            self._expect_a_word(device_id)
            self._in_front.pop(device_id, None)

    def see_slip(self, device_id: str, slip: Slip) -> None:
        """A receipt belongs to the sale whose green light shines beside it; a copy to nobody."""
        if any(isinstance(each, Text) and each.text == COPY for each in slip.lines):
            return
        receipts = [each.content for each in slip.lines if isinstance(each, Qr)]
        if not receipts:
            return
        sale_key = self._in_front.get(device_id)
        if sale_key is None or self.sales[sale_key].words[-1:] != [Word.PAID]:
            raise self._history.broken("a receipt without a green light", device_id)
        self.sales[sale_key].receipts += receipts

    def see_dark(self, device_id: str, *, hands_over: bool) -> None:
        """The power is gone; staff do as they think right with a sale that got no word."""
        sale_key = self._in_front.pop(device_id, None)
        if sale_key is not None and not self.sales[sale_key].words:
            self.sales[sale_key].went_dark = True
            self.sales[sale_key].is_handed_over = hands_over

    def was_handed_over(self, device_id: str, key: str) -> bool:
        """What staff remember when the slip asks them."""
        seen = self.sales[device_id, key]
        return seen.words[-1] is Word.PAID if seen.words else seen.is_handed_over

    def answer_slip(self, device_id: str, key: str, *, kept: bool) -> None:
        self.sales[device_id, key].kept = kept
        self._history.note(device_id, "slip: kept" if kept else "slip: not kept", key)

    def _expect_a_word(self, device_id: str, unless: SaleKey | None = None) -> None:
        sale_key = self._in_front.get(device_id)
        if sale_key is not None and sale_key != unless and not self.sales[sale_key].words:
            raise self._history.broken("the sale ended without a word", *sale_key)
