from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import insert

from cloud.reports.settlement import (
    DoesNotAddUpError,
    EventSettlement,
    OtherCurrency,
    StallSettlement,
    settle_event,
    stall_of,
)
from cloud.store.tables import products
from protocol.ids import EventId, StallId
from tests.cloud.floor import EVENT, START, Floor
from tests.cloud.reports.books import Books, signed

_BERLIN = ZoneInfo("Europe/Berlin")


def _settle(floor: Floor) -> EventSettlement:
    settled = settle_event(floor.database, EVENT, floor.now())
    assert settled is not None
    return settled


def _bar(floor: Floor) -> StallSettlement:
    bar = stall_of(_settle(floor), StallId("bar"))
    assert bar is not None
    return bar


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_figures_are_those_of_a_sum_taken_row_by_row(floor: Floor, seed: int) -> None:
    books = Books.open(floor)
    books.add_at_random(seed, 400)
    books.write()
    settled = _settle(floor)

    assert settled.ledger_in_cents == -sum(signed(row) for row in books.rows)
    for stall in settled.stalls:
        own = [row for row in books.rows if row["stall_id"] == stall.stall_id]
        figures = stall.figures
        assert figures.net_in_cents == -sum(signed(row) for row in own)
        assert figures.sales_in_cents == _sum(own, type="Deduct")
        assert figures.sales == len([row for row in own if row["type"] == "Deduct"])
        assert figures.refunds_in_cents == _sum(own, type="Refund")
        offline = [row for row in own if row["accepted_offline_at"] is not None]
        assert figures.offline_in_cents == _sum(offline)
        assert figures.offline_sales == len(offline)
        assert _hours(stall) == _hours_by_hand(own)
        assert _quantities(stall) == _quantities_by_hand(own, books.rows)
        by_product = sum(each.sales_in_cents for each in stall.products)
        back = sum(each.given_back_in_cents for each in stall.products)
        assert by_product == figures.sales_in_cents
        assert back + stall.partial_refunds_in_cents == figures.refunds_in_cents
    tickets = [row for row in books.rows if row["order_id"] is not None]
    assert settled.tickets.credits.net_in_cents == -sum(signed(row) for row in tickets)


def test_a_sale_is_cancelled_refunded_in_part_taken_offline_and_corrected(floor: Floor) -> None:
    books = Books.open(floor)
    cancelled = books.sell((1, 2))
    books.give_back(cancelled, 700)
    in_part = books.sell((2, 1), (7, 2))
    books.give_back(in_part, 160)
    books.sell((1, 1), accepted_offline_at=START - timedelta(hours=3))
    books.add("Adjustment", 40, direction="out", stall_id="bar")
    books.write()
    with floor.database.transaction() as connection:
        connection.execute(
            insert(products).values(
                event_id=EVENT, stall_id="bar", number=1, name="Lemonade", price_in_cents=400
            )
        )

    bar = _bar(floor)
    assert (bar.figures.sales, bar.figures.sales_in_cents) == (3, 700 + 660 + 350)
    assert (bar.figures.refunds, bar.figures.refunds_in_cents) == (2, 860)
    assert (bar.figures.offline_sales, bar.figures.offline_in_cents) == (1, 350)
    assert bar.figures.adjustments_in_cents == 40
    assert bar.figures.net_in_cents == 1710 - 860 + 40
    lemonade = next(each for each in bar.products if each.number == 1)
    # At the price that was paid, under the name that the list has today.
    assert (lemonade.name, lemonade.unit_price_in_cents, lemonade.quantity) == ("Lemonade", 350, 3)
    assert (lemonade.quantity_given_back, lemonade.given_back_in_cents) == (2, 700)
    assert bar.partial_refunds_in_cents == 160


def test_an_offline_sale_counts_in_the_hour_in_which_the_goods_were_handed_over(
    floor: Floor,
) -> None:
    books = Books.open(floor, timezone="UTC")
    at = datetime(2026, 6, 20, 14, 59, 59, tzinfo=UTC)
    books.sell((1, 1), accepted_offline_at=at, created_at=at + timedelta(hours=5))
    books.write()
    assert [each.begins_at.hour for each in _bar(floor).hours] == [14]


def test_the_hour_that_autumn_brings_twice_is_two_hours(floor: Floor) -> None:
    books = Books.open(floor)
    for utc_hour in (0, 1, 2):
        at = datetime(2026, 10, 25, utc_hour, 30, tzinfo=UTC)
        books.sell((1, utc_hour + 1), created_at=at)
    books.write()
    told = [(each.begins_at.isoformat(), each.figures.sales_in_cents) for each in _bar(floor).hours]
    assert told == [
        ("2026-10-25T02:00:00+02:00", 350),
        ("2026-10-25T02:00:00+01:00", 700),
        ("2026-10-25T03:00:00+01:00", 1050),
    ]


def test_the_hour_that_spring_leaves_out_is_not_there(floor: Floor) -> None:
    books = Books.open(floor)
    for utc_hour in (0, 1):
        books.sell((1, 1), created_at=datetime(2026, 3, 29, utc_hour, 59, tzinfo=UTC))
    books.write()
    assert [each.begins_at.hour for each in _bar(floor).hours] == [1, 3]


def test_hours_begin_where_clocks_say_so_in_zones_of_quarter_hours(floor: Floor) -> None:
    books = Books.open(floor, timezone="Asia/Kathmandu")
    books.sell((1, 1), created_at=datetime(2026, 6, 20, 18, 14, tzinfo=UTC))
    books.sell((1, 1), created_at=datetime(2026, 6, 20, 18, 15, tzinfo=UTC))
    books.write()
    told = [each.begins_at.isoformat() for each in _bar(floor).hours]
    assert told == ["2026-06-20T23:00:00+05:45", "2026-06-21T00:00:00+05:45"]


def test_tickets_stand_apart_with_what_cards_paid(floor: Floor) -> None:
    books = Books.open(floor)
    paid = books.add_order("paid", credits_in_cents=3000, card_in_cents=1000, tickets=2)
    books.add("Deduct", 3000, order_id=paid)
    closed = books.add_order("closed", credits_in_cents=500, card_in_cents=500, tickets=1)
    books.give_back(books.add("Deduct", 500, order_id=closed), 500)
    books.write()
    settled = _settle(floor)
    assert settled.tickets.credits.net_in_cents == 3000
    assert (settled.tickets.paid_orders, settled.tickets.tickets) == (1, 2)
    assert settled.tickets.card_in_cents == 1000
    assert settled.all_stalls.net_in_cents == 0
    assert settled.ledger_in_cents == 3000


def test_top_ups_and_corrections_at_no_stall_are_told_by_type(floor: Floor) -> None:
    books = Books.open(floor)
    books.add("Purchase", 2000)
    books.add("Adjustment", 300, direction="in")
    books.add("Adjustment", 100, direction="out")
    books.write()
    told = {each.type.value: (each.rows, each.in_cents) for each in _settle(floor).others}
    assert told == {"Purchase": (1, -2000), "Adjustment": (2, -200)}


def test_a_stall_without_sales_is_listed_with_nothing(floor: Floor) -> None:
    settled = _settle(floor)
    assert [each.stall_id for each in settled.stalls] == ["bar", "grill"]
    assert all(each.figures.rows == 0 for each in settled.stalls)


def test_a_stall_that_left_the_list_keeps_what_it_sold(floor: Floor) -> None:
    books = Books.open(floor)
    books.sell((1, 1), stall_id="gone")
    books.write()
    gone = stall_of(_settle(floor), StallId("gone"))
    assert gone is not None
    assert (gone.name, gone.figures.net_in_cents) == ("gone", 350)


def test_another_currency_is_told_and_in_no_figure(floor: Floor) -> None:
    books = Books.open(floor)
    books.sell((1, 1))
    books.add("Adjustment", 900, direction="out", currency="SEK", stall_id="bar")
    books.write()
    settled = _settle(floor)
    assert settled.ledger_in_cents == 350
    assert settled.other_currencies == (OtherCurrency("SEK", 900),)


def test_another_events_sales_are_its_own(floor: Floor) -> None:
    books = Books.open(floor)
    books.sell((1, 1), event_id="winter-fair")
    books.write()
    assert _settle(floor).ledger_in_cents == 0


def test_an_unknown_event_has_no_settlement(floor: Floor) -> None:
    assert settle_event(floor.database, EventId("nowhere"), floor.now()) is None


def test_figures_that_do_not_add_up_are_never_shown(floor: Floor) -> None:
    books = Books.open(floor)
    sale = books.sell((1, 1))
    sale["amount_in_cents"] += 1  # the lines say something else
    books.write()
    with pytest.raises(DoesNotAddUpError, match="products and its sales"):
        _settle(floor)


def _sum(rows: list[dict[str, Any]], **wanted: Any) -> int:
    return sum(
        row["amount_in_cents"]
        for row in rows
        if all(row[name] == value for name, value in wanted.items())
    )


def _hours(stall: StallSettlement) -> dict[str, int]:
    return {each.begins_at.isoformat(): each.figures.net_in_cents for each in stall.hours}


def _hours_by_hand(rows: list[dict[str, Any]]) -> dict[str, int]:
    hours: Counter[str] = Counter()
    for row in rows:
        at: datetime = row["accepted_offline_at"] or row["created_at"]
        begins_at = at.astimezone(_BERLIN).replace(minute=0, second=0, microsecond=0)
        hours[begins_at.isoformat()] -= signed(row)
    return dict(hours)


def _quantities(stall: StallSettlement) -> dict[int | None, tuple[int, int]]:
    return {each.number: (each.quantity, each.quantity_given_back) for each in stall.products}


def _quantities_by_hand(
    own: list[dict[str, Any]], every: list[dict[str, Any]]
) -> dict[int | None, tuple[int, int]]:
    sold: Counter[int | None] = Counter()
    returned: Counter[int | None] = Counter()
    for sale in (row for row in own if row["type"] == "Deduct"):
        back = sum(
            row["amount_in_cents"]
            for row in every
            if row["reversal_of_transaction_id"] == sale["id"]
        )
        lines: list[dict[str, Any]] = sale["lines"] or [{"product": None, "quantity": 1}]
        for line in lines:
            sold[line["product"]] += line["quantity"]
            if back == sale["amount_in_cents"]:
                returned[line["product"]] += line["quantity"]
    return {number: (quantity, returned[number]) for number, quantity in sold.items()}
