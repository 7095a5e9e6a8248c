"""The one way to lock, and its one order: an event, then appliances, then wallets; each sorted.

Whoever writes an appliance's outcomes, sessions, status, certificates or place holds its lock;
whoever writes a wallet's transactions or balance holds that wallet's row. So what is read under
the locks stands until the commit, and no two writers wait for each other in a circle. On SQLite
the database has one writer (BEGIN IMMEDIATE), and nothing is left to lock.
"""

import hashlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

from sqlalchemy import (
    BigInteger,
    Connection,
    Executable,
    String,
    Uuid,
    func,
    select,
)
from sqlalchemy.sql.selectable import FromClause

from cloud.ledger.postings import Wallet
from cloud.store.rows import BatchStatement, uuid_text
from cloud.store.tables import credit_wallets
from protocol.ids import DeviceId, EventId, UserId
from protocol.money import Money

WalletKey = tuple[UserId, str]
"""A user and a currency."""


def lock_event(connection: Connection, event_id: EventId, *, to_change: bool = True) -> None:
    """Wait for whoever changes this event's document, and hold it until the commit; before
    anything else. Also one that is not there yet: two may be creating it.

    Not `to_change`: with others, for an appliance that comes to the event. Whoever changes it then
    sees that appliance, or is seen by it: no policy keeps the prices of before.
    """
    if connection.dialect.name == "sqlite":
        return
    take = func.pg_advisory_xact_lock if to_change else func.pg_advisory_xact_lock_shared
    connection.execute(select(take(_number(f"railtix event {event_id}"))))


def lock_claims(connection: Connection) -> None:
    """Wait for whoever makes a claim: a name is given to one of them."""
    if connection.dialect.name == "sqlite":
        return
    connection.execute(select(func.pg_advisory_xact_lock(_number("railtix claims"))))


def lock_releases(connection: Connection) -> None:
    """Wait for whoever changes which image is announced; before any appliance."""
    if connection.dialect.name == "sqlite":
        return
    connection.execute(select(func.pg_advisory_xact_lock(_number("railtix releases"))))


def lock_devices(
    connection: Connection, device_ids: Iterable[DeviceId], *, key: str | None = None
) -> None:
    """Wait for these appliances and hold them until the commit; first thing in a transaction.

    `key`: the public key (SubjectPublicKeyInfo, base64url) that one of them is about to be known
    by: two appliances that come with one key take turns too.

    A lock is taken by number, not by row: a batch and a revocation exclude each other without
    either writing a row that others read.
    """
    if connection.dialect.name == "sqlite":
        return
    # `unnest` keeps the order of its array, and the locks are taken row by row.
    numbers = {_lock_number(device_id) for device_id in device_ids}
    if key is not None:
        numbers.add(_number(f"railtix key {key}"))
    _LOCK_DEVICES.ask(connection, [(number,) for number in sorted(numbers)])


def lock_wallets(connection: Connection, keys: Iterable[WalletKey]) -> dict[WalletKey, Wallet]:
    """These wallets as they stand, held until the commit; one that has no row yet is absent."""
    return ask_wallets(connection, keys)()


def ask_wallets(
    connection: Connection, keys: Iterable[WalletKey]
) -> Callable[[], dict[WalletKey, Wallet]]:
    """`lock_wallets` within `rows.in_one_go`."""
    answer = _LOCK_WALLETS.ask(connection, list(set(keys)))

    def take() -> dict[WalletKey, Wallet]:
        wallets: dict[WalletKey, Wallet] = {}
        for row in answer():
            user_id = UserId(uuid_text(row.user_id))
            balance = Money(row.balance_in_cents, row.currency)
            wallets[user_id, row.currency] = Wallet(user_id, balance, row.offline_frozen)
        return wallets

    return take


@lru_cache(maxsize=65_536)
def _lock_number(device_id: DeviceId) -> int:
    return _number(f"railtix device {device_id}")


def _number(what: str) -> int:
    digest = hashlib.sha256(what.encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _select_wallets(wanted: FromClause) -> Executable:
    return (
        select(
            credit_wallets.c.user_id,
            credit_wallets.c.currency,
            credit_wallets.c.balance_in_cents,
            credit_wallets.c.offline_frozen,
        )
        .join(
            wanted,
            (credit_wallets.c.user_id == wanted.c.user_id)
            & (credit_wallets.c.currency == wanted.c.currency),
        )
        .order_by(credit_wallets.c.user_id, credit_wallets.c.currency)
        .with_for_update(of=credit_wallets)
    )


def _select_locks(wanted: FromClause) -> Executable:
    return select(func.pg_advisory_xact_lock(wanted.c.number))


_LOCK_DEVICES: Final = BatchStatement({"number": BigInteger()}, _select_locks)
_LOCK_WALLETS: Final = BatchStatement({"user_id": Uuid(), "currency": String(3)}, _select_wallets)
