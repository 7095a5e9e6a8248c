import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.money import CENTS_MAX, CurrencyMismatchError, Money, format_cents, is_currency

small = st.integers(-(10**9), 10**9)


@given(small, small)
def test_sums_and_differences_stay_in_cents_and_currency(left: int, right: int) -> None:
    total = Money(left, "EUR") + Money(right, "EUR")
    assert total == Money(left + right, "EUR")
    assert total - Money(right, "EUR") == Money(left, "EUR")
    assert -total == Money(-left - right, "EUR")


@given(small, small)
def test_order_is_that_of_the_cents(left: int, right: int) -> None:
    a, b = Money(left, "EUR"), Money(right, "EUR")
    assert (a < b, a <= b, a > b, a >= b) == (
        left < right,
        left <= right,
        left > right,
        left >= right,
    )


def test_two_currencies_never_meet_in_one_sum() -> None:
    with pytest.raises(CurrencyMismatchError):
        _ = Money(1, "EUR") + Money(1, "CHF")
    with pytest.raises(CurrencyMismatchError):
        _ = Money(1, "EUR") < Money(1, "CHF")


@pytest.mark.parametrize("code", ["eur", "EURO", "", "E1R", "JPY", "KWD", "MRU"])
def test_a_currency_without_hundredths_is_refused(code: str) -> None:
    assert not is_currency(code)
    with pytest.raises(ValueError, match="not a currency with cents"):
        Money(1, code)


@pytest.mark.parametrize(
    "text",
    [
        '{"amount_in_cents":3.5,"currency":"EUR"}',
        '{"amount_in_cents":"3","currency":"EUR"}',
        '{"amount_in_cents":true,"currency":"EUR"}',
        f'{{"amount_in_cents":{CENTS_MAX + 1},"currency":"EUR"}}',
        '{"amount_in_cents":1,"currency":"JPY"}',
        '{"amount_in_cents":1,"currency":"EUR","x":1}',
        '{"amount_in_cents":1}',
    ],
)
def test_only_bounded_integer_cents_are_read(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Money)


@pytest.mark.parametrize(
    ("cents", "text"),
    [(0, "0.00"), (5, "0.05"), (-5, "-0.05"), (1234, "12.34"), (-100, "-1.00")],
)
def test_cents_are_written_with_two_digits(cents: int, text: str) -> None:
    assert format_cents(cents) == text
    assert str(Money(cents, "EUR")) == f"{text} EUR"


def test_zero_times_and_price_times_quantity() -> None:
    assert Money.zero("EUR") + Money(350, "EUR") * 3 == Money(1050, "EUR")
