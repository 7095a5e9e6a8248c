"""One sale at a stall: found by its own name or its transaction, and what is left of it."""

from typing import Any
from uuid import UUID

from msgspec.structs import replace
from sqlalchemy import Connection, Row, func, select

from cloud.ledger.facts import DeviceKey, KeyState, PostedSale
from cloud.store.gathering import posted_sale
from cloud.store.tables import credit_transactions, outcomes
from protocol.ids import DeviceId, IdempotencyKey, TransactionId

_SOLD = (KeyState.APPROVED, KeyState.POSTED_OFFLINE, KeyState.CANCELLED)


def find_sale(connection: Connection, key: DeviceKey) -> PostedSale | None:
    """The sale under this key, as it was sold; what is left counts only under its wallet's lock."""
    device_id, idempotency_key = key
    row = connection.execute(
        select(credit_transactions)
        .join(
            outcomes,
            (credit_transactions.c.user_id == outcomes.c.user_id)
            & (credit_transactions.c.id == outcomes.c.transaction_id),
        )
        .where(
            outcomes.c.device_id == device_id,
            outcomes.c.key == idempotency_key,
            outcomes.c.state.in_([state.value for state in _SOLD]),
        )
    ).one_or_none()
    return None if row is None else posted_sale(row)


def read_what_is_left(connection: Connection, sale: PostedSale) -> PostedSale:
    """The sale with what of it is not given back; its wallet is locked, so that this stands."""
    given_back = connection.execute(
        select(func.coalesce(func.sum(credit_transactions.c.amount_in_cents), 0)).where(
            credit_transactions.c.user_id == UUID(sale.user_id),
            credit_transactions.c.reversal_of_transaction_id == UUID(sale.transaction_id),
        )
    ).scalar_one()
    return replace(sale, left_in_cents=sale.amount.amount_in_cents - int(given_back))


def correlation_of(connection: Connection, sale: PostedSale) -> str:
    """The one that runs from the keypad through whatever becomes of a sale."""
    row = _find_transaction(connection, sale.user_id, sale.transaction_id)
    assert row is not None, "a sale's row is never deleted"
    return row.correlation_id


def name_of(connection: Connection, sale: PostedSale) -> DeviceKey | None:
    """The key that it was sold under, where an appliance sold it."""
    row = _find_transaction(connection, sale.user_id, sale.transaction_id)
    if row is None or row.device_id is None:
        return None
    return DeviceId(row.device_id), IdempotencyKey(row.idempotency_key)


def read_sale(
    connection: Connection, user_id: str, transaction_id: TransactionId
) -> PostedSale | None:
    """A sale at a stall by its transaction; an order's, or a cash-out's, is none."""
    row = _find_transaction(connection, user_id, transaction_id)
    if row is None or row.type != "Deduct" or row.stall_id is None or row.order_id is not None:
        return None
    return posted_sale(row)


def _find_transaction(
    connection: Connection, user_id: str, transaction_id: str
) -> Row[*tuple[Any, ...]] | None:
    return connection.execute(
        select(credit_transactions).where(
            credit_transactions.c.user_id == UUID(user_id),
            credit_transactions.c.id == UUID(transaction_id),
        )
    ).one_or_none()
