"""Credits for a card payment: a row before the provider is called, money when its webhook came."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, select, update
from uuid_utils.compat import uuid7

from cloud.ledger.postings import post, purchase
from cloud.operations.refusals import Code, Refusal
from cloud.operations.rows import insert_if_new
from cloud.operations.sign_in_attendee import Attendee
from cloud.payments.provider import (
    CardProvider,
    CheckoutRequest,
    EventKind,
    ProviderEvent,
    ProviderUnreachableError,
    WebhookRefusal,
)
from cloud.store.database import Database
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.locks import WalletKey, lock_wallets
from cloud.store.postings import write_postings
from cloud.store.tables import credit_wallets, events, payments, webhook_events
from protocol.ids import CorrelationId, IdempotencyKey, TransactionId, UserId
from protocol.money import Money, format_cents

TOP_UP_MIN_IN_CENTS: Final = 100
TOP_UP_MAX_IN_CENTS: Final = 50_000


class PaymentState(StrEnum):
    CREATED = "created"
    """The row stands; the provider was not asked yet, or its answer was lost."""
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """A card was declined; the page stays open, and another card may still pay."""


@dataclass(frozen=True, slots=True)
class Payment:
    id: str
    amount: Money
    card_page: str | None
    state: PaymentState


class WebhookOutcome(StrEnum):
    CREDITED = "credited"
    NOTED = "noted"
    """Nothing to credit: a card was declined."""
    KNOWN_ALREADY = "known_already"


def start_top_up(
    database: Database,
    provider: CardProvider,
    attendee: Attendee,
    amount: Money,
    *,
    key: IdempotencyKey,
    return_url: str,
    now: datetime,
) -> Payment | Refusal:
    """A card page for this amount. The same key again: the same page, or a refusal where the
    amount differs.

    `return_url` gets `?topup=ID` appended.
    """
    with database.transaction() as connection:
        refusal = _refuse_amount(connection, amount)
        if refusal is not None:
            return refusal
        payment = _claim(connection, provider.name, attendee, amount, key=key, now=now)
    if isinstance(payment, Refusal) or payment.card_page is not None:
        return payment

    # No transaction is open while the provider is asked; asked twice, it opens one checkout.
    request = CheckoutRequest(payment.id, payment.amount, f"{return_url}?topup={payment.id}")
    try:
        checkout = provider.open_checkout(request)
    except ProviderUnreachableError:
        return Refusal(
            Code.PROVIDER_UNREACHABLE,
            "The card provider does not answer. Nothing was charged.",
            "Send the same request again in a moment, under the same key.",
        )

    with database.transaction() as connection:
        connection.execute(
            update(payments)
            .where(payments.c.id == UUID(payment.id), payments.c.state == PaymentState.CREATED)
            .values(
                provider_reference=checkout.reference,
                checkout_url=checkout.card_page,
                state=PaymentState.PENDING,
                updated_at=now,
            )
        )
    return Payment(payment.id, payment.amount, checkout.card_page, PaymentState.PENDING)


def find_payment(database: Database, attendee: Attendee, payment_id: str) -> Payment | Refusal:
    """The attendee's own payment; anybody else's is as unknown as none."""
    try:
        wanted = UUID(payment_id)
    except ValueError:
        return _unknown_payment()
    with database.reading() as connection:
        row = connection.execute(
            select(payments).where(payments.c.id == wanted, payments.c.user_id == attendee.row_id)
        ).one_or_none()
    return _unknown_payment() if row is None else _payment(row)


def take_provider_event(
    database: Database, event: ProviderEvent, now: datetime
) -> WebhookOutcome | Refusal:
    """Credit what the provider says was paid: once, whatever is told again, late or at once.

    The payment's row is locked before the wallet's; sales lock wallets alone.
    """
    with database.transaction() as connection:
        payment = connection.execute(
            select(payments)
            .where(
                payments.c.provider == event.provider,
                payments.c.provider_reference == event.reference,
            )
            .with_for_update()
        ).one_or_none()
        outcome = _judge(connection, payment, event, now)
        is_refused = isinstance(outcome, Refusal)
        audit = AuditRow(
            at=now,
            actor=f"provider:{event.provider}",
            action="webhook",
            outcome=outcome.code.value if is_refused else outcome.value,
            subject=event.reference,
            user_id=None if payment is None else str(payment.user_id),
            detail={"event": event.event_id, "amount": str(event.amount)},
        )
        write_audit_records(connection, [audit])
    return outcome


def record_refused_webhook(
    database: Database, provider: str, refusal: WebhookRefusal, now: datetime
) -> None:
    """A webhook that was not the provider's, or not from now: seen, and nothing else."""
    with database.transaction() as connection:
        write_audit_records(
            connection,
            [
                AuditRow(
                    at=now, actor=f"provider:{provider}", action="webhook", outcome=refusal.value
                )
            ],
        )


def _refuse_amount(connection: Connection, amount: Money) -> Refusal | None:
    if not TOP_UP_MIN_IN_CENTS <= amount.amount_in_cents <= TOP_UP_MAX_IN_CENTS:
        low, high = format_cents(TOP_UP_MIN_IN_CENTS), format_cents(TOP_UP_MAX_IN_CENTS)
        return Refusal(
            Code.AMOUNT_OUT_OF_RANGE,
            f"A top-up is {low} to {high}.",
            "Choose an amount in between.",
        )
    sold = select(events.c.event_id).where(events.c.currency == amount.currency).limit(1)
    if connection.execute(sold).one_or_none() is None:
        return Refusal(
            Code.CURRENCY_NOT_SOLD,
            f"No event sells in {amount.currency}.",
            "Use a currency of the events in GET /v1/wallet.",
        )
    return None


def _claim(
    connection: Connection,
    provider: str,
    attendee: Attendee,
    amount: Money,
    *,
    key: IdempotencyKey,
    now: datetime,
) -> Payment | Refusal:
    """The payment under this key: a new row, or the one that stands."""
    row = {
        "id": uuid7(),
        "user_id": attendee.row_id,
        "amount_in_cents": amount.amount_in_cents,
        "currency": amount.currency,
        "provider": provider,
        "state": PaymentState.CREATED,
        "idempotency_key": key,
        "created_at": now,
        "updated_at": now,
    }
    insert_if_new(connection, payments, row)
    stands = connection.execute(
        select(payments).where(
            payments.c.user_id == attendee.row_id, payments.c.idempotency_key == key
        )
    ).one()
    payment = _payment(stands)
    if payment.amount != amount:
        return Refusal(
            Code.KEY_REUSED,
            f"This Idempotency-Key belongs to a top-up of {payment.amount}.",
            "Use a new key for another top-up.",
        )
    return payment


def _judge(
    connection: Connection, payment: Row[Any] | None, event: ProviderEvent, now: datetime
) -> WebhookOutcome | Refusal:
    if payment is None:
        return _unknown_payment()
    owed = Money(payment.amount_in_cents, payment.currency)
    if event.amount != owed:
        return Refusal(
            Code.AMOUNT_DIFFERS,
            f"The payment is for {owed}; the webhook says {event.amount}.",
            "Look at the payment in the provider's dashboard: nothing was credited.",
        )
    if not _is_first(connection, event, payment, now):
        return WebhookOutcome.KNOWN_ALREADY
    match event.kind:
        case EventKind.PAID:
            return _credit(connection, payment, now)
        case EventKind.FAILED:
            return _note_failure(connection, payment, now)


def _is_first(
    connection: Connection, event: ProviderEvent, payment: Row[Any], now: datetime
) -> bool:
    row = {
        "provider": event.provider,
        "event_id": event.event_id,
        "type": event.kind.value,
        "payment_id": payment.id,
        "received_at": now,
    }
    return insert_if_new(connection, webhook_events, row)


def _credit(connection: Connection, payment: Row[Any], now: datetime) -> WebhookOutcome:
    if payment.state == PaymentState.SUCCEEDED:
        return WebhookOutcome.KNOWN_ALREADY
    user_id, amount = UserId(str(payment.user_id)), Money(payment.amount_in_cents, payment.currency)
    posting = purchase(
        transaction_id=TransactionId(str(uuid7())),
        user_id=user_id,
        amount=amount,
        provider_reference=payment.provider_reference,
        idempotency_key=IdempotencyKey(payment.idempotency_key),
        correlation_id=CorrelationId(str(payment.id)),
        at=now,
        created_by=f"system:{payment.provider}",
    )
    wallet_key = (user_id, amount.currency)
    _open_wallet(connection, wallet_key, now)
    before = lock_wallets(connection, [wallet_key])
    after = {wallet_key: post(before[wallet_key], posting)}
    write_postings(connection, [posting], before, after, now)
    connection.execute(
        update(payments)
        .where(payments.c.id == payment.id)
        .values(
            state=PaymentState.SUCCEEDED,
            transaction_id=UUID(posting.id),
            updated_at=now,
        )
    )
    return WebhookOutcome.CREDITED


def _open_wallet(connection: Connection, key: WalletKey, now: datetime) -> None:
    """An empty wallet where there is none: two payments at once then queue for its row."""
    user_id, currency = key
    row = {
        "user_id": UUID(user_id),
        "currency": currency,
        "balance_in_cents": 0,
        "updated_at": now,
    }
    insert_if_new(connection, credit_wallets, row)


def _note_failure(connection: Connection, payment: Row[Any], now: datetime) -> WebhookOutcome:
    if payment.state != PaymentState.SUCCEEDED:
        connection.execute(
            update(payments)
            .where(payments.c.id == payment.id)
            .values(state=PaymentState.FAILED, updated_at=now)
        )
    return WebhookOutcome.NOTED


def _payment(row: Row[Any]) -> Payment:
    amount = Money(row.amount_in_cents, row.currency)
    return Payment(str(row.id), amount, row.checkout_url, PaymentState(row.state))


def _unknown_payment() -> Refusal:
    return Refusal(
        Code.PAYMENT_UNKNOWN,
        "There is no such payment.",
        "If it was made a moment ago, send the same again.",
    )
