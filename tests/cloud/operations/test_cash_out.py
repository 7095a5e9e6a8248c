"""Unspent Credits back to cards: once, never more than is there, never what may still be owed."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, update
from uuid_utils.compat import uuid7

from cloud.operations.cards.card_refunds import CardRefundState
from cloud.operations.cash_outs.read_cash_outs import CashOut, CashOutState, list_cash_outs
from cloud.operations.people.sign_in_attendee import Attendee
from cloud.operations.refusals import Code, Refusal
from cloud.payments.built_in import REFUNDS_FAIL_CARD, REFUNDS_WAIT_CARD
from cloud.store.tables import credit_transactions, credit_wallets, devices, events
from protocol.ids import PayerId, UserId
from protocol.messages import PostedOffline
from protocol.policy import OfflineRules
from tests.cloud.floor import EVENT, Floor, Till, eur
from tests.cloud.operations.box_office import Patron
from tests.cloud.operations.pay_desk import PayDesk


@pytest.fixture
def desk(floor: Floor) -> PayDesk:
    return PayDesk(floor)


def code_of(answer: CashOut | Refusal) -> Code:
    assert isinstance(answer, Refusal), answer
    return answer.code


def adjust(floor: Floor, patron: Patron, cents: int) -> None:
    """Credits from elsewhere, as a person of finance posts them."""
    with floor.database.transaction() as connection:
        connection.execute(
            insert(credit_transactions).values(
                user_id=patron.attendee.row_id,
                id=uuid7(),
                type="Adjustment",
                direction="in",
                amount_in_cents=cents,
                currency="EUR",
                reference="goodwill",
                idempotency_key="k",
                correlation_id="c",
                created_at=floor.now(),
                created_by="finance:eva",
            )
        )
        connection.execute(
            update(credit_wallets)
            .where(credit_wallets.c.user_id == patron.attendee.row_id)
            .values(balance_in_cents=credit_wallets.c.balance_in_cents + cents)
        )


# What is asked, and refused.


def test_all_of_it_goes_back_to_the_cards_oldest_purchase_first(desk: PayDesk) -> None:
    till = desk.floor.add_till()
    patron = desk.add_patron(1000, 2000, 500, email="mia@fair.example")
    desk.buy(patron, till, 1200)
    desk.hear(till)
    desk.floor.pass_time(minutes=5)
    asked = desk.asked(patron)
    assert (asked.state, asked.asked, asked.parts) == (CashOutState.WAITING, None, ())
    desk.floor.pass_time(minutes=4)
    desk.hear(till)
    desk.advance()
    posted = desk.look(patron, asked)
    assert posted.state is CashOutState.POSTED
    assert posted.amount == eur(2300)
    assert desk.floor.balance(patron.guest) == 0, "before the provider is asked"
    assert desk.given_back() == 0
    desk.make_refunds()
    ended = desk.look(patron, asked)
    assert ended.state is CashOutState.PAID
    assert [part.amount for part in ended.parts] == [eur(1000), eur(1300)]
    assert desk.given_back() == 2300
    [letter] = desk.letters("cash_out_ended")
    assert (letter["paid"], letter["back"]) == (
        {"amount_in_cents": 2300, "currency": "EUR"},
        {"amount_in_cents": 0, "currency": "EUR"},
    )
    desk.check(patron)


def test_one_who_asked_for_less_keeps_the_rest_and_may_ask_again(desk: PayDesk) -> None:
    patron = desk.add_patron(1000, 2000)
    first = desk.asked(patron, 700)
    desk.carry(1)
    second = desk.asked(patron, 1000)
    desk.carry(1)
    assert [part.amount for part in desk.look(patron, first).parts] == [eur(700)]
    assert [part.amount for part in desk.look(patron, second).parts] == [eur(300), eur(700)]
    assert desk.floor.balance(patron.guest) == 1300
    assert desk.given_back() == 1700
    desk.check(patron)


def test_what_did_not_come_from_a_card_stays_and_the_refusal_names_what_can_go(
    desk: PayDesk,
) -> None:
    patron = desk.add_patron(1000)
    adjust(desk.floor, patron, 500)
    too_much = desk.ask(patron, 1001)
    assert code_of(too_much) is Code.AMOUNT_OUT_OF_RANGE
    assert "10.00 EUR can go back" in str(too_much)
    asked = desk.asked(patron)
    desk.carry(1)
    assert desk.look(patron, asked).amount == eur(1000)
    assert desk.floor.balance(patron.guest) == 500
    assert code_of(desk.ask(patron)) is Code.NOTHING_TO_CASH_OUT
    desk.check(patron)


def test_an_empty_wallet_and_a_strange_currency_are_told_so(desk: PayDesk) -> None:
    patron = desk.add_patron()
    assert code_of(desk.ask(patron)) is Code.NOTHING_TO_CASH_OUT
    with desk.floor.database.transaction() as connection:
        connection.execute(update(events).values(currency="CHF"))
    assert code_of(desk.ask(patron)) is Code.CURRENCY_NOT_SOLD


@pytest.mark.parametrize("balance", [1000, -1])
def test_a_wallet_that_owes_or_is_frozen_pays_nothing_out(desk: PayDesk, balance: int) -> None:
    patron = desk.add_patron(1000)
    with desk.floor.database.transaction() as connection:
        connection.execute(
            update(credit_wallets).values(balance_in_cents=balance, offline_frozen=balance > 0)
        )
    assert code_of(desk.ask(patron)) is Code.WALLET_FROZEN
    assert desk.rows() == []


@pytest.mark.parametrize(
    ("rule", "ends_in", "allowed"),
    [
        ("always", None, True),
        ("never", None, False),
        ("never", -1, False),
        ("after_event", None, False),
        ("after_event", 1, False),
        ("after_event", -1, True),
    ],
)
def test_the_event_s_policy_decides(
    desk: PayDesk, rule: str, ends_in: int | None, allowed: bool
) -> None:
    patron = desk.add_patron(1000)
    ends_at = None if ends_in is None else desk.floor.now() + timedelta(hours=ends_in)
    desk.set_rule(rule, ends_at=ends_at)
    asked = desk.ask(patron)
    assert isinstance(asked, CashOut) is allowed
    if not allowed:
        assert code_of(asked) is Code.CASH_OUT_NOT_ALLOWED
        assert "Summer fair" in str(asked)


def test_an_event_where_this_wallet_never_was_has_no_say(desk: PayDesk) -> None:
    with desk.floor.database.transaction() as connection:
        connection.execute(
            insert(events).values(
                event_id="elsewhere",
                name="Elsewhere",
                currency="EUR",
                cash_out="never",
                created_at=desk.floor.now(),
            )
        )
    assert isinstance(desk.ask(desk.add_patron(1000)), CashOut)
    guest = desk.floor.add_guest(1000)
    nowhere = Patron(Attendee(UserId(guest.user_id), PayerId(guest.payer_id)), guest)
    assert code_of(desk.ask(nowhere)) is Code.CASH_OUT_NOT_ALLOWED, "then each has a say"


def test_the_same_key_is_answered_the_same_and_another_content_refused(desk: PayDesk) -> None:
    patron = desk.add_patron(2000)
    first = desk.ask(patron, 500, key="k" * 20)
    desk.carry(1)
    assert desk.ask(patron, 500, key="k" * 20) == first
    assert code_of(desk.ask(patron, 600, key="k" * 20)) is Code.KEY_REUSED
    refused = desk.ask(patron, 5000, key="r" * 20)
    desk.top_up(patron, 9000)
    assert desk.ask(patron, 5000, key="r" * 20) == refused
    assert len(desk.rows()) == 1


def test_one_is_under_way_at_a_time(desk: PayDesk) -> None:
    patron = desk.add_patron(2000)
    desk.asked(patron, 500)
    assert code_of(desk.ask(patron, 500)) is Code.CASH_OUT_OPEN
    desk.advance()
    assert code_of(desk.ask(patron, 500)) is Code.CASH_OUT_OPEN
    desk.make_refunds()
    assert isinstance(desk.ask(patron, 500), CashOut)


def test_a_stranger_s_cash_out_is_as_unknown_as_none(desk: PayDesk) -> None:
    patron, stranger = desk.add_patron(2000), desk.add_patron(2000)
    asked = desk.asked(patron)
    assert code_of(desk.withdraw(stranger, asked)) is Code.CASH_OUT_UNKNOWN
    assert list_cash_outs(desk.floor.database, stranger.attendee, 10, None) == []
    assert list_cash_outs(desk.floor.database, patron.attendee, 10, None) == [asked]
    assert list_cash_outs(desk.floor.database, patron.attendee, 10, str(asked.id)) == []
    assert list_cash_outs(desk.floor.database, patron.attendee, 10, "nonsense") == []


def test_withdrawn_while_it_waits_nothing_is_paid_and_twice_is_once(desk: PayDesk) -> None:
    patron = desk.add_patron(2000)
    asked = desk.asked(patron)
    withdrawn = desk.withdraw(patron, asked)
    assert isinstance(withdrawn, CashOut)
    assert (withdrawn.state, withdrawn.ended_because) == (CashOutState.WITHDRAWN, "withdrawn")
    assert desk.withdraw(patron, asked) == withdrawn
    desk.carry(2)
    assert desk.floor.balance(patron.guest) == 2000
    assert len(desk.floor.audit(action="cash_out", outcome="withdrawn")) == 1
    desk.check(patron)


def test_withdrawn_too_late_it_says_so(desk: PayDesk) -> None:
    patron = desk.add_patron(2000)
    asked = desk.asked(patron)
    desk.advance()
    assert code_of(desk.withdraw(patron, asked)) is Code.CASH_OUT_POSTED
    desk.carry(1)
    assert code_of(desk.withdraw(patron, asked)) is Code.CASH_OUT_POSTED
    desk.check(patron)


# What is held back.


def offline_till(desk: PayDesk, device_id: str = "till-1") -> Till:
    """One that was heard, and so may sell offline."""
    till = desk.floor.add_till(device_id)
    desk.hear(till)
    return till


def test_it_waits_until_each_appliance_proved_an_empty_queue_late_enough(desk: PayDesk) -> None:
    tills = [offline_till(desk, name) for name in ("till-1", "till-2")]
    patron = desk.add_patron(2000)
    asked = desk.asked(patron)
    for seconds in (0, 60, 60, 59):
        desk.floor.pass_time(seconds=seconds)
        for till in tills:
            desk.hear(till)
        assert desk.advance() == 0
    desk.floor.pass_time(seconds=1)
    desk.hear(tills[0])
    desk.floor.pass_time(seconds=5)
    assert desk.advance() == 0, "one of them has not spoken yet"
    desk.hear(tills[1], queue=1)
    desk.floor.pass_time(seconds=5)
    assert desk.advance() == 0, "it still holds something"
    desk.hear(tills[1], is_settled=False)
    desk.floor.pass_time(seconds=5)
    assert desk.advance() == 0, "its journal has an entry without an answer"
    desk.hear(tills[1])
    desk.floor.pass_time(seconds=5)
    assert desk.advance() == 1
    assert desk.look(patron, asked).amount == eur(2000)


def test_an_appliance_that_is_silent_is_waited_for_a_day(desk: PayDesk) -> None:
    offline_till(desk)
    patron = desk.add_patron(2000)
    asked = desk.asked(patron)
    desk.floor.pass_time(hours=23, minutes=59)
    assert desk.advance() == 0
    desk.floor.pass_time(minutes=1)
    assert desk.advance() == 1
    assert desk.look(patron, asked).state is CashOutState.POSTED


def test_what_is_above_the_hold_is_paid_at_once(desk: PayDesk) -> None:
    for name in ("till-1", "till-2"):
        offline_till(desk, name)
    patron = desk.add_patron(2000)
    # Each may have sold a quarter of 20.00.
    above = desk.asked(patron, 1001)
    assert desk.advance() == 0
    desk.withdraw(patron, above)
    asked = desk.asked(patron, 1000)
    assert desk.advance() == 1
    assert desk.look(patron, asked).state is CashOutState.POSTED


@pytest.mark.parametrize(
    ("changes", "rules", "waits"),
    [
        ({}, OfflineRules(allowed=True), True),
        ({}, OfflineRules(allowed=False), False),
        ({}, None, False),
        # It may go by an older policy, or hold something from another time.
        ({"policy_acked": 0}, None, True),
        ({"queue": 1}, None, True),
        # What it uploads goes to the review list, and past a person.
        ({"status": "revoked"}, OfflineRules(allowed=True), False),
        ({"status": "decommissioned", "queue": 1}, OfflineRules(allowed=True), False),
        # Moved to where nothing is sold in this currency: it was here.
        ({"event_id": None, "stall_id": None}, OfflineRules(allowed=True), True),
        ({"last_seen_at": None}, OfflineRules(allowed=True), True),
    ],
)
def test_which_appliances_are_waited_for(
    desk: PayDesk, changes: dict[str, Any], rules: OfflineRules | None, waits: bool
) -> None:
    offline_till(desk)
    patron = desk.add_patron(2000)
    with desk.floor.database.transaction() as connection:
        connection.execute(
            update(events).values(
                offline_rules=None if rules is None else {"allowed": rules.allowed}
            )
        )
        if changes:
            connection.execute(update(devices).values(**changes))
    desk.asked(patron)
    assert desk.advance() == (0 if waits else 1)


def test_an_appliance_where_nobody_ever_sold_is_not_waited_for(desk: PayDesk) -> None:
    with desk.floor.database.transaction() as connection:
        connection.execute(
            insert(devices).values(
                device_id="boxed",
                event_id=EVENT,
                stall_id="bar",
                policy_version=1,
                created_at=desk.floor.now(),
            )
        )
    patron = desk.add_patron(2000)
    desk.asked(patron)
    assert desk.advance() == 1


def test_after_the_event_s_end_a_proof_from_before_the_request_counts(desk: PayDesk) -> None:
    till = offline_till(desk)
    patron = desk.add_patron(2000)
    desk.set_rule("after_event", ends_at=desk.floor.now())
    desk.floor.pass_time(minutes=3)
    desk.hear(till)
    desk.floor.pass_time(days=1)
    desk.asked(patron)
    assert desk.advance() == 1, "tills are packed up, and were empty when that was done"


# While it waits, and at posting.


def test_sales_go_on_while_it_waits_and_what_is_left_is_paid(desk: PayDesk) -> None:
    till = offline_till(desk)
    patron = desk.add_patron(2000)
    asked = desk.asked(patron, 1800)
    desk.buy(patron, till, 700)
    desk.floor.pass_time(minutes=4)
    desk.hear(till)
    desk.carry(1)
    ended = desk.look(patron, asked)
    assert (ended.amount, ended.state) == (eur(1300), CashOutState.PAID)
    desk.check(patron)


def test_a_late_upload_comes_first(desk: PayDesk) -> None:
    till = offline_till(desk)
    patron = desk.add_patron(2000)
    sale = till.deduct(desk.floor.qr(patron.guest), 500)
    asked = desk.asked(patron)
    desk.floor.pass_time(minutes=4)
    desk.hear(till, queue=1, waits=sale)
    assert desk.advance() == 0
    [answer] = desk.floor.ask(till, till.accept_offline(sale))
    assert isinstance(answer, PostedOffline)
    desk.hear(till)
    desk.floor.pass_time(seconds=5)
    desk.carry(1)
    assert desk.look(patron, asked).amount == eur(1500)
    assert desk.floor.balance(patron.guest) == 0
    desk.check(patron)


@pytest.mark.parametrize(("offline", "because"), [(100, "nothing_left"), (500, "wallet_frozen")])
def test_spent_to_the_end_or_below_nothing_is_paid(
    desk: PayDesk, offline: int, because: str
) -> None:
    till = offline_till(desk)
    patron = desk.add_patron(2000, email="mia@fair.example")
    sale = till.deduct(desk.floor.qr(patron.guest), offline)
    asked = desk.asked(patron)
    desk.buy(patron, till, 1900)
    [answer] = desk.floor.ask(till, till.accept_offline(sale))
    assert isinstance(answer, PostedOffline)
    desk.floor.pass_time(minutes=4)
    desk.hear(till)
    desk.carry(1)
    ended = desk.look(patron, asked)
    assert (ended.state, ended.ended_because) == (CashOutState.WITHDRAWN, because)
    [letter] = desk.letters("cash_out_not_paid")
    assert letter["reason"] == because
    assert desk.given_back() == 0
    desk.check(patron)


@pytest.mark.parametrize("when", ["waiting", "posted", "paid"])
def test_a_chargeback_at_any_point_pays_nothing_twice(desk: PayDesk, when: str) -> None:
    patron = desk.add_patron()
    disputed = desk.top_up(patron, 2000)
    desk.top_up(patron, 1000)
    asked = desk.asked(patron)
    if when != "waiting":
        desk.advance()
    if when == "paid":
        desk.make_refunds()
        desk.tell()
    desk.bank.open_dispute(f"test_{disputed}")
    desk.tell()
    desk.carry(3)
    ended = desk.look(patron, asked)
    if when == "waiting":
        assert ended.ended_because == "wallet_frozen"
        assert desk.given_back() == 0
    else:
        assert ended.state is CashOutState.PAID
        assert (
            desk.floor.balance(patron.guest)
            == -2000 + ended.sum_of(CardRefundState.FAILED).amount_in_cents
        )
    desk.check(patron)


# The provider.


def test_what_the_provider_refuses_for_good_is_in_the_wallet_again(desk: PayDesk) -> None:
    patron = desk.add_patron(1000, email="mia@fair.example")
    desk.top_up(patron, 2000, card=REFUNDS_FAIL_CARD)
    asked = desk.asked(patron)
    desk.carry(1)
    ended = desk.look(patron, asked)
    assert ended.state is CashOutState.PAID
    assert [part.state for part in ended.parts] == ["done", "failed"]
    assert desk.floor.balance(patron.guest) == 2000
    assert desk.given_back() == 1000
    [letter] = desk.letters("cash_out_ended")
    assert letter["back"]["amount_in_cents"] == 2000
    desk.check(patron)


def test_refused_altogether_all_of_it_is_back(desk: PayDesk) -> None:
    patron = desk.add_patron(1000, 500, card=REFUNDS_FAIL_CARD)
    asked = desk.asked(patron)
    desk.carry(1)
    assert desk.look(patron, asked).state is CashOutState.REVERSED
    assert desk.floor.balance(patron.guest) == 1500
    desk.check(patron)


def test_a_refund_that_takes_days_keeps_it_open_until_it_ends(desk: PayDesk) -> None:
    patron = desk.add_patron(1000, card=REFUNDS_WAIT_CARD)
    asked = desk.asked(patron)
    desk.advance()
    desk.make_refunds()
    assert desk.look(patron, asked).state is CashOutState.POSTED
    assert desk.floor.balance(patron.guest) == 0
    desk.carry(3)
    assert desk.look(patron, asked).state is CashOutState.PAID
    assert desk.letters("cash_out_ended") == [], "no address, no letter"
    desk.check(patron)


@pytest.mark.parametrize("how", ["is_away", "loses_answers"])
def test_a_provider_that_gives_no_answer_is_asked_again_and_pays_once(
    desk: PayDesk, how: str
) -> None:
    patron = desk.add_patron(1000, 500)
    asked = desk.asked(patron)
    setattr(desk.provider, how, True)
    desk.advance()
    for _ in range(3):
        desk.carry(1)
    setattr(desk.provider, how, False)
    desk.carry(6)
    assert desk.look(patron, asked).state is CashOutState.PAID
    assert desk.given_back() == 1500
    desk.check(patron)


def test_sent_back_by_the_card_s_bank_long_after_it_is_in_the_wallet_again(desk: PayDesk) -> None:
    patron = desk.add_patron(1000)
    asked = desk.asked(patron)
    desk.carry(1)
    [part] = desk.refunds()
    desk.bank.fail_refund(part.provider_reference)
    desk.tell()
    assert desk.floor.balance(patron.guest) == 1000
    assert desk.look(patron, asked).state is CashOutState.PAID, "it had ended"
    again = desk.ask(patron)
    assert isinstance(again, CashOut)
