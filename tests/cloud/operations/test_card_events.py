from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert, update

from cloud.operations.cards.card_payments import PaymentState, WebhookOutcome
from cloud.operations.refusals import Refusal
from cloud.payments.built_in import DISPUTED_CARD
from cloud.payments.provider import EventKind
from cloud.store.letters import TopUpReceipt, read_letter
from cloud.store.tables import events, payments
from tests.cloud.floor import EVENT, Floor, eur
from tests.cloud.operations.card_desk import GOOD_CARD, CardDesk, code_of, money


@pytest.fixture
def desk(floor: Floor) -> CardDesk:
    return CardDesk(floor)


# Paid.


def test_what_was_paid_is_credited_once_and_told_to_its_owner(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(500)
    desk.give_address(guest, "ana@example.org")
    payment = desk.buy(guest, 2000)
    assert desk.state(payment) is PaymentState.SUCCEEDED
    assert desk.floor.balance(guest) == 2500
    [letter] = desk.letters()
    receipt = read_letter(letter.content)
    assert isinstance(receipt, TopUpReceipt)
    assert (letter.to_address, receipt.amount, receipt.balance) == (
        "ana@example.org",
        eur(2000),
        eur(2500),
    )
    assert receipt.reference == payment.reference


def test_a_receipt_is_written_as_the_events_own_people_write(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    desk.give_address(guest, "ana@example.org")
    with desk.floor.database.transaction() as connection:
        connection.execute(update(events).values(locale="de_AT", timezone="Europe/Vienna"))
    desk.buy(guest)
    [letter] = desk.letters()
    receipt = read_letter(letter.content)
    assert (receipt.locale, receipt.timezone) == ("de_AT", "Europe/Vienna")


def test_without_an_address_nothing_is_posted(desk: CardDesk) -> None:
    desk.buy(desk.floor.add_guest(0))
    assert desk.letters() == []


def test_the_same_event_told_again_is_known(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.open(guest)
    desk.pay(payment)
    [paid] = desk.untold()
    outcomes = [desk.tell(paid) for _ in range(3)]
    assert outcomes == [WebhookOutcome.CREDITED, *[WebhookOutcome.KNOWN_ALREADY] * 2]
    assert desk.floor.balance(guest) == 2000
    seen = [row.outcome for row in desk.floor.audit(action="webhook")]
    assert seen == ["credited", "known_already", "known_already"]


def test_told_at_once_by_many_it_is_credited_once(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.open(guest)
    told = [desk.event(payment) for _ in range(10)] + [desk.event(payment)] * 10
    with ThreadPoolExecutor(10) as pool:
        outcomes = list(pool.map(desk.tell, told))
    assert outcomes.count(WebhookOutcome.CREDITED) == 1
    assert outcomes.count(WebhookOutcome.KNOWN_ALREADY) == 19
    assert desk.floor.balance(guest) == 2000


@pytest.mark.parametrize("amount", [money(1999), money(2001), money(2000, "SEK")])
@pytest.mark.parametrize("kind", [EventKind.PAID, EventKind.FAILED, EventKind.EXPIRED])
def test_another_amount_or_currency_changes_nothing(
    desk: CardDesk, kind: EventKind, amount: object
) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.open(guest)
    wrong = desk.event(payment, kind, amount=amount)
    assert code_of(desk.tell(wrong)) == "amount_differs"
    assert desk.state(payment) is PaymentState.PENDING
    assert desk.floor.balance(guest) == 0
    [row] = desk.floor.audit(action="webhook")
    assert (row.outcome, row.detail["amount"]) == ("amount_differs", str(amount))
    # The same event, put right, still counts.
    assert desk.tell(replace(wrong, kind=EventKind.PAID, amount=eur(2000))) == "credited"


def test_an_unknown_payment_is_asked_for_again_and_recorded(desk: CardDesk) -> None:
    payment = desk.open(desk.floor.add_guest(0))
    unknown: list[dict[str, Any]] = [
        {"reference": "test_unknown"},
        {"provider": "stripe"},
        {"reference": "test_unknown", "payment_id": "not a uuid"},
        # Ours, and yet another checkout than the one that was opened for it.
        {"reference": "test_unknown", "payment_id": payment.id},
    ]
    for changes in unknown:
        assert code_of(desk.tell(desk.event(payment, **changes))) == "payment_unknown"
    assert {row.outcome for row in desk.floor.audit(action="webhook")} == {"payment_unknown"}
    assert desk.state(payment) is PaymentState.PENDING


def test_a_webhook_that_is_faster_than_the_provider_s_own_answer_counts(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    desk.provider.lost = {"open_checkout"}
    assert isinstance(desk.start(guest, key="k" * 20), Refusal)
    with desk.floor.database.reading() as connection:
        payment_id = str(connection.execute(payments.select()).one().id)
    desk.books.pay(f"test_{payment_id}", GOOD_CARD)
    [paid] = desk.untold()
    assert code_of(desk.tell(paid)) == "payment_unknown"
    # One that says our own name for the payment is understood.
    assert desk.tell(replace(paid, payment_id=payment_id)) is WebhookOutcome.CREDITED
    assert desk.floor.balance(guest) == 2000


# Declined, expired, late.


def test_a_declined_card_leaves_the_payment_open(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.open(guest)
    assert desk.tell(desk.event(payment, EventKind.FAILED)) is WebhookOutcome.NOTED
    assert desk.state(payment) is PaymentState.FAILED
    assert desk.row(payment).poll_at is not None, "another card may still pay"
    assert desk.tell(desk.event(payment)) is WebhookOutcome.CREDITED


def test_money_that_comes_after_the_page_expired_is_credited_and_recorded(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.open(guest)
    desk.tell(desk.event(payment, EventKind.EXPIRED))
    assert desk.state(payment) is PaymentState.EXPIRED
    assert desk.tell(desk.event(payment)) is WebhookOutcome.CREDITED
    assert desk.floor.balance(guest) == 2000
    row = desk.floor.audit(action="webhook")[-1]
    assert (row.outcome, row.detail["was"]) == ("credited", "expired")


@pytest.mark.parametrize("late", [EventKind.FAILED, EventKind.EXPIRED])
def test_what_is_told_late_takes_nothing_back(desk: CardDesk, late: EventKind) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.buy(guest)
    assert desk.tell(desk.event(payment, late)) is WebhookOutcome.NOTED
    assert desk.state(payment) is PaymentState.SUCCEEDED
    assert desk.floor.balance(guest) == 2000


def test_a_card_declined_before_the_page_expired_does_not_open_it_again(desk: CardDesk) -> None:
    payment = desk.open(desk.floor.add_guest(0))
    desk.tell(desk.event(payment, EventKind.EXPIRED))
    desk.tell(desk.event(payment, EventKind.FAILED))
    assert desk.state(payment) is PaymentState.EXPIRED


# Disputes.


def test_a_chargeback_goes_below_zero_once_and_freezes_the_wallet(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.open(guest)
    desk.pay(payment, DISPUTED_CARD)
    [paid, disputed] = desk.untold()
    assert desk.tell(paid) is WebhookOutcome.CREDITED
    till = desk.floor.add_till()
    desk.floor.ask_one(till, till.deduct(desk.floor.qr(guest), 350))
    told = [disputed, disputed, replace(disputed, event_id="evt_other")]
    outcomes = [desk.tell(each) for each in told]
    assert outcomes == [WebhookOutcome.TAKEN_BACK, *[WebhookOutcome.KNOWN_ALREADY] * 2]
    assert desk.floor.balance(guest) == -350
    assert desk.kinds(guest)[-1] == ("Adjustment", "out", 2000)
    assert desk.floor.transactions(guest)[-1].reference == disputed.about
    assert desk.is_frozen(guest)
    assert desk.row(payment).disputed_in_cents == 2000
    assert desk.floor.audit(action="wallet_frozen"), "and it is said"


def test_a_chargeback_freezes_a_wallet_that_has_enough(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(5000)
    payment = desk.buy(guest)
    desk.tell(desk.event(payment, EventKind.DISPUTED, about="dp_1", amount=eur(500)))
    assert desk.floor.balance(guest) == 6500
    assert desk.is_frozen(guest)
    assert desk.row(payment).disputed_in_cents == 500


def test_a_dispute_that_is_won_comes_back_once(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.buy(guest)
    won = desk.event(payment, EventKind.DISPUTE_WON, about="dp_1")
    assert code_of(desk.tell(won)) == "came_too_early"
    desk.tell(desk.event(payment, EventKind.DISPUTED, about="dp_1"))
    outcomes = [desk.tell(each) for each in (won, won, replace(won, event_id="evt_again"))]
    assert outcomes == [WebhookOutcome.PUT_BACK, *[WebhookOutcome.KNOWN_ALREADY] * 2]
    assert desk.floor.balance(guest) == 2000
    assert desk.kinds(guest)[-1] == ("Adjustment", "in", 2000)
    assert desk.row(payment).disputed_in_cents == 0
    stale = desk.event(payment, EventKind.DISPUTED, about="dp_1")
    assert desk.tell(stale) is WebhookOutcome.KNOWN_ALREADY, "it does not open again"


def test_a_dispute_told_at_once_by_many_takes_once(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.buy(guest)
    told = [desk.event(payment, EventKind.DISPUTED, about="dp_1") for _ in range(12)]
    with ThreadPoolExecutor(12) as pool:
        outcomes = list(pool.map(desk.tell, told))
    assert outcomes.count(WebhookOutcome.TAKEN_BACK) == 1
    assert desk.floor.balance(guest) == 0


def test_a_dispute_before_its_payment_was_heard_of_is_asked_for_again(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.open(guest)
    desk.pay(payment, DISPUTED_CARD)
    [paid, disputed] = desk.untold()
    assert code_of(desk.tell(disputed)) == "came_too_early"
    assert desk.floor.transactions(guest) == []
    desk.tell(paid)
    assert desk.tell(disputed) is WebhookOutcome.TAKEN_BACK
    assert desk.floor.balance(guest) == 0


@pytest.mark.parametrize("amount", [money(2001), money(100, "SEK")])
def test_a_dispute_of_more_than_was_paid_is_not_believed(desk: CardDesk, amount: object) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.buy(guest)
    wrong = desk.event(payment, EventKind.DISPUTED, about="dp_1", amount=amount)
    assert code_of(desk.tell(wrong)) == "amount_differs"
    assert desk.floor.balance(guest) == 2000


def test_a_dispute_by_the_charge_alone_finds_its_payment(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.open(guest)
    desk.tell(desk.event(payment, charge="pi_1"))
    disputed = desk.event(payment, EventKind.DISPUTED, reference="pi_1", about="dp_1")
    assert desk.tell(disputed) is WebhookOutcome.TAKEN_BACK
    assert desk.floor.balance(guest) == 0


# Refunds that nobody here asked for.


def test_a_refund_made_in_the_dashboard_leaves_the_wallet_once(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.buy(guest)
    desk.books.refund_by_hand(str(payment.reference), eur(700))
    [told] = desk.untold()
    again = [told, told, replace(told, event_id="evt_other")]
    outcomes = [desk.tell(each) for each in again]
    assert outcomes == [WebhookOutcome.TAKEN_BACK, *[WebhookOutcome.KNOWN_ALREADY] * 2]
    assert desk.floor.balance(guest) == 1300
    assert desk.is_frozen(guest)
    assert desk.row(payment).refunded_in_cents == 700
    assert desk.state(payment) is PaymentState.SUCCEEDED
    desk.forget_webhooks()
    desk.books.refund_by_hand(str(payment.reference), eur(1300))
    assert desk.tell_all() == [WebhookOutcome.TAKEN_BACK]
    assert desk.state(payment) is PaymentState.REFUNDED
    assert desk.floor.balance(guest) == 0


def test_a_dashboard_refund_that_came_back_is_credited_again(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.buy(guest)
    made = desk.books.refund_by_hand(str(payment.reference), eur(2000))
    desk.tell_all()
    desk.books.fail_refund(str(made.reference))
    assert desk.tell_all() == [WebhookOutcome.PUT_BACK]
    assert desk.floor.balance(guest) == 2000
    assert desk.row(payment).refunded_in_cents == 0
    assert desk.state(payment) is PaymentState.SUCCEEDED


def test_a_dashboard_refund_that_failed_first_takes_nothing_however_late_its_success(
    desk: CardDesk,
) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.buy(guest)
    failed = desk.event(payment, EventKind.REFUND_FAILED, about="re_1", amount=eur(700))
    assert desk.tell(failed) is WebhookOutcome.NOTED
    done = desk.event(payment, EventKind.REFUND_DONE, about="re_1", amount=eur(700))
    assert desk.tell(done) is WebhookOutcome.KNOWN_ALREADY
    assert desk.floor.balance(guest) == 2000


def test_refunds_of_more_than_was_paid_are_not_believed(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.buy(guest)
    refund = desk.event(payment, EventKind.REFUND_DONE, about="re_1", amount=eur(1500))
    assert desk.tell(refund) is WebhookOutcome.TAKEN_BACK
    over = desk.event(payment, EventKind.REFUND_DONE, about="re_2", amount=eur(501))
    assert code_of(desk.tell(over)) == "amount_differs"
    assert desk.floor.balance(guest) == 500


# How much may be bought.


def _add_event(floor: Floor, event_id: str, low: int, high: int, **changes: object) -> None:
    row: dict[str, object] = {
        "event_id": event_id,
        "name": event_id,
        "currency": "EUR",
        "top_up_min_in_cents": low,
        "top_up_max_in_cents": high,
        "created_at": floor.now(),
    }
    with floor.database.transaction() as connection:
        connection.execute(insert(events).values(**(row | changes)))


def test_an_events_own_limits_count_or_else_the_widest_of_the_open_ones(desk: CardDesk) -> None:
    floor = desk.floor
    guest = floor.add_guest(0)
    _add_event(floor, "small", 50, 1000)
    _add_event(floor, "over", 1, 900_000, ends_at=floor.now())
    _add_event(floor, "elsewhere", 1, 900_000, currency="SEK")
    assert code_of(desk.start(guest, 49)) == "amount_out_of_range"
    assert code_of(desk.start(guest, 50_001)) == "amount_out_of_range"
    assert desk.open(guest, 50).amount == eur(50)
    assert desk.open(guest, 50_000).amount == eur(50_000)
    assert code_of(desk.start(guest, 1001, event_id="small")) == "amount_out_of_range"
    assert code_of(desk.start(guest, 50, event_id=EVENT)) == "amount_out_of_range"
    assert code_of(desk.start(guest, 500, event_id="over")) == "event_closed"
    assert code_of(desk.start(guest, 500, event_id="elsewhere")) == "currency_not_sold"
    assert code_of(desk.start(guest, 500, event_id="nowhere")) == "event_unknown"
    bought = desk.start(guest, 1000, event_id="small")
    assert not isinstance(bought, Refusal)
    desk.pay(bought)
    desk.tell_all()
    [purchase] = floor.transactions(guest)
    assert purchase.event_id == "small"


def test_the_same_key_for_another_event_is_refused(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    first = desk.start(guest, 2000, "k" * 20, EVENT)
    assert desk.start(guest, 2000, "k" * 20, EVENT) == first
    assert code_of(desk.start(guest, 2000, "k" * 20)) == "key_reused"


def test_a_key_that_stands_is_answered_even_when_the_event_is_over(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    first = desk.start(guest, 2000, "k" * 20, EVENT)
    with desk.floor.database.transaction() as connection:
        connection.execute(update(events).values(ends_at=desk.floor.now()))
    assert desk.start(guest, 2000, "k" * 20, EVENT) == first
    assert code_of(desk.start(guest, 2000, "m" * 20)) == "currency_not_sold"


def test_a_payment_of_a_removed_reference_is_found_by_nobody(desk: CardDesk) -> None:
    """The row stands without a reference until the provider answered: nothing matches NULL."""
    desk.provider.down = {"open_checkout"}
    guest = desk.floor.add_guest(0)
    assert code_of(desk.start(guest, key="k" * 20)) == "provider_unreachable"
    with desk.floor.database.reading() as connection:
        row = connection.execute(payments.select()).one()
    assert (row.state, row.provider_reference) == ("created", None)
    assert row.return_url == f"https://wallet.test/?topup={UUID(str(row.id))}"
