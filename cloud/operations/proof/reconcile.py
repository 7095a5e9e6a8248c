"""Whether the books add up: every balance, the whole event, and every paper that names a
transaction; read only, in one snapshot."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, Select, Table, Uuid, case, func, join, select

from cloud.ledger.postings import Direction, TransactionType
from cloud.operations.proof.reconcile_papers import paper_discrepancies
from cloud.store.database import Database
from cloud.store.postings import WALLET_FROZEN, WALLET_RELEASED
from cloud.store.tables import audit_records, credit_transactions, credit_wallets


@dataclass(frozen=True, slots=True)
class Difference:
    """A wallet whose balance is not what its transactions add up to."""

    user_id: UUID
    currency: str
    balance_in_cents: int
    sum_in_cents: int


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Something else that does not fit: which rule, what it is about, and what is wrong."""

    rule: str
    subject: str
    detail: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.detail}"


@dataclass(frozen=True, slots=True)
class CurrencyTotals:
    """What came in, less what went out, is what is in the wallets."""

    currency: str
    in_cents: int
    out_cents: int
    balances_in_cents: int

    @property
    def is_conserved(self) -> bool:
        return self.in_cents - self.out_cents == self.balances_in_cents


@dataclass(frozen=True, slots=True)
class Reconciliation:
    wallets: int
    transactions: int
    sales: int
    """Deducts that no later transaction reversed, in whole or in part."""
    differences: tuple[Difference, ...]
    totals: tuple[CurrencyTotals, ...]
    discrepancies: tuple[Discrepancy, ...]

    @property
    def is_balanced(self) -> bool:
        """Every balance is its sum, and so is the event's."""
        return not self.differences and all(each.is_conserved for each in self.totals)

    @property
    def is_sound(self) -> bool:
        """Balanced, and nothing else is amiss."""
        return self.is_balanced and not self.discrepancies


def reconcile(database: Database) -> Reconciliation:
    """Compare them all: a wallet without transactions is to hold 0, and no wallet holds 0."""
    with database.one_moment() as connection:
        return Reconciliation(
            wallets=_count(connection, credit_wallets),
            transactions=_count(connection, credit_transactions),
            sales=connection.execute(_standing_sales()).scalar_one(),
            differences=tuple(
                Difference(row.user_id, row.currency, row.balance_in_cents, int(row.posted))
                for row in connection.execute(_differences())
            ),
            totals=_totals(connection),
            discrepancies=(
                *_wallet_discrepancies(connection),
                *(Discrepancy(*each) for each in paper_discrepancies(connection)),
            ),
        )


def _signed() -> Any:
    return case(
        (
            credit_transactions.c.direction == Direction.IN.value,
            credit_transactions.c.amount_in_cents,
        ),
        else_=-credit_transactions.c.amount_in_cents,
    )


def _sums() -> Any:
    """Of each wallet's transactions, and when the newest was made."""
    return (
        select(
            credit_transactions.c.user_id,
            credit_transactions.c.currency,
            func.sum(_signed()).label("posted"),
            func.max(credit_transactions.c.created_at).label("newest_at"),
        )
        .group_by(credit_transactions.c.user_id, credit_transactions.c.currency)
        .subquery()
    )


def _differences() -> Select[*tuple[Any, ...]]:
    sums = _sums()
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


def _totals(connection: Connection) -> tuple[CurrencyTotals, ...]:
    balances = {
        row.currency: int(row.total)
        for row in connection.execute(
            select(
                credit_wallets.c.currency,
                func.sum(credit_wallets.c.balance_in_cents).label("total"),
            ).group_by(credit_wallets.c.currency)
        )
    }
    moved: dict[str, dict[str, int]] = {currency: {} for currency in balances}
    for row in connection.execute(
        select(
            credit_transactions.c.currency,
            credit_transactions.c.direction,
            func.sum(credit_transactions.c.amount_in_cents).label("total"),
        ).group_by(credit_transactions.c.currency, credit_transactions.c.direction)
    ):
        moved.setdefault(row.currency, {})[row.direction] = int(row.total)
    return tuple(
        CurrencyTotals(
            currency,
            moved[currency].get(Direction.IN.value, 0),
            moved[currency].get(Direction.OUT.value, 0),
            balances.get(currency, 0),
        )
        for currency in sorted(moved)
    )


def _wallet_discrepancies(connection: Connection) -> Iterator[Discrepancy]:
    """What else a wallet's row says follows from its transactions and from the audit log."""
    sums = _sums()
    changes = (
        select(
            audit_records.c.user_id,
            audit_records.c.subject,
            func.sum(case((audit_records.c.action == WALLET_FROZEN, 1), else_=-1)).label("frozen"),
        )
        .where(audit_records.c.action.in_((WALLET_FROZEN, WALLET_RELEASED)))
        .group_by(audit_records.c.user_id, audit_records.c.subject)
        .subquery()
    )
    rows = connection.execute(
        select(
            credit_wallets,
            sums.c.newest_at,
            func.coalesce(changes.c.frozen, 0).label("frozen"),
        )
        .outerjoin(
            sums,
            (sums.c.user_id == credit_wallets.c.user_id)
            & (sums.c.currency == credit_wallets.c.currency),
        )
        .outerjoin(
            changes,
            (changes.c.user_id == credit_wallets.c.user_id)
            & (changes.c.subject == credit_wallets.c.currency),
        )
        .where(
            (credit_wallets.c.updated_at != sums.c.newest_at)
            | (
                case((credit_wallets.c.offline_frozen, 1), else_=0)
                != func.coalesce(changes.c.frozen, 0)
            )
            | ((credit_wallets.c.balance_in_cents < 0) & ~credit_wallets.c.offline_frozen)
        )
        .order_by(credit_wallets.c.user_id, credit_wallets.c.currency)
    )
    for row in rows:
        yield from _judge_wallet(row)


def _judge_wallet(row: Row[Any]) -> Iterator[Discrepancy]:
    subject = f"wallet {row.user_id} {row.currency}"
    if row.newest_at is not None and row.updated_at != row.newest_at:
        detail = f"changed at {row.updated_at}, and its newest transaction is of {row.newest_at}"
        yield Discrepancy("wallet_time", subject, detail)
    if row.offline_frozen is not (row.frozen == 1):
        state, said = ("frozen", "not") if row.offline_frozen else ("not frozen", "so")
        detail = f"it is {state}, and the audit log says {said}"
        yield Discrepancy("wallet_frozen", subject, detail)
    if row.balance_in_cents < 0 and not row.offline_frozen:
        yield Discrepancy("wallet_owes", subject, "it owes, and is not frozen")


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
