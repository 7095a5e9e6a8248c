"""The deny list in SQL: changed where a wallet is frozen or released, read for heartbeats."""

import secrets
from collections.abc import Mapping
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Connection,
    Executable,
    Integer,
    String,
    Uuid,
    exists,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.sql.selectable import FromClause

from cloud.ledger.deny_list import TAGS, DeniedChange, ListState
from cloud.store.locks import WalletKey
from cloud.store.rows import BatchStatement
from cloud.store.tables import denied_wallets, deny_lists, users
from protocol.outcomes import DENIED_CHANGES_MAX


def keep_denied(connection: Connection, changed: Mapping[WalletKey, bool]) -> None:
    """Wallets that are frozen (True) or released from now on; they are locked, and nothing else
    is locked after this.

    A list's row is held until the commit, so its serials commit in their order. A sale that leaves
    its wallet as it was never comes here.
    """
    for currency in sorted({currency for _, currency in changed}):
        users_changed = sorted(user_id for user_id, of in changed if of == currency)
        _BEGIN.write(connection, [(currency, 1 + secrets.randbelow(TAGS - 1))])
        _RAISE.write(connection, [(currency, len(users_changed))])
        rows = [
            (currency, user_id, changed[user_id, currency], back)
            for back, user_id in enumerate(reversed(users_changed))
        ]
        _CHANGE.write(connection, rows)
        _ADD.write(connection, rows)


def read_list_states(connection: Connection) -> dict[str, ListState]:
    """Where each currency's list stands; a currency without one is absent."""
    return {
        row.currency: ListState(row.tag, row.serial)
        for row in connection.execute(select(deny_lists))
    }


def read_denied_changes(
    connection: Connection, currency: str, state: ListState, held: int
) -> list[DeniedChange]:
    """Those after `held`, oldest first; one more than a reply takes, where there are as many.

    None after the state's own serial: what is told is what its version says.
    """
    wanted = (
        select(denied_wallets.c.serial, denied_wallets.c.is_denied, users.c.payer_id)
        .join(users, users.c.user_id == denied_wallets.c.user_id)
        .where(
            denied_wallets.c.currency == currency,
            denied_wallets.c.serial > held,
            denied_wallets.c.serial <= state.serial,
        )
        .order_by(denied_wallets.c.serial)
        .limit(DENIED_CHANGES_MAX + 1)
    )
    if held == 0:
        wanted = wanted.where(denied_wallets.c.is_denied)
    return [
        DeniedChange(row.serial, row.payer_id, row.is_denied) for row in connection.execute(wanted)
    ]


def begin_lists_anew(connection: Connection) -> None:
    """After a restore: what a till has read may be of changes that are lost, so it reads again."""
    currencies = select(deny_lists.c.currency).order_by(deny_lists.c.currency)
    for currency in connection.execute(currencies).scalars().all():
        connection.execute(
            update(deny_lists)
            .where(deny_lists.c.currency == currency)
            # Never the same again.
            .values(tag=(deny_lists.c.tag + secrets.randbelow(TAGS - 2)) % (TAGS - 1) + 1)
        )


def _begin(wanted: FromClause) -> Executable:
    is_there = exists().where(deny_lists.c.currency == wanted.c.currency)
    return insert(deny_lists).from_select(
        ["currency", "tag", "serial"],
        select(wanted.c.currency, wanted.c.tag, literal_column("0", BigInteger())).where(~is_there),
    )


def _raise(wanted: FromClause) -> Executable:
    return (
        update(deny_lists)
        .where(deny_lists.c.currency == wanted.c.currency)
        .values(serial=deny_lists.c.serial + wanted.c.changes)
    )


def _change(wanted: FromClause) -> Executable:
    newest = (
        select(deny_lists.c.serial)
        .where(deny_lists.c.currency == denied_wallets.c.currency)
        .correlate(denied_wallets)
        .scalar_subquery()
    )
    return (
        update(denied_wallets)
        .where(
            denied_wallets.c.currency == wanted.c.currency,
            denied_wallets.c.user_id == wanted.c.user_id,
        )
        .values(serial=newest - wanted.c.back, is_denied=wanted.c.is_denied)
    )


def _add(wanted: FromClause) -> Executable:
    is_there = exists().where(
        denied_wallets.c.currency == wanted.c.currency,
        denied_wallets.c.user_id == wanted.c.user_id,
    )
    return insert(denied_wallets).from_select(
        ["currency", "user_id", "is_denied", "serial"],
        select(
            wanted.c.currency,
            wanted.c.user_id,
            wanted.c.is_denied,
            deny_lists.c.serial - wanted.c.back,
        )
        .select_from(wanted)
        .join(deny_lists, deny_lists.c.currency == wanted.c.currency)
        .where(~is_there),
    )


_ROW: Final = {
    "currency": String(3),
    "user_id": Uuid(),
    "is_denied": Boolean(),
    "back": BigInteger(),
}
_BEGIN: Final = BatchStatement({"currency": String(3), "tag": Integer()}, _begin)
_RAISE: Final = BatchStatement({"currency": String(3), "changes": Integer()}, _raise)
_CHANGE: Final = BatchStatement(_ROW, _change)
_ADD: Final = BatchStatement(_ROW, _add)
