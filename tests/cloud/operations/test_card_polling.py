from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from cloud.operations.cards.card_payments import PAGE_VALID, PaymentState, WebhookOutcome
from cloud.operations.refusals import Refusal
from cloud.payments.patience import poll_again_after, try_again_after
from cloud.payments.provider import ProviderUnreachableError
from cloud.store.tables import payments
from tests.cloud.floor import Floor
from tests.cloud.operations.card_desk import GOOD_CARD, CardDesk, code_of


@pytest.fixture
def desk(floor: Floor) -> CardDesk:
    return CardDesk(floor)


def test_a_payment_whose_webhook_never_came_is_credited_all_the_same(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.open(guest)
    desk.pay(payment)
    desk.forget_webhooks()
    assert desk.poll() == 0, "too early to worry"
    desk.floor.pass_time(seconds=21)
    assert desk.poll() == 1
    assert desk.floor.balance(guest) == 2000
    desk.floor.pass_time(days=2)
    assert desk.poll() == 0, "there is nothing more to ask"


def test_a_webhook_that_comes_after_all_credits_nothing_more(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.open(guest)
    desk.pay(payment)
    desk.floor.pass_time(seconds=21)
    desk.poll()
    assert desk.tell_all() == [WebhookOutcome.KNOWN_ALREADY]
    assert desk.floor.balance(guest) == 2000


def test_webhooks_and_polls_at_once_credit_once(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.open(guest)
    desk.pay(payment)
    [paid] = desk.untold()
    desk.floor.pass_time(seconds=21)
    with ThreadPoolExecutor(12) as pool:
        polls = [pool.submit(desk.poll) for _ in range(6)]
        tells = [pool.submit(desk.tell, paid) for _ in range(6)]
        outcomes = [each.result() for each in tells]
        assert sum(each.result() for each in polls) <= 1, "one courier takes it up"
    assert set(outcomes) <= {WebhookOutcome.CREDITED, WebhookOutcome.KNOWN_ALREADY}
    assert desk.floor.balance(guest) == 2000
    assert len(desk.floor.transactions(guest)) == 1


def test_looking_grows_rarer_and_ends_when_the_provider_let_go(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.open(guest)
    looked_at: list[int] = []
    for second in range(0, 2 * int(PAGE_VALID.total_seconds()), 10):
        desk.provider.asked.clear()
        if desk.poll():
            looked_at.append(second)
            if desk.provider.asked == ["expire_checkout"]:
                break
        desk.floor.pass_time(seconds=10)
    assert looked_at[:4] == [20, 60, 120, 240]
    assert looked_at[-1] == PAGE_VALID.total_seconds()
    assert len(looked_at) < 12
    assert desk.state(payment) is PaymentState.EXPIRED
    assert desk.row(payment).poll_at is None
    assert desk.tell_all() == [WebhookOutcome.NOTED]
    assert desk.books.pay(str(payment.reference), GOOD_CARD).value == "expired"


def test_a_payment_that_is_made_while_it_is_let_go_is_credited(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.open(guest)
    desk.pay(payment)
    desk.forget_webhooks()
    desk.floor.pass_time(seconds=PAGE_VALID.total_seconds())
    assert desk.poll() == 1
    assert desk.provider.asked[-1] == "expire_checkout"
    assert desk.state(payment) is PaymentState.SUCCEEDED
    assert desk.floor.balance(guest) == 2000


def test_nothing_is_given_up_while_the_provider_does_not_answer(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.open(guest)
    desk.provider.down = {"look_up", "expire_checkout"}
    for _ in range(10):
        desk.floor.pass_time(hours=1)
        with pytest.raises(ProviderUnreachableError):
            desk.poll()
        assert desk.poll() == 0, "not again at once"
    assert desk.state(payment) is PaymentState.PENDING
    desk.provider.down = set()
    desk.pay(payment)
    desk.floor.pass_time(hours=1)
    assert desk.poll() == 1
    assert desk.floor.balance(guest) == 2000


def test_one_whose_answer_was_lost_is_let_go_again(desk: CardDesk) -> None:
    payment = desk.open(desk.floor.add_guest(0))
    desk.floor.pass_time(seconds=PAGE_VALID.total_seconds())
    desk.provider.lost = {"expire_checkout"}
    with pytest.raises(ProviderUnreachableError):
        desk.poll()
    assert desk.state(payment) is PaymentState.PENDING
    desk.provider.lost = set()
    desk.floor.pass_time(hours=1)
    assert desk.poll() == 1
    assert desk.state(payment) is PaymentState.EXPIRED


@pytest.mark.parametrize("fate", ["down", "lost"])
def test_a_row_that_the_provider_never_answered_for_is_opened_under_its_key_and_let_go(
    desk: CardDesk, fate: str
) -> None:
    """As after a crash between the commit and the call, or between the call and its answer."""
    guest = desk.floor.add_guest(0)
    setattr(desk.provider, fate, {"open_checkout"})
    assert code_of(desk.start(guest)) == "provider_unreachable"
    desk.floor.pass_time(seconds=21)
    assert desk.poll() == 1, "the provider still does not answer"
    setattr(desk.provider, fate, set[str]())
    desk.floor.pass_time(minutes=2)
    assert desk.poll() == 1
    with desk.floor.database.reading() as connection:
        [row] = connection.execute(payments.select()).all()
    assert row.state == "pending"
    assert row.provider_reference == f"test_{row.id}", "one checkout, not two"
    desk.floor.pass_time(hours=2)
    desk.poll()
    with desk.floor.database.reading() as connection:
        [row] = connection.execute(payments.select()).all()
    assert (row.state, row.poll_at) == ("expired", None)


def test_a_row_that_was_opened_by_polling_still_answers_its_key(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    desk.provider.down = {"open_checkout"}
    assert isinstance(desk.start(guest, key="k" * 20), Refusal)
    desk.provider.down = set()
    desk.floor.pass_time(seconds=21)
    desk.poll()
    again = desk.start(guest, key="k" * 20)
    assert not isinstance(again, Refusal)
    assert again.card_page is not None
    desk.pay(again)
    assert desk.tell_all() == [WebhookOutcome.CREDITED]


def test_another_providers_payments_are_left_alone(desk: CardDesk) -> None:
    payment = desk.open(desk.floor.add_guest(0))
    with desk.floor.database.transaction() as connection:
        connection.execute(payments.update().values(provider="stripe"))
    desk.floor.pass_time(hours=3)
    assert desk.poll() == 0
    assert desk.state(payment) is PaymentState.PENDING


def test_waits_only_grow_and_have_an_end() -> None:
    polls = [poll_again_after(count) for count in range(30)]
    tries = [try_again_after(count) for count in range(1, 30)]
    for waits in (polls, tries):
        assert waits == sorted(waits)
        assert timedelta(0) < waits[-1] <= timedelta(hours=1)
