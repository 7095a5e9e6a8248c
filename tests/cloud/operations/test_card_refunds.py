import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select
from uuid_utils.compat import uuid7

from cloud.operations.cards import make_card_refunds as making
from cloud.operations.cards.card_payments import PaymentState, WebhookOutcome, lock_payment
from cloud.operations.cards.card_refunds import RefundReason, refundable_in_cents
from cloud.operations.cash_outs.cash_out import ask_cash_out
from cloud.operations.cash_outs.cash_out_advance import advance_cash_outs
from cloud.operations.cash_outs.read_cash_outs import CashOut
from cloud.operations.people.sign_in_attendee import Attendee
from cloud.payments.built_in import REFUNDS_FAIL_CARD, REFUNDS_WAIT_CARD
from cloud.payments.provider import EventKind, ProviderUnreachableError
from cloud.store.tables import cash_outs, events
from protocol.ids import IdempotencyKey, PayerId, UserId
from tests.cloud.floor import Floor, Guest, eur
from tests.cloud.operations.card_desk import CardDesk, code_of


@pytest.fixture
def desk(floor: Floor) -> CardDesk:
    return CardDesk(floor)


def _given_back(desk: CardDesk) -> list[tuple[str, int]]:
    """What the provider's own books say went back."""
    with desk.books._books.deed() as books:
        rows = books.execute("SELECT state, amount_in_cents FROM refunds ORDER BY name").fetchall()
    return [(row["state"], row["amount_in_cents"]) for row in rows]


def _left(desk: CardDesk, payment_id: str) -> int:
    with desk.floor.database.transaction() as connection:
        return refundable_in_cents(connection, lock_payment(connection, UUID(payment_id)).payment)


def _cash_out(desk: CardDesk, guest: Guest) -> None:
    """All there is, posted and asked back from the cards it came from."""
    with desk.floor.database.transaction() as connection:
        connection.execute(events.update().values(cash_out="always"))
    asked = ask_cash_out(
        desk.floor.database,
        Attendee(UserId(guest.user_id), PayerId(guest.payer_id)),
        "EUR",
        None,
        key=IdempotencyKey("k" * 20),
        now=desk.floor.now(),
    )
    assert isinstance(asked, CashOut), asked
    assert advance_cash_outs(desk.floor.database, desk.floor.now()) == 1


def _cash_out_state(desk: CardDesk) -> str:
    with desk.floor.database.reading() as connection:
        return connection.execute(select(cash_outs.c.state)).scalar_one()


def test_a_refund_goes_back_once_and_is_counted(desk: CardDesk) -> None:
    payment = desk.buy(desk.floor.add_guest(0))
    desk.ask_refund(payment, 700)
    assert _left(desk, payment.id) == 1300, "what is on its way is not there any more"
    assert desk.make_refunds() == 1
    assert desk.make_refunds() == 0
    assert _given_back(desk) == [("done", 700)]
    assert desk.tell_all() == [WebhookOutcome.KNOWN_ALREADY]
    [row] = desk.refund_rows(payment)
    assert (row.state, row.next_try_at) == ("done", None)
    assert desk.row(payment).refunded_in_cents == 700
    assert _left(desk, payment.id) == 1300
    [audit] = desk.floor.audit(action="card_refund")
    assert (audit.outcome, audit.subject) == ("done", str(row.refund_id))


def test_a_webhook_may_end_it_first(desk: CardDesk) -> None:
    payment = desk.buy(desk.floor.add_guest(0))
    desk.ask_refund(payment, 2000)
    desk.provider.lost = {"refund"}
    with pytest.raises(ProviderUnreachableError):
        desk.make_refunds()
    assert desk.tell_all() == [WebhookOutcome.REFUND_ENDED]
    assert desk.state(payment) is PaymentState.REFUNDED
    desk.provider.lost = set()
    desk.floor.pass_time(days=1)
    assert desk.make_refunds() == 0
    assert _given_back(desk) == [("done", 2000)]


def test_a_refund_of_another_amount_than_was_asked_is_not_believed(desk: CardDesk) -> None:
    payment = desk.buy(desk.floor.add_guest(0))
    refund_id = desk.ask_refund(payment, 700)
    told = desk.event(
        payment,
        EventKind.REFUND_DONE,
        amount=eur(900),
        about="re_1",
        refund_id=str(refund_id),
    )
    assert code_of(desk.tell(told)) == "amount_differs"
    assert desk.row(payment).refunded_in_cents == 0


@pytest.mark.parametrize("fate", ["down", "lost"])
def test_a_refund_whose_answer_is_missing_is_asked_again_under_its_key(
    desk: CardDesk, fate: str
) -> None:
    payment = desk.buy(desk.floor.add_guest(0))
    desk.ask_refund(payment, 700)
    setattr(desk.provider, fate, {"refund"})
    for _ in range(3):
        with pytest.raises(ProviderUnreachableError):
            desk.make_refunds()
        assert desk.make_refunds() == 0, "not again at once"
        desk.floor.pass_time(hours=1)
    setattr(desk.provider, fate, set[str]())
    desk.forget_webhooks()
    assert desk.make_refunds() == 1
    assert _given_back(desk) == [("done", 700)]
    assert desk.row(payment).refunded_in_cents == 700


def test_killed_between_the_provider_and_the_commit_it_gives_back_once(
    desk: CardDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = desk.buy(desk.floor.add_guest(0))
    desk.ask_refund(payment, 700)
    desk.forget_webhooks()

    def die(*_: object) -> None:
        raise SystemExit("killed")

    with monkeypatch.context() as patched:
        patched.setattr(making, "end_card_refund", die)
        with pytest.raises(SystemExit):
            desk.make_refunds()
    assert _given_back(desk) == [("done", 700)]
    assert desk.refund_rows(payment)[0].state == "asked"
    desk.forget_webhooks()
    desk.floor.pass_time(minutes=1)
    assert desk.make_refunds() == 1
    assert _given_back(desk) == [("done", 700)]
    assert desk.row(payment).refunded_in_cents == 700


def test_couriers_that_lose_their_power_at_the_provider_give_back_once(
    floor: Floor, tmp_path: Path
) -> None:
    books = tmp_path / "books.sqlite"
    desk = CardDesk(floor, books)
    payment = desk.buy(desk.floor.add_guest(0))
    desk.ask_refund(payment, 700)
    url = desk.floor.database.url.render_as_string(hide_password=False)
    program = [sys.executable, "-m", "tests.cloud.operations.card_courier_that_dies"]
    for _ in range(2):
        ended = subprocess.run(
            [*program, url, str(books), desk.floor.now().isoformat()],
            check=False,
            timeout=60,
            cwd=Path(__file__).parents[3],
        )
        assert ended.returncode == -signal.SIGKILL
        assert desk.refund_rows(payment)[0].state == "asked"
        desk.floor.pass_time(hours=1)
    assert desk.make_refunds() == 1
    assert _given_back(desk) == [("done", 700)]
    assert desk.row(payment).refunded_in_cents == 700
    assert desk.tell_all() == [WebhookOutcome.KNOWN_ALREADY]


def test_many_couriers_at_once_give_back_once(desk: CardDesk) -> None:
    payment = desk.buy(desk.floor.add_guest(0))
    for cents in (100, 200, 300):
        desk.ask_refund(payment, cents, order_id=uuid7())
    with ThreadPoolExecutor(8) as pool:
        rounds = [pool.submit(desk.make_refunds) for _ in range(8)]
        made = sum(each.result() for each in rounds)
    assert made == 3
    assert sorted(_given_back(desk)) == [("done", 100), ("done", 200), ("done", 300)]
    assert desk.row(payment).refunded_in_cents == 600


def test_webhooks_and_couriers_at_once_end_it_once(desk: CardDesk) -> None:
    payment = desk.buy(desk.floor.add_guest(0))
    desk.ask_refund(payment, 700)
    desk.provider.lost = {"refund"}
    with pytest.raises(ProviderUnreachableError):
        desk.make_refunds()
    desk.provider.lost = set()
    [done] = desk.untold()
    desk.floor.pass_time(minutes=1)
    with ThreadPoolExecutor(8) as pool:
        told = [pool.submit(desk.tell, done) for _ in range(4)]
        made = [pool.submit(desk.make_refunds) for _ in range(4)]
        outcomes = [each.result() for each in told]
        for each in made:
            each.result()
    assert outcomes.count(WebhookOutcome.REFUND_ENDED) <= 1
    assert desk.row(payment).refunded_in_cents == 700
    assert _given_back(desk) == [("done", 700)]


def test_a_refund_that_takes_a_while_ends_when_it_is_looked_up(desk: CardDesk) -> None:
    payment = desk.buy(desk.floor.add_guest(0), card=REFUNDS_WAIT_CARD)
    desk.ask_refund(payment, 700)
    desk.make_refunds()
    [row] = desk.refund_rows(payment)
    assert row.state == "pending"
    assert row.next_try_at > desk.floor.now()
    assert desk.row(payment).refunded_in_cents == 0
    assert _left(desk, payment.id) == 1300
    desk.floor.pass_time(minutes=2)
    assert desk.make_refunds() == 1
    assert desk.provider.asked[-1] == "look_up_refund"
    assert desk.refund_rows(payment)[0].state == "done"
    assert desk.tell_all() == [WebhookOutcome.KNOWN_ALREADY]
    assert desk.row(payment).refunded_in_cents == 700


def test_an_orders_refund_that_fails_for_good_becomes_credits_once(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.buy(guest, card=REFUNDS_FAIL_CARD)
    desk.ask_refund(payment, 700, RefundReason.CLOSED_ORDER)
    desk.make_refunds()
    [row] = desk.refund_rows(payment)
    assert (row.state, row.next_try_at) == ("failed", None)
    assert desk.tell_all() == [WebhookOutcome.KNOWN_ALREADY]
    assert desk.kinds(guest)[-1] == ("Adjustment", "in", 700)
    assert desk.floor.balance(guest) == 2700
    assert desk.row(payment).refunded_in_cents == 0


def test_an_orders_refund_that_failed_because_it_went_back_by_hand_gives_nothing_more(
    desk: CardDesk,
) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.buy(guest)
    desk.ask_refund(payment, 2000, RefundReason.CLOSED_ORDER)
    desk.books.refund_by_hand(str(payment.reference), eur(2000))
    assert desk.tell_all() == [WebhookOutcome.TAKEN_BACK]
    desk.make_refunds()
    assert desk.refund_rows(payment)[0].state == "failed"
    assert desk.floor.balance(guest) == 0
    assert desk.row(payment).refunded_in_cents == 2000


def test_a_refund_that_the_cards_bank_sent_back_becomes_credits_once(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    payment = desk.buy(guest)
    desk.ask_refund(payment, 2000)
    desk.make_refunds()
    desk.tell_all()
    assert desk.state(payment) is PaymentState.REFUNDED
    [row] = desk.refund_rows(payment)
    desk.books.fail_refund(row.provider_reference)
    [failed] = desk.untold()
    assert [desk.tell(failed), desk.tell(failed)] == [
        WebhookOutcome.PUT_BACK,
        WebhookOutcome.KNOWN_ALREADY,
    ]
    late = desk.event(
        payment, EventKind.REFUND_DONE, about=row.provider_reference, refund_id=str(row.refund_id)
    )
    assert desk.tell(late) is WebhookOutcome.KNOWN_ALREADY, "what failed stays failed"
    assert desk.floor.balance(guest) == 4000
    assert desk.row(payment).refunded_in_cents == 0
    assert desk.state(payment) is PaymentState.SUCCEEDED


def test_no_more_is_asked_back_than_is_there(desk: CardDesk) -> None:
    payment = desk.buy(desk.floor.add_guest(0))
    desk.ask_refund(payment, 1500)
    with pytest.raises(AssertionError, match="more than paid"):
        desk.ask_refund(payment, 501)
    desk.tell(desk.event(payment, EventKind.DISPUTED, about="dp_1", amount=eur(400)))
    assert _left(desk, payment.id) == 100


def test_a_cash_out_ends_with_its_refunds(desk: CardDesk) -> None:
    guest = desk.floor.add_guest(0)
    first, _ = desk.buy(guest, 1000), desk.buy(guest, 500, REFUNDS_FAIL_CARD)
    _cash_out(desk, guest)
    assert desk.floor.balance(guest) == 0
    assert desk.make_refunds() == 2
    assert _cash_out_state(desk) == "paid"
    assert desk.floor.balance(guest) == 500, "what failed for good is back"
    assert set(desk.tell_all()) == {WebhookOutcome.KNOWN_ALREADY}
    # Long after the end, the first card's bank sends its part back.
    desk.books.fail_refund(desk.refund_rows(first)[0].provider_reference)
    assert desk.tell_all() == [WebhookOutcome.PUT_BACK]
    assert desk.floor.balance(guest) == 1500


def test_a_part_that_comes_back_before_the_cash_out_ended_is_given_back_once(
    desk: CardDesk,
) -> None:
    guest = desk.floor.add_guest(0)
    first, _ = desk.buy(guest, 1000), desk.buy(guest, 500, REFUNDS_WAIT_CARD)
    _cash_out(desk, guest)
    desk.make_refunds()
    desk.books.fail_refund(desk.refund_rows(first)[0].provider_reference)
    desk.tell_all()
    assert desk.floor.balance(guest) == 0, "the other part is still under way"
    desk.floor.pass_time(minutes=5)
    desk.make_refunds()
    desk.tell_all()
    assert desk.floor.balance(guest) == 1000
    assert _cash_out_state(desk) == "paid"
