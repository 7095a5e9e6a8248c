from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.tickets.ordering import (
    TICKETS_PER_ORDER_MAX,
    EventTerms,
    Line,
    NotOrdered,
    Ordered,
    OrderReason,
    TicketType,
    judge_order,
)
from protocol.money import Money

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
FAIR = EventTerms("EUR", NOW + timedelta(days=50))


@dataclass
class Shop:
    """One kind of ticket, on sale, with room for five."""

    stock: int = 5
    taken: int = 0
    per_order_max: int = 4
    opens: datetime | None = None
    closes: datetime | None = None

    def kind(self, name: str = "adult", price: int = 2500) -> TicketType:
        return TicketType(
            name,
            name.title(),
            price,
            self.stock,
            self.taken,
            self.per_order_max,
            self.opens,
            self.closes,
        )

    def judge(self, count: int, now: datetime = NOW) -> Ordered | NotOrdered:
        return judge_order(FAIR, {"adult": self.kind()}, {"adult": count}, now)


def test_an_order_is_its_lines_by_kind_and_what_they_cost() -> None:
    shop = Shop()
    kinds = {"child": shop.kind("child", 0), "adult": shop.kind("adult", 2500)}
    assert judge_order(FAIR, kinds, {"child": 1, "adult": 2}, NOW) == Ordered(
        (Line("adult", "Adult", 2, 2500), Line("child", "Child", 1, 0)), Money(5000, "EUR")
    )


def test_the_last_ticket_may_be_ordered_and_one_more_may_not() -> None:
    assert isinstance(Shop(stock=5, taken=4).judge(1), Ordered)
    assert Shop(stock=5, taken=4).judge(2) == NotOrdered(OrderReason.SOLD_OUT, "adult", 1)
    assert Shop(stock=5, taken=5).judge(1) == NotOrdered(OrderReason.SOLD_OUT, "adult", 0)


def test_no_more_than_the_kinds_maximum_in_one_order() -> None:
    assert isinstance(Shop().judge(4), Ordered)
    assert Shop().judge(5) == NotOrdered(OrderReason.TOO_MANY, "adult", 4)


def test_no_more_than_the_maximum_of_all_kinds_together() -> None:
    shop = Shop(stock=200, per_order_max=100)
    kinds = {name: shop.kind(name) for name in ("adult", "child")}
    half = TICKETS_PER_ORDER_MAX // 2
    assert isinstance(judge_order(FAIR, kinds, {"adult": half, "child": half}, NOW), Ordered)
    assert judge_order(FAIR, kinds, {"adult": half, "child": half + 1}, NOW) == NotOrdered(
        OrderReason.TOO_MANY, at_most=TICKETS_PER_ORDER_MAX
    )


@pytest.mark.parametrize(
    ("opens", "closes", "is_on_sale"),
    [
        (None, None, True),
        (NOW, None, True),
        (NOW + SECOND, None, False),
        (None, NOW, False),
        (None, NOW + SECOND, True),
        (NOW - SECOND, NOW + SECOND, True),
        (NOW - 2 * SECOND, NOW - SECOND, False),
    ],
)
def test_a_kind_is_sold_in_its_window_alone(
    opens: datetime | None, closes: datetime | None, is_on_sale: bool
) -> None:
    judged = Shop(opens=opens, closes=closes).judge(1)
    assert isinstance(judged, Ordered) == is_on_sale
    if not is_on_sale:
        assert judged == NotOrdered(OrderReason.NOT_ON_SALE, "adult")


@pytest.mark.parametrize(
    ("ends_at", "is_over"), [(None, False), (NOW + SECOND, False), (NOW, True)]
)
def test_nothing_is_ordered_for_an_event_that_is_over(
    ends_at: datetime | None, is_over: bool
) -> None:
    terms = EventTerms("EUR", ends_at)
    judged = judge_order(terms, {"adult": Shop().kind()}, {"adult": 1}, NOW)
    assert (judged == NotOrdered(OrderReason.EVENT_OVER)) == is_over


def test_an_unknown_kind_is_named() -> None:
    judged = judge_order(FAIR, {"adult": Shop().kind()}, {"adult": 1, "vip": 1}, NOW)
    assert judged == NotOrdered(OrderReason.TYPE_UNKNOWN, "vip")


@given(
    stock=st.integers(0, 30),
    taken=st.integers(0, 30),
    per_order_max=st.integers(1, 20),
    count=st.integers(1, 40),
)
def test_what_is_ordered_never_exceeds_what_is_left(
    stock: int, taken: int, per_order_max: int, count: int
) -> None:
    taken = min(taken, stock)
    judged = Shop(stock, taken, per_order_max).judge(count)
    assert isinstance(judged, Ordered) == (count <= min(stock - taken, per_order_max))
