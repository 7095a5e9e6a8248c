"""Amounts and times as an event's own people write them (CLDR, through Babel)."""

from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError
from babel.dates import format_datetime
from babel.numbers import format_currency

from protocol.money import Money

_FALLBACK: Final = "en_GB"


def format_money(money: Money, locale: str) -> str:
    """`€12.30`, `12,30 €`: always with both hundredths, whatever CLDR thinks a currency is used
    with (it rounds Serbian dinars to whole ones)."""
    amount = Decimal(money.amount_in_cents).scaleb(-2)
    return format_currency(amount, money.currency, locale=_known(locale), currency_digits=False)


def format_moment(moment: datetime, locale: str, timezone: str) -> str:
    """`20 Jun 2026, 20:05`, as clocks in the event's time zone (an IANA name) showed it."""
    assert moment.tzinfo is not None, "a time without its zone"
    # `medium` holds seconds in most locales: nobody reads those.
    known = _known(locale)
    pattern = known.datetime_formats["medium"]
    assert isinstance(pattern, str), "the pattern that joins a date and a time"
    zone = ZoneInfo(timezone)
    return pattern.format(
        format_datetime(moment, known.time_formats["short"], tzinfo=zone, locale=known),
        format_datetime(moment, known.date_formats["medium"], tzinfo=zone, locale=known),
    )


@lru_cache(maxsize=64)
def _known(locale: str) -> Locale:
    """The locale, else its language alone, else British English: an event's document may name a
    country whose customs nobody has written down."""
    for name in (locale, locale.partition("_")[0]):
        try:
            return Locale.parse(name)
        except (UnknownLocaleError, ValueError):
            continue
    return Locale.parse(_FALLBACK)
