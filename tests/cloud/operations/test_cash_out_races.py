"""Cash-outs cut off at every statement, and raced by sales, uploads, chargebacks and couriers."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, update

from cloud.operations.cash_outs.read_cash_outs import CashOut, CashOutState
from cloud.operations.refusals import Refusal
from cloud.payments.built_in import REFUNDS_FAIL_CARD
from cloud.store.database import CommitUnknownError
from cloud.store.tables import events
from protocol.messages import Approved, PostedOffline
from tests.cloud.floor import Floor, eur
from tests.cloud.operations.box_office import Patron
from tests.cloud.operations.pay_desk import PayDesk


@pytest.fixture
def desk(floor: Floor) -> PayDesk:
    return PayDesk(floor)


class PowerCutError(Exception):
    """Nothing of ours runs after it."""


@contextmanager
def cut_at(desk: PayDesk, statement: int) -> Generator[None]:
    """The power fails before the so-many-th statement that is sent to the database."""
    sent = [0]

    def count(*_: Any) -> None:
        sent[0] += 1
        if sent[0] == statement:
            raise PowerCutError

    engine = desk.floor.database.engine
    event.listen(engine, "before_cursor_execute", count)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", count)


def flow(desk: PayDesk, patron: Patron, key: str) -> CashOut:
    asked = desk.ask(patron, key=key)
    assert isinstance(asked, CashOut), asked
    desk.advance()
    desk.make_refunds()
    return asked


@pytest.mark.parametrize("card", ["4242424242424242", REFUNDS_FAIL_CARD])
def test_whatever_statement_the_power_fails_at_it_is_paid_once(desk: PayDesk, card: str) -> None:
    statement = 0
    while True:
        statement += 1
        patron = desk.add_patron(900, 600, card=card)
        key = f"cut-at-statement-{statement:04}"
        before = desk.given_back()
        with cut_at(desk, statement):
            try:
                flow(desk, patron, key)
            except PowerCutError:
                pass
            else:
                break
        asked = flow(desk, patron, key)
        # What one courier has taken up, the next asks for after a while.
        desk.floor.pass_time(minutes=2)
        desk.make_refunds()
        ended = desk.look(patron, asked)
        is_paid = card != REFUNDS_FAIL_CARD
        assert ended.state is (CashOutState.PAID if is_paid else CashOutState.REVERSED), statement
        assert desk.given_back() - before == (1500 if is_paid else 0)
        assert desk.floor.balance(patron.guest) == (0 if is_paid else 1500)
        # Top-ups of later patrons are made in a time of their own.
        desk.tell()
    assert statement > 20, "the flow was cut in many places"
    desk.check()


@pytest.mark.parametrize("stands", [True, False])
def test_a_commit_of_unknown_result_is_no_second_payment(
    desk: PayDesk, monkeypatch: pytest.MonkeyPatch, stands: bool
) -> None:
    transaction = desk.floor.database.transaction
    number = 0
    while True:
        number += 1
        patron = desk.add_patron(900, 600)
        key = f"unknown-commit-no-{number:04}"
        before, begun = desk.given_back(), [0]

        @contextmanager
        def unsteady(cut: int = number, begun: list[int] = begun) -> Generator[Any]:
            begun[0] += 1
            if begun[0] != cut:
                with transaction() as connection:
                    yield connection
                return
            try:
                with transaction() as connection:
                    yield connection
                    if not stands:
                        raise PowerCutError
            except PowerCutError:
                pass
            raise CommitUnknownError("the COMMIT was not acknowledged")

        with monkeypatch.context() as patch:
            patch.setattr(desk.floor.database, "transaction", unsteady)
            try:
                flow(desk, patron, key)
            except CommitUnknownError:
                pass
            else:
                break
        asked = flow(desk, patron, key)
        desk.floor.pass_time(minutes=2)
        desk.make_refunds()
        assert desk.look(patron, asked).state is CashOutState.PAID
        assert desk.given_back() - before == 1500
        desk.tell()
    assert number > 4
    desk.check()


def test_a_hundred_at_once_one_takes_effect(desk: PayDesk) -> None:
    patron = desk.add_patron(2000)
    answers = desk.at_once(100, lambda _: desk.ask(patron))
    assert sum(isinstance(each, CashOut) for each in answers) == 1
    assert {each.code.value for each in answers if isinstance(each, Refusal)} == {"cash_out_open"}
    desk.carry(1)
    assert desk.given_back() == 2000
    desk.check(patron)


def test_many_couriers_at_once_pay_once(desk: PayDesk) -> None:
    patrons = [desk.add_patron(1000, 500) for _ in range(5)]
    for patron in patrons:
        desk.asked(patron)

    def courier(_: int) -> tuple[int, int]:
        return desk.advance(), desk.make_refunds()

    done = desk.at_once(8, courier)
    assert sum(posted for posted, _ in done) == len(patrons)
    desk.carry(1)
    assert desk.given_back() == 1500 * len(patrons)
    desk.check(*patrons)


def test_raced_by_sales_both_never_spend_the_same_credits(desk: PayDesk) -> None:
    till = desk.floor.add_till()
    for _ in range(4):
        patron = desk.add_patron(2000)
        asked = desk.asked(patron)
        desk.floor.pass_time(minutes=4)
        desk.hear(till)
        sales = [till.deduct(desk.floor.qr(patron.guest), 350) for _ in range(6)]

        def act(number: int, sales: list[Any] = sales) -> int:
            if number % 2:
                return desk.advance()
            return isinstance(desk.floor.ask_one(till, sales[number // 2]), Approved)

        done = desk.at_once(12, act)
        sold = sum(done[::2])
        desk.carry(1)
        ended = desk.look(patron, asked)
        assert ended.amount == eur(2000 - 350 * sold)
        desk.check(patron)


def test_raced_by_an_upload_the_sale_is_posted_in_full_whoever_is_first(desk: PayDesk) -> None:
    till = desk.floor.add_till()
    desk.hear(till)
    # The event has given up offline sales, and nobody is waited for; this till sold by its policy.
    with desk.floor.database.transaction() as connection:
        connection.execute(update(events).values(offline_rules=None))
    for _ in range(5):
        patron = desk.add_patron(2000)
        sale = till.deduct(desk.floor.qr(patron.guest), 400)
        asked = desk.asked(patron)

        def act(number: int, sale: Any = sale) -> Any:
            if number:
                return desk.advance()
            return desk.floor.ask_one(till, till.accept_offline(sale))

        [answer, *_] = desk.at_once(4, act)
        assert isinstance(answer, PostedOffline)
        desk.carry(1)
        amount = desk.look(patron, asked).amount
        assert amount in {eur(1600), eur(2000)}
        assert amount is not None
        assert desk.floor.balance(patron.guest) == 1600 - amount.amount_in_cents
        desk.check(patron)


def test_raced_by_a_chargeback_no_card_gets_more_than_it_paid(desk: PayDesk) -> None:
    for _ in range(4):
        patron = desk.add_patron()
        payment_id = desk.top_up(patron, 2000)
        asked = desk.asked(patron)
        before = desk.given_back()
        desk.bank.open_dispute(f"test_{payment_id}")
        desk.at_once(4, lambda number: desk.advance() if number else desk.tell())
        desk.carry(2)
        ended = desk.look(patron, asked)
        back, balance = desk.given_back() - before, desk.floor.balance(patron.guest)
        # 20.00 came in by card, 20.00 were taken back by its bank.
        assert balance == -back
        assert (ended.state is CashOutState.PAID) == (back > 0)
        desk.check(patron)


def test_withdrawn_while_a_courier_is_at_it_one_of_the_two_holds(desk: PayDesk) -> None:
    for _ in range(5):
        patron = desk.add_patron(1000)
        asked = desk.asked(patron)

        def act(number: int, patron: Patron = patron, asked: CashOut = asked) -> Any:
            return desk.withdraw(patron, asked) if number % 2 else desk.advance()

        answers = desk.at_once(4, act)
        desk.carry(1)
        ended = desk.look(patron, asked)
        withdrawn = isinstance(answers[1], CashOut)
        assert ended.state is (CashOutState.WITHDRAWN if withdrawn else CashOutState.PAID)
        assert desk.floor.balance(patron.guest) == (1000 if withdrawn else 0)
        desk.check(patron)
