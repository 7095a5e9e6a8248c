"""Orders that nobody pays, and those that somebody pays just then."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import pytest
from sqlalchemy import Connection, update

from cloud.operations.cards.card_events import take_provider_event
from cloud.operations.orders.checkout import PlacedOrder
from cloud.operations.orders.close_orders import close_expired_orders
from cloud.operations.refusals import Code, Refusal
from cloud.payments.provider import (
    Checkout,
    CheckoutRefusedError,
    CheckoutRequest,
    EventKind,
    ProviderEvent,
    ProviderUnreachableError,
)
from cloud.store.database import Database
from cloud.store.tables import payments
from cloud.tickets.life import OPEN_FOR, OrderState
from tests.cloud.floor import eur
from tests.cloud.operations.box_office import BoxOffice, Patron


def _open_order(office: BoxOffice) -> tuple[Patron, PlacedOrder]:
    """Two tickets, 12.00 of them in Credits."""
    patron = office.add_patron(1200, has_email=True)
    return patron, office.place(patron, 2)


def _time_out(office: BoxOffice) -> None:
    office.floor.pass_time(seconds=OPEN_FOR.total_seconds())


def _assert_closed(office: BoxOffice, patron: Patron, placed: PlacedOrder, reason: str) -> None:
    order = office.look(patron, placed)
    assert (order.state, order.close_reason, order.tickets) == (OrderState.CLOSED, reason, ())
    assert order.credits_back == eur(1200)
    assert office.floor.balance(patron.guest) == 1200
    [deduct] = office.floor.deducts(patron.guest)
    [back] = [row for row in office.floor.transactions(patron.guest) if row.type == "Refund"]
    assert back.reversal_of_transaction_id == deduct.id
    assert back.order_id == placed.order_id
    assert office.taken() == 0
    assert [letter["kind"] for letter in office.letters()] == ["order_closed"]
    office.check()


def test_after_15_minutes_the_provider_lets_go_and_all_comes_back(office: BoxOffice) -> None:
    patron, placed = _open_order(office)
    office.floor.pass_time(minutes=14, seconds=59)
    assert office.close_expired() == 0
    office.floor.pass_time(seconds=1)
    assert office.close_expired() == 1
    assert office.pay(placed) == "expired"
    _assert_closed(office, patron, placed, "expired")
    # The provider tells of it too, and later rounds find nothing.
    office.tell()
    office.floor.pass_time(hours=1)
    assert office.close_expired() == 0
    _assert_closed(office, patron, placed, "expired")


def test_nothing_comes_back_while_the_provider_does_not_confirm(office: BoxOffice) -> None:
    patron, placed = _open_order(office)
    _time_out(office)
    office.provider.is_away = True
    with pytest.raises(ProviderUnreachableError):
        office.close_expired()
    assert office.look(patron, placed).state is OrderState.CLOSING
    assert (office.taken(), office.floor.balance(patron.guest)) == (2, 0)
    office.check()
    # Not at once again, but soon.
    assert office.close_expired() == 0
    office.provider.is_away = False
    office.floor.pass_time(seconds=30)
    assert office.close_expired() == 1
    _assert_closed(office, patron, placed, "expired")


def test_a_provider_away_for_one_order_does_not_hold_up_those_behind_it(office: BoxOffice) -> None:
    _, first = _open_order(office)
    office.floor.pass_time(seconds=1)
    _open_order(office)
    _time_out(office)
    lost = office.reference(first)

    def be_away(reference: str) -> None:
        office.provider.is_away = reference == lost

    office.provider.before_expiry = be_away
    with pytest.raises(ProviderUnreachableError):
        office.close_expired()
    assert office.close_expired() == 1
    assert office.taken() == 2
    office.check()


def test_an_order_whose_card_page_was_never_heard_of_closes_too(office: BoxOffice) -> None:
    patron = office.add_patron(1200, has_email=True)
    office.provider.loses_answers = True
    refused = office.order(patron, 2, key="k" * 20)
    assert isinstance(refused, Refusal)
    assert refused.code is Code.PROVIDER_UNREACHABLE
    office.provider.loses_answers = False
    _time_out(office)
    assert office.close_expired() == 1
    # The checkout that was opened unheard is closed as well: nobody pays there any more.
    assert office.provider.asked == ["open_checkout", "open_checkout", "expire_checkout"]
    assert office.floor.balance(patron.guest) == 1200
    # Its page is found under the same key, but nothing is charged for it.
    again = office.order(patron, 2, key="k" * 20)
    assert isinstance(again, PlacedOrder)
    assert office.pay(again) == "expired"
    _assert_closed(office, patron, again, "expired")


def test_the_same_key_opens_the_page_that_was_not_opened_at_first(office: BoxOffice) -> None:
    patron = office.add_patron(1200)
    office.provider.is_away = True
    refused = office.order(patron, 2, key="k" * 20)
    assert isinstance(refused, Refusal)
    assert refused.code is Code.PROVIDER_UNREACHABLE
    office.provider.is_away = False
    placed = office.place(patron, 2, key="k" * 20)
    assert placed.card_page is not None
    assert len(office.floor.deducts(patron.guest)) == 1
    assert office.taken() == 2
    office.pay(placed)
    office.tell()
    assert office.look(patron, placed).state is OrderState.PAID
    office.check()


class _RefusingProvider:
    """Takes no such payment."""

    name = "test"

    def open_checkout(self, request: CheckoutRequest) -> Checkout:
        raise CheckoutRefusedError(request.payment_id)


def test_an_order_that_the_provider_will_not_take_closes_at_once(office: BoxOffice) -> None:
    patron = office.add_patron(1200, has_email=True)
    office.provider = cast("Any", _RefusingProvider())
    refused = office.order(patron, 2, key="k" * 20)
    assert isinstance(refused, Refusal)
    assert refused.code is Code.PAYMENT_REFUSED
    assert office.floor.balance(patron.guest) == 1200
    assert office.taken() == 0
    [letter] = office.letters()
    assert letter["kind"] == "order_closed"
    again = office.order(patron, 2, key="k" * 20)
    assert isinstance(again, Refusal)
    assert again.code is Code.ORDER_CLOSED
    office.check()


def test_a_refusal_that_was_only_noted_closes_the_order_in_time(office: BoxOffice) -> None:
    patron, placed = _open_order(office)
    with office.floor.database.transaction() as connection:
        # As polling leaves it, or a program that ended between the two.
        connection.execute(
            update(payments).values(state="expired", provider_reference=None, checkout_url=None)
        )
    _time_out(office)
    assert office.close_expired() == 1
    _assert_closed(office, patron, placed, "expired")


def test_another_providers_order_is_left_to_it(office: BoxOffice) -> None:
    patron, placed = _open_order(office)
    with office.floor.database.transaction() as connection:
        connection.execute(update(payments).values(provider="stripe"))
    _time_out(office)
    assert office.close_expired() == 0
    assert office.look(patron, placed).state is OrderState.CLOSING
    assert office.taken() == 2


# Expiry against the webhook.


def test_a_card_that_pays_before_the_provider_lets_go_gets_the_tickets(office: BoxOffice) -> None:
    patron, placed = _open_order(office)
    _time_out(office)
    office.provider.before_expiry = lambda _: office.pay(placed)
    assert office.close_expired() == 1
    order = office.look(patron, placed)
    assert (order.state, len(order.tickets), order.close_reason) == (OrderState.PAID, 2, None)
    office.tell()
    assert [letter["kind"] for letter in office.letters()] == ["order_paid"]
    assert office.card_refunds() == []
    office.check()


def test_a_webhook_that_comes_while_the_provider_is_asked_settles_the_order_once(
    office: BoxOffice,
) -> None:
    patron, placed = _open_order(office)
    _time_out(office)

    def pay_and_tell(_: str) -> None:
        office.pay(placed)
        office.tell()

    office.provider.before_expiry = pay_and_tell
    assert office.close_expired() == 1
    assert office.look(patron, placed).state is OrderState.PAID
    assert [letter["kind"] for letter in office.letters()] == ["order_paid"]
    office.check()


def test_the_providers_own_expiry_closes_the_order_without_being_asked(office: BoxOffice) -> None:
    patron, placed = _open_order(office)
    office.bank.expire_checkout(office.reference(placed))
    office.tell()
    _assert_closed(office, patron, placed, "expired")


def _pay_after_all(office: BoxOffice, placed: PlacedOrder) -> ProviderEvent:
    """A provider that confirmed the expiry and was paid all the same."""
    reference = office.reference(placed)
    with office.bank._books.deed() as books:
        books.execute("UPDATE checkouts SET state = 'paid', refunds_go = 'through'")
    return ProviderEvent("test", "evt_late", EventKind.PAID, reference, eur(3800))


def test_a_success_for_a_closed_order_is_given_back_once_and_it_stays_closed(
    office: BoxOffice,
) -> None:
    patron, placed = _open_order(office)
    _time_out(office)
    office.close_expired()
    other = office.place(office.add_patron(9000), 2)
    late = _pay_after_all(office, placed)
    now = office.floor.now()
    office.at_once(20, lambda _: take_provider_event(office.floor.database, late, now))
    order = office.look(patron, placed)
    assert (order.state, order.tickets) == (OrderState.CLOSED, ())
    assert office.floor.balance(patron.guest) == 1200
    for _ in range(3):
        office.make_refunds()
    [refund] = office.card_refunds()
    assert (refund.order_id, refund.reason) == (placed.order_id, "closed_order")
    assert (refund.amount_in_cents, refund.state) == (3800, "done")
    with office.bank._books.deed() as books:
        given = books.execute("SELECT amount_in_cents FROM refunds").fetchall()
    assert [row[0] for row in given] == [3800]
    assert office.payment(placed).state == "refunded"
    assert [
        (letter["kind"], letter["card_back"]["amount_in_cents"]) for letter in office.letters()
    ] == [
        ("order_closed", 0),
        ("order_closed", 3800),
    ]
    assert office.taken() == 2, "the other's tickets stay theirs"
    assert other.card_page is None
    office.check()


def test_a_decline_told_after_the_end_changes_nothing(office: BoxOffice) -> None:
    patron, placed = _open_order(office)
    office.bank.pay(office.reference(placed), "4000000000000002")
    _time_out(office)
    office.close_expired()
    office.tell()
    _assert_closed(office, patron, placed, "expired")
    assert office.payment(placed).state == "expired"


@pytest.mark.parametrize("attempt", range(5))
def test_expiry_and_webhook_at_once_end_in_one_of_both(office: BoxOffice, attempt: int) -> None:
    orders = [_open_order(office) for _ in range(4)]
    for _, placed in orders:
        office.pay(placed)
    _time_out(office)
    unpaid = orders[attempt % 4]
    with office.bank._books.deed() as books:
        books.execute(
            "UPDATE checkouts SET state = 'open' WHERE reference = ?",
            (office.reference(unpaid[1]),),
        )
        books.execute("DELETE FROM events WHERE instr(body, ?)", (office.reference(unpaid[1]),))
    office.at_once(6, lambda number: office.close_expired() if number % 2 else office.tell())
    office.close_expired()
    office.tell()
    for patron, placed in orders:
        expected = OrderState.CLOSED if placed is unpaid[1] else OrderState.PAID
        assert office.look(patron, placed).state is expected
    assert len(office.letters()) == 4
    assert office.card_refunds() == []
    office.check()


def test_several_couriers_close_an_order_once(office: BoxOffice) -> None:
    patron, placed = _open_order(office)
    _time_out(office)
    office.at_once(10, lambda _: office.close_expired())
    _assert_closed(office, patron, placed, "expired")


# The attendee lets go.


def test_an_attendee_lets_go_of_an_open_order(office: BoxOffice) -> None:
    patron, placed = _open_order(office)
    assert office.cancel(patron, placed, key="k" * 20) is None
    _assert_closed(office, patron, placed, "cancelled")
    assert office.cancel(patron, placed, key="k" * 20) is None
    assert office.cancel(patron, placed) is None
    _assert_closed(office, patron, placed, "cancelled")
    [record] = office.floor.audit(action="order_closing")
    assert record.actor == f"user:{patron.guest.user_id}"


def test_a_cancel_waits_for_the_provider_and_the_courier_ends_it(office: BoxOffice) -> None:
    patron, placed = _open_order(office)
    office.provider.is_away = True
    assert office.cancel(patron, placed) is None
    assert office.look(patron, placed).state is OrderState.CLOSING
    assert office.floor.balance(patron.guest) == 0
    office.provider.is_away = False
    office.floor.pass_time(seconds=30)
    assert office.close_expired() == 1
    _assert_closed(office, patron, placed, "cancelled")


def test_nobody_lets_go_of_anothers_order_nor_of_a_paid_one(office: BoxOffice) -> None:
    patron, placed = _open_order(office)
    refused = office.cancel(office.add_patron(), placed)
    assert isinstance(refused, Refusal)
    assert refused.code is Code.ORDER_UNKNOWN
    office.pay(placed)
    office.tell()
    refused = office.cancel(patron, placed)
    assert isinstance(refused, Refusal)
    assert refused.code is Code.ORDER_PAID
    other = office.place(patron)
    office.cancel(patron, other, key="k" * 20)
    refused = office.cancel(patron, placed, key="k" * 20)
    assert isinstance(refused, Refusal)
    assert refused.code is Code.KEY_REUSED
    office.check()


def test_a_cancel_of_an_order_that_was_just_paid_leaves_the_tickets(office: BoxOffice) -> None:
    patron, placed = _open_order(office)
    office.pay(placed)
    assert office.cancel(patron, placed) is None
    assert office.look(patron, placed).state is OrderState.PAID
    office.tell()
    office.check()


# The power goes at any line.


class _PowerCutError(Exception):
    """The program ends here."""


class _Countdown:
    """Cuts the power at the n-th thing that is done."""

    def __init__(self, at: int) -> None:
        self._left = at

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise _PowerCutError


class _CutDatabase:
    """Ends before a transaction, before its commit, or after it."""

    def __init__(self, database: Database, cut: Callable[[], None]) -> None:
        self._database = database
        self._cut = cut
        self.dialect = database.dialect

    @contextmanager
    def transaction(self) -> Generator[Connection]:
        self._cut()
        with self._database.transaction() as connection:
            yield connection
            self._cut()
        self._cut()

    def reading(self) -> AbstractContextManager[Connection]:
        return self._database.reading()


@pytest.mark.parametrize("what_happens", ["nothing", "paid", "answer_lost"])
def test_closing_goes_on_wherever_the_power_goes(office: BoxOffice, what_happens: str) -> None:
    for at in range(1, 100):
        patron = office.add_patron(1200)
        office.provider.loses_answers = what_happens == "answer_lost"
        placed = office.order(patron, 2, key="k" * 20)
        office.provider.loses_answers = False
        if what_happens == "paid":
            assert isinstance(placed, PlacedOrder)
            office.pay(placed)
        _time_out(office)
        cut = _Countdown(at)
        office.provider.before_expiry = lambda _, cut=cut: cut()
        office.provider.after_expiry = lambda _, cut=cut: cut()
        was_cut = False
        try:
            database = cast("Database", _CutDatabase(office.floor.database, cut))
            close_expired_orders(database, office.provider, office.floor.now())
        except _PowerCutError:
            was_cut = True
        office.check()
        office.provider.before_expiry = office.provider.after_expiry = lambda _: None
        office.floor.pass_time(minutes=1)
        office.close_expired()
        office.tell()
        placed = office.place(patron, 2, key="k" * 20)
        state = office.look(patron, placed).state
        assert state is (OrderState.PAID if what_happens == "paid" else OrderState.CLOSED)
        backs = [row for row in office.floor.transactions(patron.guest) if row.type == "Refund"]
        assert len(backs) == (0 if what_happens == "paid" else 1)
        office.check()
        if what_happens == "paid":
            office.refund(placed)
        if not was_cut:
            assert at > 8, "every step was cut once"
            return
    pytest.fail("closing never came to an end")
