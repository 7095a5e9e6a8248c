"""docs/rules.md's table of keys and outcomes, cell by cell, on both databases, without the wire."""

from protocol.messages import (
    Approved,
    Cancelled,
    Declined,
    PostedOffline,
    Reason,
    UnderReview,
)
from tests.cloud.floor import Floor, eur


def test_a_sale_is_deducted_and_answers_with_the_new_balance(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    answer = floor.ask_one(till, till.deduct(floor.qr(guest), 350))
    assert isinstance(answer, Approved)
    assert (answer.amount, answer.balance) == (eur(350), eur(1650))
    assert floor.balance(guest) == 1650


def test_the_same_deduct_again_is_the_same_answer_and_no_second_posting(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = till.deduct(floor.qr(guest))
    first = floor.ask_one(till, sale)
    assert floor.ask_one(till, sale) == first
    assert floor.ask(till, sale, sale) == [first, first]
    assert len(floor.deducts(guest)) == 1


def test_the_same_key_with_other_content_is_refused(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = till.deduct(floor.qr(guest), 350)
    floor.ask(till, sale)
    other = till.deduct(sale.wallet_qr, 400, key=sale.key)
    assert floor.ask_one(till, other) == Declined(Reason.KEY_REUSED)
    assert floor.balance(guest) == 1650


def test_a_declined_sale_stays_declined_under_its_key(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(100)
    sale = till.deduct(floor.qr(guest), 350)
    declined = Declined(Reason.INSUFFICIENT_FUNDS, eur(100))
    assert floor.ask_one(till, sale) == declined
    assert floor.ask_one(till, sale) == declined
    other = till.deduct(floor.qr(guest), 50, key=sale.key)
    assert floor.ask_one(till, other) == Declined(Reason.KEY_REUSED)
    assert floor.deducts(guest) == []


def test_a_cancel_before_its_sale_keeps_the_sale_away_for_ever(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = till.deduct(floor.qr(guest))
    assert floor.ask_one(till, till.cancel(sale)) == Cancelled(None)
    assert floor.ask_one(till, sale) == Cancelled(None)
    other = till.deduct(floor.qr(guest), 10, key=sale.key)
    assert floor.ask_one(till, other) == Cancelled(None)
    assert floor.deducts(guest) == []


def test_a_cancel_reverses_an_approved_sale_once(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = till.deduct(floor.qr(guest), 350)
    approved = floor.ask_one(till, sale)
    assert floor.ask_one(till, till.cancel(sale)) == Cancelled(eur(350))
    assert floor.ask_one(till, till.cancel(sale)) == Cancelled(eur(350))
    assert floor.ask_one(till, sale) == Cancelled(eur(350))
    assert floor.balance(guest) == 2000
    refund = floor.transactions(guest)[-1]
    assert (refund.type, str(refund.reversal_of_transaction_id)) == (
        "Refund",
        approved.transaction_id,
    )


def test_a_cancel_of_a_declined_sale_is_cancelled_and_gives_nothing_back(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(100)
    sale = till.deduct(floor.qr(guest), 350)
    floor.ask(till, sale)
    assert floor.ask_one(till, till.cancel(sale)) == Cancelled(None)
    assert floor.ask_one(till, sale) == Cancelled(None)
    assert floor.balance(guest) == 100


def test_a_cancel_reverses_what_was_posted_offline(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = till.deduct(floor.qr(guest), 350)
    assert isinstance(floor.ask_one(till, till.accept_offline(sale)), PostedOffline)
    assert floor.ask_one(till, till.cancel(sale)) == Cancelled(eur(350))
    assert floor.balance(guest) == 2000


def test_an_unseen_offline_sale_is_posted_once_whatever_comes_again(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = till.deduct(floor.qr(guest), 350)
    upload = till.accept_offline(sale)
    posted = floor.ask_one(till, upload)
    assert isinstance(posted, PostedOffline)
    assert (posted.short_in_cents, posted.token_seen_before) == (0, False)
    assert floor.ask(till, upload, sale, upload) == [posted] * 3
    other = till.deduct(sale.wallet_qr, 400, key=sale.key)
    assert floor.ask_one(till, other) == Declined(Reason.KEY_REUSED)
    assert floor.balance(guest) == 1650


def test_an_offline_sale_that_finds_too_little_is_posted_in_full_and_flagged(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(100)
    posted = floor.ask_one(till, till.accept_offline(till.deduct(floor.qr(guest), 350)))
    assert isinstance(posted, PostedOffline)
    assert posted.short_in_cents == 250
    assert floor.balance(guest) == -250
    [record] = floor.audit(action="offline_acceptance")
    assert record.detail == {"flags": ["short"]}


def test_a_guest_without_a_wallet_owes_what_was_sold_offline(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(0)
    posted = floor.ask_one(till, till.accept_offline(till.deduct(floor.qr(guest), 350)))
    assert isinstance(posted, PostedOffline)
    assert posted.short_in_cents == 350
    assert floor.balance(guest) == -350


def test_an_offline_acceptance_of_an_approved_sale_is_that_sale(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = till.deduct(floor.qr(guest))
    approved = floor.ask_one(till, sale)
    assert floor.ask_one(till, till.accept_offline(sale)) == approved
    assert len(floor.deducts(guest)) == 1


def test_an_offline_acceptance_of_a_declined_sale_is_posted_and_flagged(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(100)
    sale = till.deduct(floor.qr(guest), 350)
    floor.ask(till, sale)
    posted = floor.ask_one(till, till.accept_offline(sale))
    assert isinstance(posted, PostedOffline)
    assert floor.balance(guest) == -250
    [record] = floor.audit(action="offline_acceptance")
    assert record.detail == {"flags": ["declined_before", "short"]}
    assert floor.ask_one(till, sale) == posted


def test_an_offline_acceptance_of_a_cancelled_sale_goes_to_review(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = till.deduct(floor.qr(guest))
    floor.ask(till, till.cancel(sale))
    answer = floor.ask_one(till, till.accept_offline(sale))
    assert isinstance(answer, UnderReview)
    assert floor.ask_one(till, till.accept_offline(sale)) == answer
    [entry] = floor.reviews()
    assert (str(entry.review_id), entry.reason, entry.state) == (
        answer.review_id,
        "cancelled_before",
        "open",
    )
    assert floor.deducts(guest) == []


def test_an_offline_acceptance_with_other_content_goes_to_review(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = till.deduct(floor.qr(guest), 350)
    floor.ask(till, sale)
    other = till.accept_offline(till.deduct(sale.wallet_qr, 400, key=sale.key))
    assert isinstance(floor.ask_one(till, other), UnderReview)
    assert [entry.reason for entry in floor.reviews()] == ["key_reused"]
    assert floor.balance(guest) == 1650


def test_two_appliances_may_use_the_same_key_for_different_sales(floor: Floor) -> None:
    one, other = floor.add_till("till-1"), floor.add_till("till-2")
    guest = floor.add_guest(2000)
    sale = one.deduct(floor.qr(guest), 350)
    again = other.deduct(floor.qr(guest), 350, key=sale.key)
    assert isinstance(floor.ask_one(one, sale), Approved)
    assert isinstance(floor.ask_one(other, again), Approved)
    assert floor.balance(guest) == 1300


def test_a_whole_life_in_one_batch_is_decided_as_if_each_had_come_alone(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(700)
    first, second = till.deduct(floor.qr(guest), 500), till.deduct(floor.qr(guest), 500)
    third = till.deduct(floor.qr(guest), 600)
    answers = floor.ask(
        till, first, second, till.cancel(first), third, second, till.cancel(second), first
    )
    assert isinstance(answers[0], Approved)
    assert answers[1] == Declined(Reason.INSUFFICIENT_FUNDS, eur(200))
    assert answers[2] == Cancelled(eur(500))
    assert isinstance(answers[3], Approved)
    assert answers[4] == answers[1]
    assert answers[5:] == [Cancelled(None), Cancelled(eur(500))]
    assert floor.balance(guest) == 100
