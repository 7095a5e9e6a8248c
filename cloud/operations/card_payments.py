"""A card payment's row: committed before the provider is called, then the page it opened."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, select, update
from uuid_utils.compat import uuid7

from cloud.operations.refusals import Code, Refusal
from cloud.operations.rows import insert_if_new
from cloud.payments.provider import (
    CardProvider,
    CheckoutRefusedError,
    CheckoutRequest,
    ProviderUnreachableError,
)
from cloud.store.database import Database
from cloud.store.tables import payments
from protocol.ids import IdempotencyKey
from protocol.money import Money

PAGE_VALID: Final = timedelta(hours=1)
"""How long a top-up's card page is left open."""
FIRST_POLL_AFTER: Final = timedelta(seconds=20)


class PaymentState(StrEnum):
    CREATED = "created"
    """The row stands; the provider was not asked yet, or its answer was lost."""
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """A card was declined; the page stays open, and another card may still pay."""
    EXPIRED = "expired"
    """The provider let go of it, unpaid."""
    REFUNDED = "refunded"
    """All of it went back to the card."""


class Purpose(StrEnum):
    TOP_UP = "top_up"
    ORDER = "order"


@dataclass(frozen=True, slots=True)
class Payment:
    id: str
    amount: Money
    card_page: str | None
    state: PaymentState
    created_at: datetime


def enter_payment(
    connection: Connection,
    *,
    provider: str,
    user_id: UUID,
    amount: Money,
    purpose: Purpose,
    return_url: str,
    key: IdempotencyKey,
    now: datetime,
    expires_at: datetime | None = None,
    event_id: str | None = None,
    order_id: UUID | None = None,
) -> Row[Any]:
    """The user's payment under this key: a new row, or the one that stands.

    Polled from then on. At `expires_at` polling asks the provider to let go of it (None: whoever
    entered it does). `return_url` gets the payment's id appended.
    """
    payment_id = uuid7()
    row: dict[str, Any] = {
        "id": payment_id,
        "user_id": user_id,
        "amount_in_cents": amount.amount_in_cents,
        "currency": amount.currency,
        "provider": provider,
        "state": PaymentState.CREATED,
        "purpose": purpose,
        "event_id": event_id,
        "order_id": order_id,
        "return_url": f"{return_url}{payment_id}",
        "idempotency_key": key,
        "poll_at": now + FIRST_POLL_AFTER,
        "expires_at": expires_at,
        "created_at": now,
        "updated_at": now,
    }
    insert_if_new(connection, payments, row)
    return connection.execute(
        select(payments).where(payments.c.user_id == user_id, payments.c.idempotency_key == key)
    ).one()


def open_card_page(
    database: Database, provider: CardProvider, payment_id: UUID, now: datetime
) -> Payment | Refusal:
    """The payment with its page, opened once however often this is asked.

    No transaction may be open: the provider is called. A refusal leaves the row to polling.
    """
    with database.reading() as connection:
        row = connection.execute(select(payments).where(payments.c.id == payment_id)).one()
    stands = payment_of(row)
    if stands.state is not PaymentState.CREATED:
        return stands if stands.card_page is not None else _REFUSED

    # Asked twice, it opens one checkout.
    request = CheckoutRequest(stands.id, stands.amount, row.return_url, row.created_at)
    try:
        checkout = provider.open_checkout(request)
    except ProviderUnreachableError:
        return _UNREACHABLE
    except CheckoutRefusedError:
        with database.transaction() as connection:
            connection.execute(
                update(payments)
                .where(payments.c.id == payment_id, payments.c.state == PaymentState.CREATED)
                .values(state=PaymentState.EXPIRED, poll_at=None, updated_at=now)
            )
        return _REFUSED

    with database.transaction() as connection:
        connection.execute(
            update(payments)
            .where(payments.c.id == payment_id, payments.c.state == PaymentState.CREATED)
            .values(
                provider_reference=checkout.reference,
                checkout_url=checkout.card_page,
                state=PaymentState.PENDING,
                updated_at=now,
            )
        )
    return Payment(
        stands.id, stands.amount, checkout.card_page, PaymentState.PENDING, stands.created_at
    )


def payment_of(row: Row[Any]) -> Payment:
    amount = Money(row.amount_in_cents, row.currency)
    return Payment(str(row.id), amount, row.checkout_url, PaymentState(row.state), row.created_at)


_UNREACHABLE: Final = Refusal(
    Code.PROVIDER_UNREACHABLE,
    "The card provider does not answer. Nothing was charged.",
    "Send the same request again in a moment, under the same key.",
)
_REFUSED: Final = Refusal(
    Code.PAYMENT_REFUSED,
    "The card provider does not take this payment. Nothing was charged.",
    "Try another amount, under a new key.",
)
