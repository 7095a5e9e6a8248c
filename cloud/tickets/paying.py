"""How an order's total is split into Credits and card."""

from enum import StrEnum
from typing import Final, Literal

import msgspec

from protocol.money import Money

CARD_MIN_IN_CENTS: Final = 50
"""Card providers take no less (Stripe's minimum charge in EUR and USD): a smaller rest is avoided,
never opened."""

CreditsAsked = int | Literal["all"]
"""Cents to take from the wallet; `all`: as much as it holds, the rest by card."""


class Split(msgspec.Struct, frozen=True):
    credits_part: Money
    card_part: Money


class SplitReason(StrEnum):
    """Why it cannot be paid so."""

    INSUFFICIENT_CREDITS = "insufficient_credits"
    ABOVE_TOTAL = "above_total"
    CARD_PART_TOO_SMALL = "card_part_too_small"


class NotSplit(msgspec.Struct, frozen=True):
    reason: SplitReason
    available: Money
    """What the wallet has to spend."""


def split_total(total: Money, balance: Money, asked: CreditsAsked) -> Split | NotSplit:
    """Both parts; together they are the total, and neither is negative.

    A wallet that owes has nothing to spend. With `all` the card takes its minimum at least, and
    the wallet keeps the difference.
    """
    available = max(balance, Money.zero(total.currency))
    wanted = _all_of(total, available) if asked == "all" else Money(asked, total.currency)
    if wanted > total:
        return NotSplit(SplitReason.ABOVE_TOTAL, available)
    if wanted > available:
        return NotSplit(SplitReason.INSUFFICIENT_CREDITS, available)
    rest = total - wanted
    if 0 < rest.amount_in_cents < CARD_MIN_IN_CENTS:
        return NotSplit(SplitReason.CARD_PART_TOO_SMALL, available)
    return Split(wanted, rest)


def _all_of(total: Money, available: Money) -> Money:
    if available >= total:
        return total
    rest = max(total - available, Money(CARD_MIN_IN_CENTS, total.currency))
    # A total below the card's minimum is for Credits alone.
    return total - rest if rest <= total else total
