from datetime import UTC, datetime

import pytest

from cloud.locales import format_moment, format_money
from protocol.money import Money


@pytest.mark.parametrize(
    ("locale", "written"),
    [
        ("en_GB", "-€1,234.50"),
        ("de_DE", "-1.234,50\N{NO-BREAK SPACE}€"),
        ("de_AT", "-€\N{NO-BREAK SPACE}1.234,50"),
        ("fr_FR", "-1\N{NARROW NO-BREAK SPACE}234,50\N{NO-BREAK SPACE}€"),
    ],
)
def test_money_is_written_as_the_locale_writes_it(locale: str, written: str) -> None:
    assert format_money(Money(-123_450, "EUR"), locale) == written


def test_hundredths_are_never_rounded_away() -> None:
    # CLDR counts Serbian dinars in whole ones.
    assert format_money(Money(1_234_567_890_123_45, "RSD"), "en_GB") == "RSD1,234,567,890,123.45"


@pytest.mark.parametrize("locale", ["de_XX", "zz_ZZ", "zzz"])
def test_a_locale_that_nobody_wrote_down_falls_back(locale: str) -> None:
    assert format_money(Money(5, "EUR"), locale) in {"0,05\N{NO-BREAK SPACE}€", "€0.05"}


@pytest.mark.parametrize(
    ("at", "locale", "written"),
    [
        (datetime(2026, 6, 20, 18, 5, tzinfo=UTC), "en_GB", "20 Jun 2026, 20:05"),
        (datetime(2026, 12, 31, 23, 30, tzinfo=UTC), "de_DE", "01.01.2027, 00:30"),
    ],
)
def test_a_moment_is_what_clocks_at_the_event_showed(
    at: datetime, locale: str, written: str
) -> None:
    assert format_moment(at, locale, "Europe/Berlin") == written
