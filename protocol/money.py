"""Money: integer cents and an ISO 4217 currency; never a float."""

import re
from typing import Annotated, Final, Self

import msgspec

_CODE: Final = re.compile(r"[A-Z]{3}")

# ISO 4217 (list one, 2024): currencies whose minor unit is not a hundredth. "Cents" would lie.
_NO_MINOR_UNIT: Final = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_OTHER_FRACTIONS: Final = "BHD IQD JOD KWD LYD OMR TND CLF UYW MRU MGA"
_WITHOUT_CENTS: Final = frozenset(f"{_NO_MINOR_UNIT} {_OTHER_FRACTIONS}".split())

CENTS_MAX: Final = 10**12
"""The largest amount either way: far above any wallet, far below 2**53 (JSON numbers)."""

Cents = Annotated[int, msgspec.Meta(ge=-CENTS_MAX, le=CENTS_MAX)]
Currency = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}\Z")]


class CurrencyMismatchError(ValueError):
    """Two currencies met in one sum: our own bug, never a user's input."""


class Money(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An amount in integer cents; it may be negative (a balance that owes)."""

    amount_in_cents: Cents
    currency: Currency

    def __post_init__(self) -> None:
        if not is_currency(self.currency):
            raise ValueError(f"not a currency with cents: {self.currency!r}")

    def __add__(self, other: "Money") -> "Money":
        self._same_currency(other)
        return Money(self.amount_in_cents + other.amount_in_cents, self.currency)

    def __sub__(self, other: "Money") -> "Money":
        self._same_currency(other)
        return Money(self.amount_in_cents - other.amount_in_cents, self.currency)

    def __mul__(self, count: int) -> "Money":
        return Money(self.amount_in_cents * count, self.currency)

    def __neg__(self) -> "Money":
        return Money(-self.amount_in_cents, self.currency)

    def __lt__(self, other: "Money") -> bool:
        self._same_currency(other)
        return self.amount_in_cents < other.amount_in_cents

    def __le__(self, other: "Money") -> bool:
        self._same_currency(other)
        return self.amount_in_cents <= other.amount_in_cents

    def __gt__(self, other: "Money") -> bool:
        return other < self

    def __ge__(self, other: "Money") -> bool:
        return other <= self

    def __str__(self) -> str:
        """`12.30 EUR`: for logs and terminals; receipts and pages use the event's locale."""
        return f"{format_cents(self.amount_in_cents)} {self.currency}"

    @classmethod
    def zero(cls, currency: str) -> Self:
        return cls(0, currency)

    def _same_currency(self, other: "Money") -> None:
        if self.currency != other.currency:
            raise CurrencyMismatchError(f"{self.currency} met {other.currency}")


def is_currency(code: str) -> bool:
    """Whether `code` is a currency counted in hundredths."""
    return _CODE.fullmatch(code) is not None and code not in _WITHOUT_CENTS


def format_cents(cents: int) -> str:
    """`-1234` -> `-12.34`."""
    sign = "-" if cents < 0 else ""
    whole, hundredths = divmod(abs(cents), 100)
    return f"{sign}{whole}.{hundredths:02d}"
