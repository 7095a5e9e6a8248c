from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.ledger.cash_out import (
    Appliance,
    CashOutRule,
    EventRule,
    Holdings,
    NotPaidBecause,
    Part,
    Pay,
    Purchase,
    Wait,
    decide_cash_out,
    deduct_for_cash_out,
    find_objection,
    give_back,
    held_back,
    most_sold_offline,
    plan_parts,
    proof_begins,
)
from cloud.ledger.postings import TransactionType, Wallet, post
from protocol.ids import IdempotencyKey, TransactionId, UserId
from protocol.money import Money

NOW = datetime(2026, 6, 20, 18, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
PROOF = timedelta(seconds=180)


def rule(kind: CashOutRule, ends_in: timedelta | None = None, name: str = "Fair") -> EventRule:
    return EventRule(name, kind, None if ends_in is None else NOW + ends_in)


@pytest.mark.parametrize(
    ("rules", "objects"),
    [
        ([], None),
        ([rule(CashOutRule.ALWAYS)], None),
        ([rule(CashOutRule.AFTER_EVENT, -HOUR)], None),
        ([rule(CashOutRule.AFTER_EVENT, timedelta(0))], None),
        ([rule(CashOutRule.AFTER_EVENT, HOUR, "Open")], "Open"),
        ([rule(CashOutRule.AFTER_EVENT, None, "Endless")], "Endless"),
        ([rule(CashOutRule.NEVER, -HOUR, "Mean")], "Mean"),
        ([rule(CashOutRule.ALWAYS), rule(CashOutRule.NEVER, None, "Mean")], "Mean"),
        ([rule(CashOutRule.AFTER_EVENT, HOUR), rule(CashOutRule.NEVER, None, "Mean")], "Mean"),
        (
            [rule(CashOutRule.AFTER_EVENT, HOUR), rule(CashOutRule.AFTER_EVENT, 2 * HOUR, "Last")],
            "Last",
        ),
        (
            [rule(CashOutRule.AFTER_EVENT, HOUR), rule(CashOutRule.AFTER_EVENT, None, "Endless")],
            "Endless",
        ),
    ],
)
def test_one_event_that_says_no_is_enough_and_the_most_final_is_named(
    rules: list[EventRule], objects: str | None
) -> None:
    objection = find_objection(rules, NOW)
    assert (None if objection is None else objection.event_name) == objects
    if objection is not None:
        assert objection.is_final == (objects == "Mean")


def test_it_says_when_to_ask_again() -> None:
    objection = find_objection([rule(CashOutRule.AFTER_EVENT, HOUR)], NOW)
    assert objection is not None
    assert objection.until == NOW + HOUR


def test_a_proof_counts_once_no_code_with_an_allowance_is_good_anywhere() -> None:
    assert proof_begins(NOW, None) == NOW + PROOF
    assert proof_begins(NOW, NOW + HOUR) == NOW + PROOF
    assert proof_begins(NOW, NOW - HOUR) == NOW - HOUR + PROOF


@dataclass
class Case:
    """An appliance with an allowance of 500: heard this long after the request."""

    heard_after: timedelta | None
    is_queue_empty: bool = True
    now_after: timedelta = HOUR
    holds: bool = True


@pytest.mark.parametrize(
    "case",
    [
        Case(None),
        Case(-HOUR),
        Case(timedelta(0)),
        Case(PROOF - timedelta(milliseconds=1)),
        Case(PROOF, holds=False),
        Case(PROOF, is_queue_empty=False),
        Case(timedelta(minutes=59), holds=False),
        Case(timedelta(minutes=59), is_queue_empty=False),
        Case(-HOUR, now_after=timedelta(hours=24) - timedelta(seconds=1)),
        Case(-HOUR, now_after=timedelta(hours=24), holds=False),
        Case(None, is_queue_empty=False, now_after=timedelta(hours=24), holds=False),
    ],
)
def test_what_an_appliance_may_hold_stays_until_it_proved_otherwise_or_a_day_passed(
    case: Case,
) -> None:
    appliance = Appliance(
        allowance_in_cents=500,
        proves_from=proof_begins(NOW, None),
        seen_at=None if case.heard_after is None else NOW + case.heard_after,
        is_queue_empty=case.is_queue_empty,
    )
    held = held_back([appliance], waits_until=NOW + timedelta(hours=24), now=NOW + case.now_after)
    assert held == (500 if case.holds else 0)


def test_each_appliance_may_bring_its_own() -> None:
    silent = Appliance(500, NOW, None, is_queue_empty=True)
    settled = Appliance(700, NOW, NOW, is_queue_empty=True)
    assert held_back([silent, settled, silent], waits_until=NOW + HOUR, now=NOW) == 1000


@pytest.mark.parametrize(
    ("came_in", "limit", "most"), [(10_000, 2000, 2000), (2000, 2000, 500), (3, 2000, 0), (0, 9, 0)]
)
def test_no_code_allowed_more_than_a_quarter_of_all_that_ever_came_in(
    came_in: int, limit: int, most: int
) -> None:
    assert most_sold_offline(came_in, limit) == most


def holdings(balance: int, *left: int, is_frozen: bool = False) -> Holdings:
    purchases = tuple(Purchase(f"p{number}", cents) for number, cents in enumerate(left))
    return Holdings(balance, is_frozen, purchases)


@pytest.mark.parametrize(
    ("asked", "wallet", "held", "decision"),
    [
        # All of it, nothing held.
        (None, holdings(1700, 2000), 0, Pay(1700, (Part("p0", 1700),))),
        # Oldest first, each with what is left of it.
        (
            None,
            holdings(1700, 500, 0, 2000),
            0,
            Pay(1700, (Part("p0", 500), Part("p2", 1200))),
        ),
        (300, holdings(1700, 500, 2000), 0, Pay(300, (Part("p0", 300),))),
        # What did not come from a card cannot go to one.
        (None, holdings(3000, 500), 0, Pay(500, (Part("p0", 500),))),
        # Spent meanwhile: what is left decides.
        (1500, holdings(900, 2000), 0, Pay(900, (Part("p0", 900),))),
        (None, holdings(0, 2000), 0, NotPaidBecause.NOTHING_LEFT),
        (None, holdings(900), 0, NotPaidBecause.NOTHING_LEFT),
        (None, holdings(900, 0, 0), 500, NotPaidBecause.NOTHING_LEFT),
        # The hold is not touched; what is above it goes at once.
        (None, holdings(2000, 2000), 500, Wait(500)),
        (1500, holdings(2000, 2000), 500, Pay(1500, (Part("p0", 1500),))),
        (1501, holdings(2000, 2000), 500, Wait(500)),
        (None, holdings(2000, 1500), 500, Pay(1500, (Part("p0", 1500),))),
        (100, holdings(2000, 2000), 2000, Wait(2000)),
        (100, holdings(2000, 2000), 9000, Wait(9000)),
        # Its Credits may be somebody else's.
        (100, holdings(2000, 2000, is_frozen=True), 0, NotPaidBecause.WALLET_FROZEN),
        (100, holdings(-1, 2000), 0, NotPaidBecause.WALLET_FROZEN),
        (100, holdings(-1, 2000), 500, NotPaidBecause.WALLET_FROZEN),
    ],
)
def test_what_is_paid_now(
    asked: int | None, wallet: Holdings, held: int, decision: Pay | Wait | NotPaidBecause
) -> None:
    assert decide_cash_out(asked, wallet, held) == decision


CENTS = st.integers(0, 100_000)


@given(
    asked=st.none() | st.integers(1, 100_000),
    balance=st.integers(-5_000, 100_000),
    left=st.lists(CENTS, max_size=8),
    held=CENTS,
)
def test_nothing_is_paid_twice_or_from_nowhere(
    asked: int | None, balance: int, left: list[int], held: int
) -> None:
    wallet = holdings(balance, *left)
    decision = decide_cash_out(asked, wallet, held)
    if isinstance(decision, Pay):
        amounts = {part.payment_id: part.amount_in_cents for part in decision.parts}
        assert len(amounts) == len(decision.parts), "a purchase once"
        assert sum(amounts.values()) == decision.amount_in_cents > 0
        assert all(amount > 0 for amount in amounts.values())
        for each in wallet.purchases:
            assert amounts.get(each.payment_id, 0) <= each.left_in_cents
        assert decision.amount_in_cents <= balance - held
        assert asked is None or decision.amount_in_cents <= asked
        touched = [each for each in wallet.purchases if each.payment_id in amounts]
        for each in touched[:-1]:
            assert amounts[each.payment_id] == each.left_in_cents, "the oldest are used up first"
    elif isinstance(decision, Wait):
        assert held > 0
    else:
        assert balance <= 0 or sum(left) == 0


def test_more_than_was_paid_by_card_is_our_own_bug() -> None:
    with pytest.raises(AssertionError, match="more than was paid by card"):
        plan_parts(501, [Purchase("p0", 500)])


def test_what_was_refused_comes_back_and_names_what_it_reverses() -> None:
    user = UserId("u")
    taken = deduct_for_cash_out(
        transaction_id=TransactionId("t1"),
        user_id=user,
        amount=Money(900, "EUR"),
        cash_out_id="c",
        idempotency_key=IdempotencyKey("k"),
        at=NOW,
    )
    back = give_back(
        transaction_id=TransactionId("t2"),
        user_id=user,
        amount=Money(400, "EUR"),
        cash_out_id="c",
        idempotency_key=IdempotencyKey("k"),
        reversal_of=taken.id,
        at=NOW,
    )
    assert (taken.type, taken.reference, taken.created_by) == (
        TransactionType.DEDUCT,
        "c",
        "user:u",
    )
    assert (back.type, back.reversal_of, back.reference) == (TransactionType.REFUND, "t1", "c")
    wallet = Wallet(user, Money(1000, "EUR"))
    assert post(post(wallet, taken), back).balance == Money(500, "EUR")
