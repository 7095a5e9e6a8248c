"""Whether payments, orders, cash-outs and answers name the transactions that stand, and these them.

Each rule is one query for what breaks it: nothing is loaded of books that add up.
"""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Table, func, or_, select

from cloud.ledger.postings import TransactionType
from cloud.store.tables import (
    approvals,
    cash_outs,
    credit_transactions,
    orders,
    outcomes,
    payments,
    review_entries,
)

Paper = tuple[str, str, str]
"""The rule, what it is about, what is wrong."""

_OF = credit_transactions.c


def paper_discrepancies(connection: Connection) -> Iterator[Paper]:
    yield from _purchases_without_payment(connection)
    yield from _payments_without_purchase(connection)
    yield from _reversals(connection)
    yield from _orders(connection)
    yield from _cash_outs(connection)
    yield from _unknown_transactions(connection)


def _purchases_without_payment(connection: Connection) -> Iterator[Paper]:
    """Every Purchase was paid: by a payment that succeeded, of that amount."""
    paid = (
        select(payments.c.id)
        .where(
            payments.c.transaction_id == _OF.id,
            payments.c.user_id == _OF.user_id,
            payments.c.amount_in_cents == _OF.amount_in_cents,
            payments.c.currency == _OF.currency,
            # Refunded since: what went back was taken out of the wallet again.
            payments.c.state.in_(("succeeded", "refunded")),
        )
        .exists()
    )
    rows = connection.execute(
        select(_OF.id, _OF.amount_in_cents, _OF.currency).where(
            _OF.type == TransactionType.PURCHASE.value, ~paid
        )
    )
    for row in rows:
        detail = f"no payment of {row.amount_in_cents} {row.currency} cents that succeeded has it"
        yield "purchase_without_payment", f"transaction {row.id}", detail


def _payments_without_purchase(connection: Connection) -> Iterator[Paper]:
    """Every top-up that succeeded was credited, once and in full."""
    rows = connection.execute(
        select(payments.c.id, payments.c.transaction_id, payments.c.state)
        .outerjoin(credit_transactions, _names(payments, payments.c.transaction_id))
        .where(
            payments.c.purpose == "top_up",
            (payments.c.state == "succeeded") | payments.c.transaction_id.is_not(None),
            _differs(TransactionType.PURCHASE, payments.c.amount_in_cents, payments.c.currency),
        )
    )
    for row in rows:
        yield (
            "payment_without_purchase",
            f"payment {row.id}",
            f"it is {row.state}, and {_told(row.transaction_id)} is no Purchase of that amount",
        )


def _reversals(connection: Connection) -> Iterator[Paper]:
    """What is given back is never more than was taken, and in its currency."""
    reversal = credit_transactions.alias("reversal")
    rows = connection.execute(
        select(
            _OF.id,
            _OF.amount_in_cents,
            func.sum(reversal.c.amount_in_cents).label("reversed"),
        )
        .join(
            reversal,
            (reversal.c.user_id == _OF.user_id) & (reversal.c.reversal_of_transaction_id == _OF.id),
        )
        .group_by(_OF.id, _OF.amount_in_cents)
        .having(func.sum(reversal.c.amount_in_cents) > _OF.amount_in_cents)
    )
    for row in rows:
        detail = f"{row.reversed} cents were given back of {row.amount_in_cents}"
        yield "reversed_too_much", f"transaction {row.id}", detail
    strange = connection.execute(
        select(reversal.c.id, _OF.id.label("original_id"))
        .join(
            reversal,
            (reversal.c.user_id == _OF.user_id) & (reversal.c.reversal_of_transaction_id == _OF.id),
        )
        .where(
            (reversal.c.currency != _OF.currency)
            | (reversal.c.type != TransactionType.REFUND.value)
            | (_OF.type != TransactionType.DEDUCT.value)
        )
    )
    for row in strange:
        detail = f"it is no refund, in the same currency, of the Deduct {row.original_id}"
        yield "strange_reversal", f"transaction {row.id}", detail


def _orders(connection: Connection) -> Iterator[Paper]:
    """A paid order's Credits part was deducted; a closed one's came back."""
    rows = connection.execute(
        select(orders.c.order_id, orders.c.state, orders.c.transaction_id)
        .outerjoin(credit_transactions, _names(orders, orders.c.transaction_id))
        .where(
            (orders.c.credits_in_cents > 0) | orders.c.transaction_id.is_not(None),
            or_(
                _differs(TransactionType.DEDUCT, orders.c.credits_in_cents, orders.c.currency),
                _OF.order_id.is_(None),
                _OF.order_id != orders.c.order_id,
            ),
        )
    )
    for row in rows:
        detail = f"{_told(row.transaction_id)} is no Deduct of its Credits part"
        yield "order_without_deduct", f"order {row.order_id}, {row.state}", detail
    given_back = (
        select(func.coalesce(func.sum(_OF.amount_in_cents), 0))
        .where(
            _OF.user_id == orders.c.user_id,
            _OF.reversal_of_transaction_id == orders.c.transaction_id,
        )
        .scalar_subquery()
    )
    kept = connection.execute(
        select(orders.c.order_id, orders.c.state, orders.c.credits_in_cents).where(
            orders.c.state.in_(("closed", "cancelled")),
            orders.c.transaction_id.is_not(None),
            given_back != orders.c.credits_in_cents,
        )
    )
    for row in kept:
        detail = f"not all of {row.credits_in_cents} cents came back"
        yield "order_not_given_back", f"order {row.order_id}, {row.state}", detail


def _cash_outs(connection: Connection) -> Iterator[Paper]:
    """What was posted for a cash-out is its Deduct."""
    rows = connection.execute(
        select(cash_outs.c.cash_out_id, cash_outs.c.state, cash_outs.c.transaction_id)
        .outerjoin(credit_transactions, _names(cash_outs, cash_outs.c.transaction_id))
        .where(
            cash_outs.c.state.in_(("posted", "paid", "reversed"))
            | cash_outs.c.transaction_id.is_not(None),
            _differs(TransactionType.DEDUCT, cash_outs.c.amount_in_cents, cash_outs.c.currency),
        )
    )
    for row in rows:
        detail = f"{_told(row.transaction_id)} is no Deduct of its amount"
        yield "cash_out_without_deduct", f"cash-out {row.cash_out_id}, {row.state}", detail


def _unknown_transactions(connection: Connection) -> Iterator[Paper]:
    """Whatever names a transaction names one that stands."""
    named = (
        (outcomes, outcomes.c.transaction_id, outcomes.c.key, "outcome"),
        (review_entries, review_entries.c.transaction_id, review_entries.c.review_id, "review"),
        (approvals, approvals.c.posted_transaction_id, approvals.c.approval_id, "approval"),
        (approvals, approvals.c.sale_transaction_id, approvals.c.approval_id, "approval"),
        (orders, orders.c.reversal_transaction_id, orders.c.order_id, "order"),
        (cash_outs, cash_outs.c.reversal_transaction_id, cash_outs.c.cash_out_id, "cash-out"),
        (payments, payments.c.transaction_id, payments.c.id, "payment"),
    )
    for table, transaction_id, subject, what in named:
        rows = connection.execute(
            select(subject.label("subject"), transaction_id.label("transaction_id"))
            .select_from(table)
            .outerjoin(credit_transactions, _names(table, transaction_id))
            .where(transaction_id.is_not(None), _OF.id.is_(None))
        )
        for row in rows:
            detail = f"it names {row.transaction_id}, which the ledger does not have"
            yield "unknown_transaction", f"{what} {row.subject}", detail


def _names(table: Table, transaction_id: ColumnElement[Any]) -> ColumnElement[bool]:
    """The transaction that a paper of this table names: its owner's."""
    return (_OF.user_id == table.c.user_id) & (_OF.id == transaction_id)


def _differs(
    kind: TransactionType, amount_in_cents: ColumnElement[Any], currency: ColumnElement[Any]
) -> ColumnElement[bool]:
    """There is none, or it is of another kind or amount."""
    return or_(
        _OF.id.is_(None),
        _OF.type != kind.value,
        _OF.amount_in_cents != amount_in_cents,
        _OF.currency != currency,
    )


def _told(transaction_id: UUID | None) -> str:
    return "nothing" if transaction_id is None else f"transaction {transaction_id}"
