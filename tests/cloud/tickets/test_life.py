from collections import Counter
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.tickets.life import Deed, Happening, Impossible, OrderState, OrderStep, place, step

MAY_FOLLOW = {
    OrderState.OPEN: {OrderState.OPEN, OrderState.CLOSING, OrderState.PAID, OrderState.CLOSED},
    OrderState.CLOSING: {OrderState.CLOSING, OrderState.PAID, OrderState.CLOSED},
    OrderState.PAID: {OrderState.PAID, OrderState.CANCELLED},
    OrderState.CLOSED: {OrderState.CLOSED},
    OrderState.CANCELLED: {OrderState.CANCELLED},
}


@pytest.mark.parametrize(("state", "happening"), list(product(OrderState, Happening)))
def test_no_state_is_left_for_one_that_lies_behind_it(
    state: OrderState, happening: Happening
) -> None:
    taken = step(state, happening)
    if isinstance(taken, OrderStep):
        assert taken.state in MAY_FOLLOW[state]


@pytest.mark.parametrize("state", [OrderState.OPEN, OrderState.CLOSING])
def test_a_card_that_pays_before_the_provider_let_go_gets_the_tickets(state: OrderState) -> None:
    taken = step(state, Happening.CARD_PAID)
    assert taken == OrderStep(OrderState.PAID, frozenset({Deed.ISSUE_TICKETS}))


@pytest.mark.parametrize("happening", [Happening.TIME_UP, Happening.CANCEL_ASKED])
def test_nothing_comes_back_before_the_provider_confirms(happening: Happening) -> None:
    for state in (OrderState.OPEN, OrderState.CLOSING):
        taken = step(state, happening)
        assert taken == OrderStep(OrderState.CLOSING, frozenset({Deed.EXPIRE_CHECKOUT}))


def test_a_success_for_a_closed_order_goes_back_to_the_card_and_it_stays_closed() -> None:
    taken = step(OrderState.CLOSED, Happening.CARD_PAID)
    assert taken == OrderStep(OrderState.CLOSED, frozenset({Deed.GIVE_CARD_BACK}))


def test_a_paid_order_is_not_the_attendees_to_cancel_and_an_unpaid_one_not_to_refund() -> None:
    assert step(OrderState.PAID, Happening.CANCEL_ASKED) is Impossible.PAID_ALREADY
    for state in (OrderState.OPEN, OrderState.CLOSING, OrderState.CLOSED):
        assert step(state, Happening.REFUND_ASKED) is Impossible.NOT_PAID


def test_an_order_without_a_card_part_is_paid_at_once() -> None:
    assert place(needs_card=True) == OrderStep(OrderState.OPEN)
    assert place(needs_card=False) == OrderStep(OrderState.PAID, frozenset({Deed.ISSUE_TICKETS}))


@given(needs_card=st.booleans(), happenings=st.lists(st.sampled_from(Happening), max_size=12))
def test_whatever_happens_each_thing_is_done_once(
    needs_card: bool, happenings: list[Happening]
) -> None:
    placed = place(needs_card=needs_card)
    state, done = placed.state, Counter(placed.deeds)
    for happening in happenings:
        taken = step(state, happening)
        if isinstance(taken, OrderStep):
            state = taken.state
            done.update(taken.deeds)
    for deed in (Deed.ISSUE_TICKETS, Deed.RELEASE_STOCK, Deed.VOID_TICKETS):
        assert done[deed] <= 1
    assert done[Deed.GIVE_CREDITS_BACK] == done[Deed.RELEASE_STOCK]
    # Held or sold as long as it is alive, and no longer.
    assert bool(done[Deed.RELEASE_STOCK]) == (state in {OrderState.CLOSED, OrderState.CANCELLED})
    assert bool(done[Deed.ISSUE_TICKETS]) == (state in {OrderState.PAID, OrderState.CANCELLED})
