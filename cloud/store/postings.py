"""Writes postings and the wallets they add up to: in one transaction, under the wallets' locks."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Connection,
    Executable,
    String,
    Uuid,
    bindparam,
    update,
)
from sqlalchemy.sql.selectable import FromClause

from cloud.ledger.postings import Posting, Wallet
from cloud.store.locks import WalletKey
from cloud.store.rows import BatchStatement, insert_rows
from cloud.store.tables import UtcTime, credit_transactions, credit_wallets


def write_postings(
    connection: Connection,
    postings: Sequence[Posting],
    before: Mapping[WalletKey, Wallet],
    after: Mapping[WalletKey, Wallet],
    now: datetime,
) -> None:
    """The postings, and each wallet they changed once, with its last balance.

    `before` is what `lock_wallets` returned: a wallet missing there is inserted. Raises
    sqlalchemy.exc.IntegrityError where someone else inserted it meanwhile, or where a posting
    breaks one of the ledger's unique rules.
    """
    if not postings:
        return
    insert_rows(connection, credit_transactions, _COLUMNS, [_row(each) for each in postings])
    touched = {(each.user_id, each.amount.currency) for each in postings}
    changed = [_wallet_row(key, after[key]) for key in touched if key in before]
    _UPDATE_WALLETS.write(connection, changed, updated_at=now)
    insert_rows(
        connection,
        credit_wallets,
        ("user_id", "currency", "balance_in_cents", "offline_frozen", "updated_at"),
        [(*_wallet_row(key, after[key]), now) for key in touched if key not in before],
    )


def _wallet_row(key: WalletKey, wallet: Wallet) -> tuple[str, str, int, bool]:
    user_id, currency = key
    return user_id, currency, wallet.balance.amount_in_cents, wallet.offline_frozen


def _row(posting: Posting) -> tuple[Any, ...]:
    return (
        posting.user_id,
        posting.id,
        posting.type.value,
        posting.direction.value,
        posting.amount.amount_in_cents,
        posting.amount.currency,
        posting.reference,
        posting.idempotency_key,
        posting.correlation_id,
        posting.created_at,
        posting.created_by,
        posting.reversal_of,
        posting.event_id,
        posting.stall_id,
        posting.device_id,
        posting.staff_id,
        posting.order_id,
        msgspec.to_builtins(posting.lines) if posting.lines else None,
        posting.accepted_offline_at,
    )


_COLUMNS: Final = (
    "user_id",
    "id",
    "type",
    "direction",
    "amount_in_cents",
    "currency",
    "reference",
    "idempotency_key",
    "correlation_id",
    "created_at",
    "created_by",
    "reversal_of_transaction_id",
    "event_id",
    "stall_id",
    "device_id",
    "staff_id",
    "order_id",
    "lines",
    "accepted_offline_at",
)


def _update_wallets(wanted: FromClause) -> Executable:
    return (
        update(credit_wallets)
        .where(
            credit_wallets.c.user_id == wanted.c.user_id,
            credit_wallets.c.currency == wanted.c.currency,
        )
        .values(
            balance_in_cents=wanted.c.balance_in_cents,
            offline_frozen=wanted.c.offline_frozen,
            updated_at=bindparam("updated_at", type_=UtcTime),
        )
    )


_UPDATE_WALLETS: Final = BatchStatement(
    {
        "user_id": Uuid(),
        "currency": String(3),
        "balance_in_cents": BigInteger(),
        "offline_frozen": Boolean(),
    },
    _update_wallets,
)
