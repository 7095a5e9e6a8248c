"""Cells and corners of the decision that need no database."""

from msgspec.structs import replace

from cloud.ledger.facts import KeyState, KnownKey
from protocol.ids import DeviceId, IdempotencyKey
from protocol.messages import (
    Approved,
    Cancelled,
    Declined,
    PostedOffline,
    Reason,
    UnderReview,
)
from protocol.money import Money
from tests.cloud.ledger.world import EUR, NOW, World, cancel, deduct, offline, till


def test_a_cancel_gives_back_what_a_refund_left_of_the_sale() -> None:
    world = World(1000)
    sale = deduct(cents=350)
    approved = world.ask_one(sale)
    world.refund(approved.transaction_id, 100)
    assert world.ask_one(cancel(sale)) == Cancelled(Money(250, EUR))
    assert world.balance(0) == 1000


def test_a_cancel_of_a_sale_refunded_in_full_gives_nothing_back() -> None:
    world = World(1000)
    sale = deduct(cents=350)
    world.refund(world.ask_one(sale).transaction_id, 350)
    assert world.ask_one(cancel(sale)) == Cancelled(None)
    assert world.ask_one(sale) == Cancelled(None)
    assert world.balance(0) == 1000


def test_a_key_that_signed_somebody_in_sells_nothing() -> None:
    world = World()
    sale = deduct()
    device_key = (DeviceId(sale.device_id), IdempotencyKey(sale.key))
    answered = Declined(Reason.PIN_WRONG)
    world.keys[device_key] = KnownKey(KeyState.ANSWERED, None, answered)
    assert world.ask_one(sale) == Declined(Reason.KEY_REUSED)
    assert world.ask_one(cancel(sale)) == Declined(Reason.KEY_REUSED)
    assert isinstance(world.ask_one(offline(sale)), UnderReview)


def test_what_a_person_judges_is_not_decided_beside_them() -> None:
    world = World()
    world.revoked.add(till(0))
    sale = deduct()
    [first, again, late_cancel, late_deduct] = world.ask(
        offline(sale), offline(sale), cancel(sale), sale
    )
    assert isinstance(first, UnderReview)
    assert [again, late_cancel, late_deduct] == [first] * 3
    assert world.ask_one(deduct(cents=1)) == Declined(Reason.KEY_REUSED)
    other = world.ask_one(offline(deduct(cents=1)))
    assert other == first


def test_a_cancel_that_waits_for_a_person_is_not_carried_out_by_a_later_one() -> None:
    world = World()
    sale = deduct()
    assert isinstance(world.ask_one(sale), Approved)
    world.revoked.add(till(0))
    waiting = world.ask_one(cancel(sale))
    assert isinstance(waiting, UnderReview)
    world.revoked.clear()
    assert world.ask_one(cancel(sale)) == waiting
    assert world.ask_one(offline(deduct(cents=1))) == waiting
    assert world.balance(0) == 650


def test_a_declined_sale_whose_upload_is_refused_is_declined_and_under_review() -> None:
    world = World(100)
    sale = deduct()
    declined = world.ask_one(sale)
    world.rules = replace(world.rules, allowed=False)
    waiting = world.ask_one(offline(sale))
    assert isinstance(waiting, UnderReview)
    assert world.ask(sale, offline(sale), cancel(sale)) == [declined, waiting, waiting]


def test_offline_limits_are_those_of_the_recorded_policy() -> None:
    world = World(5000)
    world.rules = replace(world.rules, sale_max_in_cents=300)
    assert isinstance(world.ask_one(offline(deduct(cents=301))), UnderReview)
    assert isinstance(world.ask_one(offline(deduct(key="key-2", cents=300))), PostedOffline)


def test_an_offline_sale_says_when_it_was_accepted_and_an_online_one_does_not() -> None:
    world = World(5000)
    late = replace(offline(deduct(key="key-2")), accepted_at_ms=2**50)
    world.ask(offline(deduct()), late, deduct(key="key-3", jti="token-3"))
    accepted = [each.accepted_offline_at for each in world.postings[-3:]]
    # A clock that is ahead by whatever it likes: the sale was accepted before it arrived.
    assert accepted == [NOW, NOW, None]
