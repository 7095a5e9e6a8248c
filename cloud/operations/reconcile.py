"""Whether every balance is the sum of its wallet's transactions: read only, in one snapshot."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Select, Table, Uuid, case, func, join, select, text

from cloud.ledger.postings import Direction, TransactionType
from cloud.store.database import Database
from cloud.store.tables import credit_transactions, credit_wallets


@dataclass(frozen=True, slots=True)
class Difference:
    """A wallet whose balance is not what its transactions add up to."""

    user_id: UUID
    currency: str
    balance_in_cents: int
    sum_in_cents: int


@dataclass(frozen=True, slots=True)
class Reconciliation:
    wallets: int
    transactions: int
    sales: int
    """Deducts that no later transaction reversed, in whole or in part."""
    differences: tuple[Difference, ...]

    @property
    def is_balanced(self) -> bool:
        return not self.differences


def reconcile(database: Database) -> Reconciliation:
    """Compare them all: a wallet without transactions is to hold 0, and no wallet holds 0."""
    with database.reading() as connection:
        if database.dialect == "postgresql":
            # Sales meanwhile: all that follows sees one moment (SQLite readers always do).
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        wallets = _count(connection, credit_wallets)
        transactions = _count(connection, credit_transactions)
        sales = connection.execute(_standing_sales()).scalar_one()
        wrong = connection.execute(_differences()).all()
    return Reconciliation(
        wallets,
        transactions,
        sales,
        tuple(
            Difference(row.user_id, row.currency, row.balance_in_cents, int(row.posted))
            for row in wrong
        ),
    )


def _differences() -> Select[*tuple[Any, ...]]:
    signed = case(
        (
            credit_transactions.c.direction == Direction.IN.value,
            credit_transactions.c.amount_in_cents,
        ),
        else_=-credit_transactions.c.amount_in_cents,
    )
    sums = (
        select(
            credit_transactions.c.user_id,
            credit_transactions.c.currency,
            func.sum(signed).label("posted"),
        )
        .group_by(credit_transactions.c.user_id, credit_transactions.c.currency)
        .subquery()
    )
    same_wallet = (sums.c.user_id == credit_wallets.c.user_id) & (
        sums.c.currency == credit_wallets.c.currency
    )
    balance = func.coalesce(credit_wallets.c.balance_in_cents, 0)
    posted = func.coalesce(sums.c.posted, 0)
    user_id = func.coalesce(credit_wallets.c.user_id, sums.c.user_id, type_=Uuid())
    return (
        select(
            user_id.label("user_id"),
            func.coalesce(credit_wallets.c.currency, sums.c.currency).label("currency"),
            balance.label("balance_in_cents"),
            posted.label("posted"),
        )
        .select_from(join(credit_wallets, sums, same_wallet, full=True))
        .where(balance != posted)
        .order_by(user_id)
    )


def _standing_sales() -> Select[*tuple[Any, ...]]:
    reversal = credit_transactions.alias("reversal")
    is_reversed = (
        select(reversal.c.id)
        .where(
            reversal.c.user_id == credit_transactions.c.user_id,
            reversal.c.reversal_of_transaction_id == credit_transactions.c.id,
        )
        .exists()
    )
    return (
        select(func.count())
        .select_from(credit_transactions)
        .where(credit_transactions.c.type == TransactionType.DEDUCT.value, ~is_reversed)
    )


def _count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()
