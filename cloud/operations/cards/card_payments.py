"""A card payment's row: committed before the provider is called, then the page it opened."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, select, update
from uuid_utils.compat import uuid7

from cloud.operations.refusals import Code, Refusal
from cloud.operations.rows import insert_if_new
from cloud.payments.patience import poll_again_after
from cloud.payments.provider import (
    CardProvider,
    CheckoutRefusedError,
    CheckoutRequest,
    ProviderUnreachableError,
)
from cloud.store.database import Database
from cloud.store.tables import orders, payments
from protocol.ids import IdempotencyKey
from protocol.money import Money

PAGE_VALID: Final = timedelta(hours=1)
"""How long a top-up's card page is left open."""


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


class WebhookOutcome(StrEnum):
    """What a provider's word came to."""

    CREDITED = "credited"
    SETTLED = "settled"
    """An order heard of its card part."""
    NOTED = "noted"
    """Nothing moves: a card was declined, a page expired, a refund is under way."""
    REFUND_ENDED = "refund_ended"
    TAKEN_BACK = "taken_back"
    """A dispute, or a refund that was not ours: out of the wallet."""
    PUT_BACK = "put_back"
    """The provider has the money again: into the wallet."""
    KNOWN_ALREADY = "known_already"
    UNCONCERNING = "unconcerning"


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
    reference: str | None
    """The provider's, once it was asked."""


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
        "poll_at": now + poll_again_after(0),
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
    return replace(
        stands,
        card_page=checkout.card_page,
        state=PaymentState.PENDING,
        reference=checkout.reference,
    )


@dataclass(frozen=True, slots=True)
class Locked:
    """A payment's row, and its order's where it pays one; both held until the commit."""

    payment: Row[Any]
    order: Row[Any] | None


def lock_payment(connection: Connection, payment_id: UUID) -> Locked:
    """The order first, then the payment: the one order of `store.locks`."""
    order_id = connection.execute(
        select(payments.c.order_id).where(payments.c.id == payment_id)
    ).scalar_one()
    order = None
    if order_id is not None:
        order = connection.execute(
            select(orders).where(orders.c.order_id == order_id).with_for_update()
        ).one_or_none()
    payment = connection.execute(
        select(payments).where(payments.c.id == payment_id).with_for_update()
    ).one()
    return Locked(payment, order)


def payment_of(row: Row[Any]) -> Payment:
    amount = Money(row.amount_in_cents, row.currency)
    return Payment(
        str(row.id),
        amount,
        row.checkout_url,
        PaymentState(row.state),
        row.created_at,
        row.provider_reference,
    )


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
