"""Writes postings and the wallets they add up to: in one transaction, under the wallets' locks."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Connection,
    Executable,
    String,
    Uuid,
    case,
    update,
)
from sqlalchemy.sql.selectable import FromClause
from sqlalchemy.types import TypeEngine

from cloud.ledger.postings import Posting, Wallet
from cloud.store.deny_list import keep_denied
from cloud.store.locks import WalletKey
from cloud.store.records import AuditRow, await_tree, write_audit_records
from cloud.store.rows import BatchStatement, insert_rows
from cloud.store.tables import UtcTime, credit_transactions, credit_wallets

LEDGER: Final = "system:ledger"
WALLET_FROZEN: Final = "wallet_frozen"
WALLET_RELEASED: Final = "wallet_released"


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

    What a wallet's row says follows from what was written down elsewhere, so `reconcile` can tell
    whether anyone else wrote there: the time is its newest transaction's, and a wallet frozen or
    released (here or by `freeze_wallet`) leaves a record, and its payer goes on the deny list of
    its currency, or off it.
    """
    if not postings:
        return
    insert_rows(connection, credit_transactions, _COLUMNS, [_row(each) for each in postings])
    await_tree(connection, transactions=[(each.user_id, each.id) for each in postings])
    newest: dict[WalletKey, datetime] = {}
    for each in postings:
        key = each.user_id, each.amount.currency
        newest[key] = max(each.created_at, newest.get(key, each.created_at))
    rows = {key: _wallet_row(key, after[key], at) for key, at in newest.items()}
    _UPDATE_WALLETS.write(connection, [row for key, row in rows.items() if key in before])
    insert_rows(
        connection,
        credit_wallets,
        tuple(_WALLET_COLUMNS),
        [row for key, row in rows.items() if key not in before],
    )
    frozen = {
        key: after[key].offline_frozen
        for key in newest
        if after[key].offline_frozen is not (key in before and before[key].offline_frozen)
    }
    write_audit_records(
        connection, [_frozen_record(key, now_so, LEDGER, now) for key, now_so in frozen.items()]
    )
    keep_denied(connection, frozen)


def freeze_wallet(
    connection: Connection, wallet: Wallet, frozen: bool, *, actor: str, now: datetime
) -> None:
    """No offline allowance from now on, or allowance again; the wallet is locked and has a row.

    A freeze that comes with a posting needs no call: `write_postings` sees it in `after`.
    """
    if wallet.offline_frozen is frozen:
        return
    key = wallet.user_id, wallet.balance.currency
    connection.execute(
        update(credit_wallets)
        .where(
            credit_wallets.c.user_id == UUID(wallet.user_id),
            credit_wallets.c.currency == wallet.balance.currency,
        )
        .values(offline_frozen=frozen)
    )
    write_audit_records(connection, [_frozen_record(key, frozen, actor, now)])
    keep_denied(connection, {key: frozen})


def _frozen_record(key: WalletKey, frozen: bool, actor: str, now: datetime) -> AuditRow:
    user_id, currency = key
    action = WALLET_FROZEN if frozen else WALLET_RELEASED
    return AuditRow(
        at=now, actor=actor, action=action, outcome="done", user_id=user_id, subject=currency
    )


def _wallet_row(
    key: WalletKey, wallet: Wallet, at: datetime
) -> tuple[str, str, int, bool, datetime]:
    user_id, currency = key
    return user_id, currency, wallet.balance.amount_in_cents, wallet.offline_frozen, at


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
            # What came first may be posted last: the newest time stays.
            updated_at=case(
                (credit_wallets.c.updated_at > wanted.c.updated_at, credit_wallets.c.updated_at),
                else_=wanted.c.updated_at,
            ),
        )
    )


_WALLET_COLUMNS: Final[dict[str, TypeEngine[Any]]] = {
    "user_id": Uuid(),
    "currency": String(3),
    "balance_in_cents": BigInteger(),
    "offline_frozen": Boolean(),
    "updated_at": UtcTime(),
}
_UPDATE_WALLETS: Final = BatchStatement(_WALLET_COLUMNS, _update_wallets)
