import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from cloud.ledger.lockout import locked_until
from cloud.ledger.postings import (
    Direction,
    Posting,
    TransactionType,
    Wallet,
    post,
    purchase,
)
from cloud.ledger.receipts import short_code
from protocol.ids import CorrelationId, IdempotencyKey, TransactionId, UserId
from protocol.money import Money
from tests.cloud.ledger.world import NOW

ANA = UserId("ana")


def bought(cents: int) -> Posting:
    return purchase(
        transaction_id=TransactionId("0192f0c4-0000-7000-8000-000000000001"),
        user_id=ANA,
        amount=Money(cents, "EUR"),
        provider_reference="ch_1",
        idempotency_key=IdempotencyKey("k" * 16),
        correlation_id=CorrelationId("c" * 16),
        at=NOW,
        created_by="system:test",
    )


def sold(cents: int) -> Posting:
    return replace(bought(cents), type=TransactionType.DEDUCT, direction=Direction.OUT)


def test_a_wallet_that_owes_is_frozen_until_a_top_up_pays_the_debt() -> None:
    wallet = post(Wallet.empty(ANA, "EUR"), sold(300))
    assert wallet == Wallet(ANA, Money(-300, "EUR"), offline_frozen=True)
    wallet = post(wallet, bought(200))
    assert wallet == Wallet(ANA, Money(-100, "EUR"), offline_frozen=True)
    wallet = post(wallet, bought(100))
    assert wallet == Wallet(ANA, Money(0, "EUR"), offline_frozen=False)


def test_a_wallet_that_a_person_froze_stays_frozen_whatever_is_posted() -> None:
    frozen = Wallet(ANA, Money(1000, "EUR"), offline_frozen=True)
    assert post(frozen, sold(100)).offline_frozen
    assert post(frozen, bought(100)).offline_frozen


def test_a_posting_has_the_direction_of_its_type_and_an_amount() -> None:
    with pytest.raises(AssertionError, match="a Purchase goes in"):
        replace(bought(1), direction=Direction.OUT)
    with pytest.raises(AssertionError, match="a posting of nothing"):
        bought(0)
    adjusted = replace(bought(5), type=TransactionType.ADJUSTMENT, direction=Direction.OUT)
    assert adjusted.signed_amount == Money(-5, "EUR")
    with pytest.raises(AssertionError, match="another's wallet"):
        post(Wallet.empty(UserId("ben"), "EUR"), adjusted)


@given(st.uuids(), st.uuids())
def test_a_receipts_code_is_short_and_tells_transactions_apart(one: object, other: object) -> None:
    codes = {short_code(TransactionId(str(each))) for each in (one, other)}
    assert all(len(code) == 9 and code[4] == "-" and code.isascii() for code in codes)
    if str(one)[-10:] != str(other)[-10:]:
        assert len(codes) == 2


def test_wrong_pins_wait_twice_as_long_each_time_up_to_an_hour() -> None:
    waits = [
        None if until is None else (until - NOW).total_seconds()
        for until in (locked_until(failures, NOW) for failures in (0, 4, 5, 6, 7, 11, 12, 999))
    ]
    assert waits == [None, None, 30, 60, 120, 1920, 3600, 3600]
