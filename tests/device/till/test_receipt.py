from datetime import timedelta, timezone
from typing import Any

import pytest
from msgspec import structs

from device.till.receipt import (
    Columns,
    Qr,
    Slip,
    Text,
    copy_of_own,
    declined_for_funds_slip,
    handed_over_slip,
    offline_receipt_of,
    receipt_of,
    spell,
)
from device.till.shift import last_sale_of
from device.till.terms import Terms, terms_of
from protocol.messages import SaleName
from protocol.money import Money
from protocol.receipt_qr import read
from tests.device.stage import Stage, a_policy, approved, ready

SUMMER_TIME = timezone(timedelta(hours=2))


def terms(**changes: Any) -> Terms:
    return terms_of(a_policy(**changes), SUMMER_TIME)


def keyed(keys: str) -> Stage:
    stage = ready()
    stage.press(keys)
    return stage


def columns(slip: Slip) -> list[tuple[str, str]]:
    return [(line.left, line.right) for line in slip.lines if isinstance(line, Columns)]


def test_a_receipt_says_where_what_how_much_what_is_left_when_and_by_whom() -> None:
    sale = keyed("A1A3A1#").standing.sales[0].sale
    slip = receipt_of(sale, approved(1100, 900), terms())
    assert [line.text for line in slip.lines if isinstance(line, Text)] == [
        "Summer Fair",
        "North Bar",
        "KX7-42P",
    ]
    assert columns(slip) == [
        ("2 x Beer", "9.00 EUR"),
        ("1 x Water", "2.00 EUR"),
        ("Total", "11.00 EUR"),
        ("Credits left", "9.00 EUR"),
        ("2026-05-28 22:26", "Served by AL"),
    ]
    (code,) = (line for line in slip.lines if isinstance(line, Qr))
    assert read(code.content) == SaleName("till-1", sale.key)


def test_a_sale_by_amount_has_one_line() -> None:
    sale = keyed("500#").standing.sales[0].sale
    assert ("Amount", "5.00 EUR") in columns(receipt_of(sale, approved(), terms()))


def test_a_slip_for_too_little_money_says_what_is_there_and_that_nothing_was_deducted() -> None:
    sale = keyed("500#").standing.sales[0].sale
    slip = declined_for_funds_slip(sale, Money(120, "EUR"), terms(), sale.at_ms)
    assert ("Asked", "5.00 EUR") in columns(slip)
    assert ("Credits left", "1.20 EUR") in columns(slip)
    assert any("Nothing was deducted" in line.text for line in slip.lines if isinstance(line, Text))


@pytest.mark.parametrize("given", [terms(), None])
def test_the_question_after_a_power_cut_tells_the_sale_and_the_two_answers(
    given: Terms | None,
) -> None:
    sale = keyed("500#").standing.sales[0].sale
    slip = handed_over_slip(sale, approved(), given)
    texts = [line.text for line in slip.lines if isinstance(line, Text)]
    assert ("Total", "5.00 EUR") in columns(slip)
    assert [text[0] for text in texts[-2:]] == ["#", "*"]
    assert ("Summer Fair" in texts) == (given is not None)


@pytest.mark.parametrize(
    ("locale", "spelled"),
    [
        ("en_GB", "1234.50 EUR"),
        ("en", "1234.50 EUR"),
        ("de_DE", "1234,50 EUR"),
        ("de", "1234,50 EUR"),
        ("de_CH", "1234.50 EUR"),
        ("fr_FR", "1234,50 EUR"),
    ],
)
def test_an_amount_is_written_as_the_events_locale_writes_it(locale: str, spelled: str) -> None:
    assert spell(Money(123_450, "EUR"), locale) == spelled


def test_a_receipt_in_another_locale_is_in_that_locale_throughout() -> None:
    sale = structs.replace(keyed("A1#").standing.sales[0].sale)
    slip = receipt_of(sale, approved(450), terms(locale="de_DE"))
    amounts = [right for _, right in columns(slip) if right.endswith("EUR")]
    assert amounts == ["4,50 EUR", "4,50 EUR", "15,00 EUR"]


def test_a_slip_for_too_little_money_opens_the_top_up_page_where_the_policy_knows_it() -> None:
    sale = keyed("500#").standing.sales[0].sale
    url = "https://credits.example.org/wallet"
    slip = declined_for_funds_slip(sale, Money(120, "EUR"), terms(top_up_url=url), sale.at_ms)
    assert [line.content for line in slip.lines if isinstance(line, Qr)] == [url]
    slip = declined_for_funds_slip(sale, Money(120, "EUR"), terms(), sale.at_ms)
    assert not any(isinstance(line, Qr) for line in slip.lines)


def test_an_offline_receipt_says_so_and_knows_no_balance_also_as_a_copy() -> None:
    sale = keyed("A1#").standing.sales[0].sale
    for slip in (
        offline_receipt_of(sale, sale.at_ms, terms()),
        copy_of_own(last_sale_of(sale, None, sale.at_ms), terms()),
    ):
        texts = [line.text for line in slip.lines if isinstance(line, Text)]
        assert "ACCEPTED OFFLINE" in texts
        assert not any("Credits left" in left for left, _ in columns(slip))
        (code,) = (line for line in slip.lines if isinstance(line, Qr))
        assert read(code.content) == SaleName("till-1", sale.key)
