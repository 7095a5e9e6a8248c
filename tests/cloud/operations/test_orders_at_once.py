"""Many checkouts at one moment, and any sequence of everything that can happen to orders."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from cloud.operations.event.apply_event import Applied, apply_event
from cloud.operations.event.keep_version import Edit
from cloud.operations.event.read_event import find_event
from cloud.operations.orders.checkout import PlacedOrder
from cloud.operations.refusals import Code, Refusal
from cloud.payments.built_in import DECLINED_CARD
from cloud.payments.provider import ProviderUnreachableError
from cloud.store.tables import orders, ticket_types
from tests.cloud.floor import EVENT, Floor
from tests.cloud.operations.box_office import GOOD_CARD, BoxOffice, Patron


def _leave(office: BoxOffice, stock: int) -> None:
    with office.floor.database.transaction() as connection:
        connection.execute(update(ticket_types).values(stock=stock))


def test_the_last_ticket_goes_to_one_of_a_hundred_and_nobody_else_is_charged(
    office: BoxOffice,
) -> None:
    _leave(office, 1)
    patrons = [office.add_patron(3000) for _ in range(100)]
    answers = office.at_once(100, lambda number: office.order(patrons[number]))
    placed = [answer for answer in answers if isinstance(answer, PlacedOrder)]
    refused = [answer.code for answer in answers if isinstance(answer, Refusal)]
    assert (len(placed), Counter(refused)) == (1, {Code.SOLD_OUT: 99})
    balances = Counter(office.floor.balance(patron.guest) for patron in patrons)
    assert balances == {3000: 99, 500: 1}
    assert office.taken() == 1
    office.check()


def test_a_hundred_checkouts_with_cards_sell_no_more_than_there_is(office: BoxOffice) -> None:
    _leave(office, 7)
    patrons = [office.add_patron(1000) for _ in range(100)]
    answers = office.at_once(100, lambda number: office.order(patrons[number], 1 + number % 3))
    assert all(isinstance(each, PlacedOrder) or each.code is Code.SOLD_OUT for each in answers)
    # The last one may stand alone, too few for those who wanted more.
    assert 5 <= office.taken() <= 7
    office.check()


def test_a_hundred_checkouts_under_one_key_are_one_order(office: BoxOffice) -> None:
    patron = office.add_patron(1200)
    answers = office.at_once(100, lambda _: office.order(patron, 2, key="k" * 20))
    assert len({each.order_id for each in answers if isinstance(each, PlacedOrder)}) == 1
    assert all(answer == answers[0] for answer in answers)
    assert len(office.floor.deducts(patron.guest)) == 1
    assert office.taken() == 2
    office.check()


def test_one_wallet_pays_no_more_than_it_holds_for_many_orders_at_once(office: BoxOffice) -> None:
    patron = office.add_patron(6000)
    answers = office.at_once(20, lambda _: office.order(patron, asked=2500))
    assert sum(isinstance(each, PlacedOrder) for each in answers) == 2
    assert office.floor.balance(patron.guest) == 1000
    office.check()


def test_orders_of_several_kinds_wait_for_each_other_in_no_circle(office: BoxOffice) -> None:
    patrons = [office.add_patron(3000) for _ in range(30)]

    def come_and_go(number: int) -> None:
        placed = office.place(patrons[number], number % 2, children=1, asked="all")
        office.refund(placed)

    office.at_once(30, come_and_go)
    assert (office.taken("adult"), office.taken("child")) == (0, 0)
    office.check()


def test_applying_the_event_and_ordering_wait_for_each_other_in_no_circle(
    office: BoxOffice,
) -> None:
    """Applying locks the event and then its tickets; an order's foreign keys lock the event."""
    floor = office.floor
    patrons = [office.add_patron(3000) for _ in range(12)]
    document = find_event(floor.database, EVENT)
    assert not isinstance(document, Refusal)

    def apply_or_order(number: int) -> None:
        if number % 2:
            changed = document.model_copy(update={"name": f"Fair {number}"})
            applied = apply_event(
                floor.database, floor.keys, EVENT, changed, Edit("ops:ana", floor.now())
            )
            assert isinstance(applied, Applied), applied
        else:
            office.place(patrons[number // 2])

    office.at_once(24, apply_or_order)
    assert office.taken() == 12
    office.check()


_ORDER = st.tuples(
    st.just("order"),
    st.integers(0, 2),
    st.integers(0, 3),
    st.integers(0, 2),
    st.sampled_from(["all", 0, 700, 2500]),
)
_ABOUT_AN_ORDER = st.tuples(
    st.sampled_from(["pay", "decline", "cancel", "refund", "expire"]), st.integers(0, 5)
)
_ALONE = st.sampled_from(["tell", "wait", "close", "make_refunds", "go_away", "come_back"]).map(
    lambda name: (name,)
)
_STEPS = st.lists(st.one_of(_ORDER, _ABOUT_AN_ORDER, _ALONE), max_size=14)


class _Season:
    """Everything that can happen to orders, in any order; then the dust settles."""

    def __init__(self, office: BoxOffice) -> None:
        self.office = office
        self.patrons = [office.add_patron(balance) for balance in (0, 1200, 9000)]
        self.orders: list[tuple[Patron, PlacedOrder]] = []

    def do(self, what: str, *about: Any) -> None:
        office = self.office
        match what:
            case "order":
                who, adults, children, asked = about
                if adults + children:
                    patron = self.patrons[who]
                    placed = office.order(patron, adults, children=children, asked=asked)
                    if isinstance(placed, PlacedOrder):
                        self.orders.append((patron, placed))
            case "tell":
                office.tell()
            case "wait":
                office.floor.pass_time(minutes=8)
            case "close":
                try:
                    office.close_expired()
                except ProviderUnreachableError:
                    assert office.provider.is_away
            case "make_refunds":
                if not office.provider.is_away:
                    office.make_refunds()
            case "go_away" | "come_back":
                office.provider.is_away = what == "go_away"
            case _:
                if self.orders:
                    self._do_to(what, *self.orders[about[0] % len(self.orders)])

    def _do_to(self, what: str, patron: Patron, placed: PlacedOrder) -> None:
        office = self.office
        match what:
            case "cancel":
                office.cancel(patron, placed)
            case "refund":
                office.refund(placed)
            case "expire" if placed.card_page is not None:
                office.bank.expire_checkout(office.reference(placed))
            case "pay" | "decline" if placed.card_page is not None:
                office.pay(placed, GOOD_CARD if what == "pay" else DECLINED_CARD)
            case _:
                assert placed.card_page is None

    def settle(self) -> None:
        office = self.office
        office.provider.is_away = False
        for _ in range(2):
            office.tell()
            office.floor.pass_time(hours=1)
            office.close_expired()
            office.make_refunds()
        office.tell()

    def check_settled(self) -> None:
        """What the card provider has is what paid orders brought; all else went back."""
        with self.office.floor.database.reading() as connection:
            states = set(connection.execute(select(orders.c.state)).scalars())
            brought = connection.execute(
                select(func.coalesce(func.sum(orders.c.card_in_cents), 0)).where(
                    orders.c.state == "paid"
                )
            ).scalar_one()
        assert states <= {"paid", "closed", "cancelled"}
        with self.office.bank._books.deed() as books:
            [kept] = books.execute(
                "SELECT (SELECT coalesce(sum(amount_in_cents), 0) FROM checkouts"
                " WHERE state = 'paid') - (SELECT coalesce(sum(amount_in_cents), 0) FROM refunds"
                " WHERE state = 'done')"
            ).fetchone()
        assert kept == brought, "money of nobody's at the card provider"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def small_office(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    url = f"sqlite:///{tmp_path / 'cloud.sqlite'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    floor = Floor(url, tmp_path / "keys")
    yield BoxOffice(floor, stock=6)
    floor.close()


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=_STEPS)
def test_whatever_happens_stock_tickets_and_money_add_up(
    small_office: BoxOffice, steps: list[tuple[Any, ...]]
) -> None:
    # One office for all examples: what earlier seasons left is part of the next.
    season = _Season(small_office)
    for each in steps:
        season.do(*each)
        small_office.check()
    season.settle()
    small_office.check()
    season.check_settled()
