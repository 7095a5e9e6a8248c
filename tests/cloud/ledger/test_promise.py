"""The promise, under any sequence, duplication and batching of messages."""

from collections import Counter
from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.ledger.facts import BatchRequest, KeyState
from cloud.ledger.postings import Direction, TransactionType
from protocol.ids import DeviceId
from protocol.messages import Approved, Cancel, Cancelled, Deduct, OfflineAcceptance
from tests.cloud.ledger.world import EUR, World, cancel, deduct, offline, till, user

_SALES = st.builds(
    deduct,
    key=st.sampled_from(["key-1", "key-2", "key-3"]),
    at=st.sampled_from([0, 1]),
    payer=st.sampled_from([0, 1]),
    jti=st.sampled_from(["token-1", "token-2", "token-3"]),
    cents=st.sampled_from([350, 600, 0, 25_000]),
)
_MESSAGES = st.one_of(_SALES, _SALES.map(offline), _SALES.map(cancel))


@st.composite
def _histories(draw: st.DrawFn) -> list[list[BatchRequest]]:
    """Messages, some of them several times, late and out of order, cut into batches."""
    distinct = draw(st.lists(_MESSAGES, min_size=1, max_size=8))
    order = draw(st.lists(st.sampled_from(distinct), min_size=1, max_size=16))
    rest, batches = iter(order), list[list[BatchRequest]]()
    while batch := list(islice(rest, draw(st.integers(1, 5)))):
        batches.append(list(batch))
    return batches


def _check(world: World) -> None:
    deducts = [each for each in world.postings if each.type is TransactionType.DEDUCT]
    by_key = Counter((each.device_id, each.idempotency_key) for each in deducts)
    assert all(count == 1 for count in by_key.values()), "a key was posted twice"

    approved = Counter(
        (decision.user_id, presented.request.wallet_qr)
        for presented, decision in world.decided
        if isinstance(presented.request, Deduct)
        and isinstance(decision.answer, Approved)
        and decision.posting is not None
    )
    assert all(count == 1 for count in approved.values()), "a QR was approved online twice"

    for number in (0, 1):
        wallet = world.wallets[user(number), EUR]
        total = sum(
            each.amount.amount_in_cents * (1 if each.direction is Direction.IN else -1)
            for each in world.postings
            if each.user_id == user(number)
        )
        assert wallet.balance.amount_in_cents == total, "the balance is not the sum"
        assert total >= 0 or wallet.offline_frozen, "a debt that is not frozen"

    for sold in deducts:
        reversals = [each for each in world.postings if each.reversal_of == sold.id]
        reversed_in_cents = sum(each.amount.amount_in_cents for each in reversals)
        assert reversed_in_cents <= sold.amount.amount_in_cents, "more came back than was paid"


@settings(max_examples=80, deadline=None)
@given(history=_histories())
def test_any_history_keeps_the_promise(history: list[list[BatchRequest]]) -> None:
    world = World(1000)
    for batch in history:
        world.ask(*batch)
        _check(world)


@settings(max_examples=80, deadline=None)
@given(history=_histories())
def test_a_batch_is_decided_as_if_each_request_had_come_alone(
    history: list[list[BatchRequest]],
) -> None:
    in_batches, alone = World(1000), World(1000)
    for batch in history:
        together = in_batches.ask(*batch)
        assert [alone.ask_one(each) for each in batch] == together
    assert in_batches.wallets == alone.wallets
    assert in_batches.keys == alone.keys


@settings(max_examples=80, deadline=None)
@given(history=_histories())
def test_an_online_deduct_never_takes_a_wallet_below_zero(
    history: list[list[BatchRequest]],
) -> None:
    world = World(1000)
    for batch in history:
        world.ask(*(each for each in batch if not isinstance(each, OfflineAcceptance)))
        assert min(world.balance(0), world.balance(1)) >= 0


@settings(max_examples=80, deadline=None)
@given(history=_histories(), again=st.lists(_SALES.map(cancel), max_size=4))
def test_what_was_cancelled_last_costs_nothing_in_the_end(
    history: list[list[BatchRequest]], again: list[Cancel]
) -> None:
    world = World(1000)
    for batch in [*history, again]:
        world.ask(*batch)
    for message in again:
        known = world.keys[message.device, message.idempotency_key]
        if known.state is not KeyState.CANCELLED:
            continue
        assert isinstance(known.answer, Cancelled)
        sold = [
            each
            for each in world.postings
            if each.type is TransactionType.DEDUCT
            and (each.device_id, each.idempotency_key) == (message.device, message.idempotency_key)
        ]
        back = [each for each in world.postings if sold and each.reversal_of == sold[0].id]
        assert [each.amount for each in sold] == [each.amount for each in back]


@settings(max_examples=80, deadline=None)
@given(history=_histories(), revoked=st.sampled_from([0, 1]))
def test_from_its_revocation_on_nothing_of_an_appliance_is_posted(
    history: list[list[BatchRequest]], revoked: int
) -> None:
    world = World(1000)
    gone: DeviceId = till(revoked)
    for at, batch in enumerate(history):
        if at == len(history) // 2:
            world.revoked.add(gone)
        before = len(world.postings)
        world.ask(*batch)
        if gone in world.revoked:
            assert all(each.device_id != gone for each in world.postings[before:])
    _check(world)
