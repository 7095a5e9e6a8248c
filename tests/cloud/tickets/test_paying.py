import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.tickets.paying import (
    CARD_MIN_IN_CENTS,
    CreditsAsked,
    NotSplit,
    Split,
    SplitReason,
    split_total,
)
from protocol.money import Money


def eur(cents: int) -> Money:
    return Money(cents, "EUR")


@pytest.mark.parametrize(
    ("total", "balance", "asked", "credits_part"),
    [
        (5000, 9000, "all", 5000),
        (5000, 5000, "all", 5000),
        (5000, 1200, "all", 1200),
        (5000, 0, "all", 0),
        # A debt is not spent.
        (5000, -300, "all", 0),
        # The card takes its minimum, and the wallet keeps the difference.
        (5000, 4999, "all", 4950),
        (60, 30, "all", 10),
        (50, 49, "all", 0),
        (0, 0, "all", 0),
        (0, -300, "all", 0),
        (0, 900, 0, 0),
        (5000, 1200, 0, 0),
        (5000, 1200, 1200, 1200),
        (5000, 9000, 4950, 4950),
    ],
)
def test_both_parts_are_the_total(
    total: int, balance: int, asked: CreditsAsked, credits_part: int
) -> None:
    split = split_total(eur(total), eur(balance), asked)
    assert split == Split(eur(credits_part), eur(total - credits_part))


@pytest.mark.parametrize(
    ("total", "balance", "asked", "reason"),
    [
        (5000, 1200, 1201, SplitReason.INSUFFICIENT_CREDITS),
        (5000, -300, 1, SplitReason.INSUFFICIENT_CREDITS),
        (5000, 9000, 5001, SplitReason.ABOVE_TOTAL),
        (0, 9000, 1, SplitReason.ABOVE_TOTAL),
        (5000, 9000, 4951, SplitReason.CARD_PART_TOO_SMALL),
        (49, 20, 0, SplitReason.CARD_PART_TOO_SMALL),
        # Too little for a card, and too little in the wallet.
        (49, 20, "all", SplitReason.INSUFFICIENT_CREDITS),
    ],
)
def test_what_cannot_be_paid_so_is_refused_by_name(
    total: int, balance: int, asked: CreditsAsked, reason: SplitReason
) -> None:
    assert split_total(eur(total), eur(balance), asked) == NotSplit(reason, eur(max(balance, 0)))


@given(
    total=st.integers(0, 20_000),
    balance=st.integers(-5000, 25_000),
    asked=st.one_of(st.just("all"), st.integers(0, 25_000)),
)
def test_no_split_takes_what_is_not_there(total: int, balance: int, asked: CreditsAsked) -> None:
    split = split_total(eur(total), eur(balance), asked)
    if isinstance(split, NotSplit):
        assert asked != "all" or total < CARD_MIN_IN_CENTS
        return
    assert split.credits_part + split.card_part == eur(total)
    assert eur(0) <= split.credits_part <= eur(max(balance, 0))
    assert split.card_part == eur(0) or split.card_part >= eur(CARD_MIN_IN_CENTS)
