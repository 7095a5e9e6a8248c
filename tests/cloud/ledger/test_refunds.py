"""Refunds decided without a database: every rule by its name, and no history that breaks one."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from cloud.ledger.approvals import is_same_person
from cloud.ledger.decisions import ApprovalCause
from cloud.ledger.facts import ApprovalState, BatchRequest, RefundTerms
from cloud.ledger.postings import Direction, TransactionType
from cloud.ledger.reversals import reversal
from cloud.ledger.shifts import Sold, add_up
from protocol.ids import CorrelationId, IdempotencyKey, StallId, TransactionId
from protocol.messages import (
    SHIFT_PRODUCTS_MAX,
    Approved,
    Cancelled,
    Declined,
    ProductSold,
    Reason,
    Refunded,
    SaleLine,
    UnderReview,
)
from protocol.money import Money
from tests.cloud.ledger.world import EUR, NOW, World, cancel, deduct, offline, refund, till


def sold(cents: int = 350, **how: Any) -> tuple[World, Any]:
    world, sale = World(20_000), deduct(cents=cents, **how)
    assert isinstance(world.ask_one(sale), Approved)
    return world, sale


def declines(world: World, asked: BatchRequest, reason: Reason) -> None:
    before = list(world.postings)
    assert world.ask_one(asked) == Declined(reason)
    assert world.postings == before


def test_a_refund_names_its_sale_and_says_what_is_left() -> None:
    world, sale = sold(350)
    asked = refund(sale, 100)
    first = world.ask_one(asked)
    assert isinstance(first, Refunded)
    assert (first.amount, first.left_in_cents) == (Money(100, EUR), 250)
    assert first.balance == Money(19_750, EUR)
    assert world.ask_one(asked) == first
    rest = world.ask_one(refund(sale, key="refund-2"))
    assert (rest.amount, rest.left_in_cents) == (Money(250, EUR), 0)
    declines(world, refund(sale, key="refund-3"), Reason.NOTHING_LEFT)
    assert world.balance(0) == 20_000


def test_a_refunds_key_is_never_cancelled_and_sells_nothing() -> None:
    world, sale = sold()
    world.ask(refund(sale, 100))
    declines(world, refund(sale, 200), Reason.KEY_REUSED)
    declines(world, deduct(key="refund-1", jti="token-2"), Reason.KEY_REUSED)
    declines(world, cancel(deduct(key="refund-1")), Reason.KEY_REUSED)
    declines(world, refund(sale, key="key-1"), Reason.KEY_REUSED)
    assert isinstance(world.ask_one(offline(deduct(key="refund-1", jti="t-3"))), UnderReview)


def test_each_refusal_has_its_name() -> None:
    world, sale = sold()
    declines(world, refund(deduct(key="key-9"), key="r-1"), Reason.SALE_UNKNOWN)
    declines(world, refund(sale, 351, key="r-2"), Reason.OVER_WHAT_IS_LEFT)
    declines(world, refund(sale, 0, key="r-3"), Reason.AMOUNT_NOT_POSITIVE)
    swiss = refund(sale, key="r-4", amount=Money(1, "CHF"))
    declines(world, swiss, Reason.WRONG_CURRENCY)
    world.under_review.add((sale.device, sale.idempotency_key))
    declines(world, refund(sale, key="r-5"), Reason.SALE_UNDER_REVIEW)
    world.under_review.clear()
    world.policy_stall = StallId("grill")
    declines(world, refund(sale, key="r-6"), Reason.POLICY_UNKNOWN)
    world.session_changes = {"stall_id": "grill"}
    declines(world, refund(sale, key="r-7"), Reason.DEVICE_ELSEWHERE)
    world.place = (world.place[0], StallId("grill"))
    declines(world, refund(sale, key="r-8", stall_id="grill"), Reason.SALE_ELSEWHERE)
    world.revoked.add(till(0))
    declines(world, refund(sale, key="r-9"), Reason.DEVICE_REVOKED)


def test_a_sale_that_this_batch_sends_to_review_is_not_refunded() -> None:
    world, sale = sold()
    world.revoked.add(till(0))
    answers = world.ask(cancel(sale), refund(sale, at=1))
    assert isinstance(answers[0], UnderReview)
    assert answers[1] == Declined(Reason.SALE_UNDER_REVIEW)


def test_what_needs_a_supervisor_is_asked_once() -> None:
    world, sale = sold(5000)
    asked = [refund(sale, key=f"r-{number}") for number in range(3)]
    assert world.ask(*asked[:2]) == [Declined(Reason.APPROVAL_NEEDED)] * 2
    declines(world, asked[2], Reason.APPROVAL_NEEDED)
    [wanted] = [each.wanted for _, each in world.decided if each.wanted is not None]
    assert (wanted.cause, wanted.amount) == (ApprovalCause.OVER_STAFF_LIMIT, Money(5000, EUR))
    declines(world, refund(sale, 2001, key="r-4"), Reason.APPROVAL_NEEDED)
    assert len(world.waiting) == 2


def test_after_the_window_a_supervisor_is_asked_and_after_the_deadline_nobody() -> None:
    world, sale = sold()
    world.now = NOW + timedelta(minutes=30)
    assert isinstance(world.ask_one(refund(sale, 1)), Refunded)
    world.now = NOW + timedelta(minutes=30, seconds=1)
    declines(world, refund(sale, key="r-2"), Reason.APPROVAL_NEEDED)
    for terms in (
        RefundTerms(60, 2000, world.now - timedelta(seconds=1), None),
        RefundTerms(60, 2000, None, NOW - timedelta(days=14)),
    ):
        world.terms = terms
        declines(world, refund(sale, key=f"r-{id(terms)}"), Reason.REFUND_DEADLINE_PASSED)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": ApprovalState.USED}, Reason.APPROVAL_USED),
        ({"state": ApprovalState.WAITING}, Reason.APPROVAL_UNKNOWN),
        ({"state": ApprovalState.REFUSED}, Reason.APPROVAL_UNKNOWN),
        ({"expires_at": NOW}, Reason.APPROVAL_EXPIRED),
        ({"expires_at": None}, Reason.APPROVAL_EXPIRED),
        ({"decided_by": "staff:mia"}, Reason.SAME_PERSON),
        ({"decided_by": None}, Reason.SAME_PERSON),
        ({"device_id": till(1)}, Reason.APPROVAL_UNKNOWN),
        ({"sale_transaction_id": TransactionId("another")}, Reason.APPROVAL_UNKNOWN),
        ({"amount": Money(4999, EUR)}, Reason.APPROVAL_UNKNOWN),
    ],
)
def test_an_approval_that_is_not_for_this_is_refused_by_name(
    changes: dict[str, Any], reason: Reason
) -> None:
    world, sale = sold(5000)
    approval_id = world.approve(sale, 5000, **changes)
    declines(world, refund(sale, approval_id=approval_id), reason)


def test_an_approval_counts_once() -> None:
    world, sale = sold(9000)
    by: dict[str, Any] = {"approval_id": world.approve(sale, 3000)}
    answers = world.ask(refund(sale, 3000, **by), refund(sale, 3000, key="r-2", **by))
    assert isinstance(answers[0], Refunded)
    assert answers[1] == Declined(Reason.APPROVAL_USED)
    declines(world, refund(sale, 3000, key="r-3", **by), Reason.APPROVAL_USED)
    declines(world, refund(sale, 3000, key="r-4", approval_id="a" * 16), Reason.APPROVAL_UNKNOWN)


def test_the_same_person_is_the_same_under_another_hat() -> None:
    assert is_same_person("staff:ana", "finance:ana")
    assert not is_same_person("staff:ana", "staff:anna")


def test_more_than_is_left_is_a_bug_and_no_posting() -> None:
    world, sale = sold(100)
    known = world.keys[sale.device, sale.idempotency_key]
    assert known.sale is not None
    with pytest.raises(AssertionError, match="more than is left"):
        reversal(
            known.sale,
            Money(101, EUR),
            transaction_id=TransactionId("t"),
            idempotency_key=IdempotencyKey("k" * 16),
            correlation_id=CorrelationId("c" * 16),
            at=NOW,
            created_by="staff:mia",
            device_id=None,
            staff_id=None,
        )


@given(st.data())
def test_no_history_of_refunds_and_cancels_gives_back_more_than_was_paid(
    data: st.DataObject,
) -> None:
    world = World(20_000)
    world.terms = replace(world.terms, staff_limit_in_cents=700)
    sales = [deduct(key=f"key-{number}", jti=f"token-{number}", cents=1000) for number in (1, 2)]
    amounts = st.none() | st.integers(-1, 1100)
    refunds = st.builds(
        refund,
        st.sampled_from(sales),
        amounts,
        key=st.sampled_from(["refund-1", "refund-2", "refund-3", "refund-4"]),
        at=st.integers(0, 1),
    )
    cancels = st.sampled_from([cancel(each) for each in sales])
    history = data.draw(
        st.lists(
            st.lists(st.one_of(st.sampled_from(sales), refunds, cancels), min_size=1, max_size=6),
            max_size=5,
        )
    )
    for batch in history:
        world.ask(*batch)
    for posted in world.postings:
        if posted.type is TransactionType.DEDUCT:
            back = sum(
                each.amount.amount_in_cents
                for each in world.postings
                if each.reversal_of == posted.id
            )
            assert back <= posted.amount.amount_in_cents
    total = sum(
        each.signed_amount.amount_in_cents
        for each in world.postings
        if each.user_id == world.postings[0].user_id
    )
    assert world.balance(0) == total


def test_a_cancel_after_a_part_was_given_back_reverses_the_rest_alone() -> None:
    world, sale = sold(350)
    answers = world.ask(refund(sale, 100), cancel(sale), refund(sale, key="r-2"))
    assert answers[1] == Cancelled(Money(250, EUR))
    assert answers[2] == Declined(Reason.NOTHING_LEFT)
    assert world.postings[-1].direction is Direction.IN


def test_a_shift_adds_up_and_its_products_are_those_that_stayed_sold() -> None:
    sales = [
        Sold(800, 100, (SaleLine(1, 2, 350), SaleLine(7, 1, 100)), was_offline=False),
        Sold(350, 350, (SaleLine(1, 1, 350),), was_offline=False),
        Sold(700, 0, (SaleLine(1, 2, 350),), was_offline=True),
    ]
    report = add_up(EUR, NOW, sales, [100, 350])
    assert (report.sales, report.sales_in_cents) == (3, 1850)
    assert (report.offline, report.offline_in_cents) == (1, 700)
    assert (report.refunds, report.refunds_in_cents, report.net_in_cents) == (2, 450, 1400)
    assert report.products == (ProductSold(1, 4, 1400), ProductSold(7, 1, 100))


def test_a_shift_with_more_products_than_fit_names_those_with_the_most_money() -> None:
    lines = tuple(SaleLine(number, 1, number) for number in range(1, SHIFT_PRODUCTS_MAX + 3))
    products = add_up(EUR, NOW, [Sold(1, 0, lines, was_offline=False)], []).products
    assert [each.product for each in products] == list(range(3, SHIFT_PRODUCTS_MAX + 3))
