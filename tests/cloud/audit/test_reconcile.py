from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, insert, select, update
from uuid_utils.compat import uuid7

from cloud.ledger.postings import post, purchase
from cloud.operations.proof.reconcile import reconcile
from cloud.store.locks import lock_wallets
from cloud.store.postings import freeze_wallet, write_postings
from cloud.store.tables import (
    cash_outs,
    credit_transactions,
    credit_wallets,
    orders,
    outcomes,
    payments,
)
from protocol.ids import CorrelationId, IdempotencyKey, TransactionId, UserId
from tests.cloud.audit.log import Log
from tests.cloud.floor import EVENT, Guest, eur


def rules(log: Log) -> list[str]:
    return [each.rule for each in reconcile(log.floor.database).discrepancies]


@pytest.fixture
def guest(log: Log) -> Guest:
    """Who paid 20.00 in and bought for 3.50, and cancelled another sale."""
    till, guest = log.floor.add_till(), log.floor.add_guest(paid=True)
    log.sell(till, guest)
    sale = till.deduct(log.floor.qr(guest))
    log.floor.ask(till, sale)
    log.floor.ask(till, till.cancel(sale))
    return guest


def test_books_that_add_up_are_sound(log: Log, guest: Guest) -> None:
    found = reconcile(log.floor.database)
    assert (found.is_sound, found.wallets, found.transactions, found.sales) == (True, 1, 4, 1)
    [total] = found.totals
    assert (total.in_cents, total.out_cents, total.balances_in_cents) == (2350, 700, 1650)


def test_a_debt_freezes_a_wallet_on_the_record(log: Log, guest: Guest) -> None:
    till = log.floor.add_till("till-2")
    sale = till.deduct(log.floor.qr(guest), 1000)
    for each in (till.deduct(log.floor.qr(guest), 1000), sale):
        log.floor.ask(till, till.accept_offline(each))
    assert log.floor.balance(guest) < 0
    [record] = log.floor.audit(action="wallet_frozen")
    assert (str(record.user_id), record.subject) == (guest.user_id, "EUR")
    assert reconcile(log.floor.database).is_sound

    log.floor.ask(till, till.cancel(sale))
    assert reconcile(log.floor.database).is_sound


def test_a_person_freezes_and_releases_a_wallet_on_the_record(log: Log, guest: Guest) -> None:
    key = UserId(guest.user_id), "EUR"
    for frozen in (True, True, False):
        with log.floor.database.transaction() as connection:
            wallet = lock_wallets(connection, [key])[key]
            freeze_wallet(connection, wallet, frozen, actor="finance:eve", now=log.floor.now())
        assert reconcile(log.floor.database).is_sound
    actions = [each.action for each in log.floor.audit(actor="finance:eve")]
    assert actions == ["wallet_frozen", "wallet_released"]


def test_a_posting_that_comes_late_leaves_the_newest_time(log: Log, guest: Guest) -> None:
    key = UserId(guest.user_id), "EUR"
    late = purchase(
        transaction_id=TransactionId(str(uuid7())),
        user_id=key[0],
        amount=eur(500),
        provider_reference="ch_1",
        idempotency_key=IdempotencyKey("k" * 16),
        correlation_id=CorrelationId("c" * 16),
        at=log.floor.now() - timedelta(seconds=3),
        created_by="system:test",
    )
    with log.floor.database.transaction() as connection:
        before = lock_wallets(connection, [key])
        write_postings(connection, [late], before, {key: post(before[key], late)}, log.floor.now())
    assert rules(log) == ["purchase_without_payment"]


def of(guest: Guest) -> Any:
    return credit_transactions.c.user_id == UUID(guest.user_id)


def deduct_id(connection: Connection, guest: Guest) -> UUID:
    statement = select(credit_transactions.c.id).where(
        of(guest), credit_transactions.c.type == "Deduct"
    )
    return connection.execute(statement.order_by(credit_transactions.c.id).limit(1)).scalar_one()


def order(guest: Guest, log: Log, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "order_id": uuid7(),
        "user_id": UUID(guest.user_id),
        "event_id": EVENT,
        "state": "paid",
        "currency": "EUR",
        "total_in_cents": 350,
        "credits_in_cents": 350,
        "card_in_cents": 0,
        "idempotency_key": "o" * 16,
        "correlation_id": "c" * 16,
        "created_at": log.floor.now(),
    }
    return insert(orders).values(**(values | changes))


def cash_out(guest: Guest, log: Log, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "cash_out_id": uuid7(),
        "user_id": UUID(guest.user_id),
        "currency": "EUR",
        "amount_in_cents": 1650,
        "state": "paid",
        "idempotency_key": "o" * 16,
        "created_at": log.floor.now(),
        "waits_until": log.floor.now(),
    }
    return insert(cash_outs).values(**(values | changes))


BREACHES = {
    "payment failed": "purchase_without_payment",
    "payment of less": "purchase_without_payment",
    "payment of nothing": "payment_without_purchase",
    "payment of a sale": "payment_without_purchase",
    "refund of more": "reversed_too_much",
    "refund that is none": "strange_reversal",
    "order for nothing": "order_without_deduct",
    "order of a sale": "order_without_deduct",
    "closed order": "order_not_given_back",
    "cash-out of nothing": "cash_out_without_deduct",
    "cash-out of a sale": "cash_out_without_deduct",
    "answer": "unknown_transaction",
    "frozen": "wallet_frozen",
}


def breach(name: str, connection: Connection, guest: Guest, log: Log) -> Any:
    sale = deduct_id(connection, guest)
    refunds = update(credit_transactions).where(credit_transactions.c.type == "Refund")
    return {
        "payment failed": update(payments).values(state="failed"),
        "payment of less": update(payments).values(amount_in_cents=1),
        "payment of nothing": update(payments).values(transaction_id=None),
        "payment of a sale": update(payments).values(transaction_id=sale),
        "refund of more": refunds.values(amount_in_cents=351),
        "refund that is none": refunds.values(type="Adjustment"),
        "order for nothing": order(guest, log),
        "order of a sale": order(guest, log, transaction_id=sale),
        "closed order": order(guest, log, transaction_id=sale, state="closed"),
        "cash-out of nothing": cash_out(guest, log),
        "cash-out of a sale": cash_out(guest, log, transaction_id=sale),
        "answer": update(outcomes).values(transaction_id=uuid7()),
        "frozen": update(credit_wallets).values(offline_frozen=True),
    }[name]


@pytest.mark.parametrize("name", BREACHES)
def test_what_breaks_a_rule_is_named(log: Log, guest: Guest, name: str) -> None:
    with log.superuser() as connection:
        connection.execute(breach(name, connection, guest, log))
    found = reconcile(log.floor.database)
    assert BREACHES[name] in [each.rule for each in found.discrepancies]
    assert not found.is_sound


def test_money_from_nowhere_breaks_conservation(log: Log, guest: Guest) -> None:
    with log.superuser() as connection:
        connection.execute(update(credit_wallets).values(balance_in_cents=1651))
    found = reconcile(log.floor.database)
    assert not found.is_balanced
    [total] = found.totals
    assert not total.is_conserved
    assert [str(each.user_id) for each in found.differences] == [guest.user_id]
