"""What a card provider tells, by webhook or when it is looked up: each thing takes effect once."""

from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, and_, or_, select, update

from cloud.operations.cards.card_losses import (
    find_dispute,
    take_dispute,
    take_hand_made_refund,
    take_won_dispute,
)
from cloud.operations.cards.card_payments import (
    Locked,
    PaymentState,
    Purpose,
    WebhookOutcome,
    lock_payment,
)
from cloud.operations.cards.card_postings import credit_purchase
from cloud.operations.cards.card_refund_ends import end_card_refund
from cloud.operations.cards.card_refunds import find_card_refund
from cloud.operations.orders.settle_order import settle_order_payment
from cloud.operations.refusals import Code, Refusal
from cloud.operations.rows import insert_if_new
from cloud.payments.provider import (
    CheckoutState,
    CheckoutStatus,
    EventKind,
    ProviderEvent,
    RefundState,
    RefundStatus,
    Unconcerning,
    WebhookRefusal,
)
from cloud.store.database import Database
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.tables import payments, webhook_events
from protocol.money import Money

_WAS_PAID: Final = (PaymentState.SUCCEEDED, PaymentState.REFUNDED)
_ABOUT_THE_WHOLE: Final = frozenset({EventKind.PAID, EventKind.FAILED, EventKind.EXPIRED})


def take_provider_event(
    database: Database, event: ProviderEvent, now: datetime
) -> WebhookOutcome | Refusal:
    """Do what the provider's word asks for: once, whatever is told again, late or at once.

    A refusal is to be told again. All is under the payment's lock; wallets are locked last.
    """
    with database.transaction() as connection:
        payment_id = _find(connection, event)
        locked = None if payment_id is None else lock_payment(connection, payment_id)
        outcome = _UNKNOWN if locked is None else _take(connection, locked, event, now)
        _audit(connection, event, outcome, locked, now)
    return outcome


def record_unconcerning_webhook(database: Database, said: Unconcerning, now: datetime) -> None:
    """Signed by the provider, and about nothing that moves money here."""
    with database.transaction() as connection:
        row = AuditRow(
            at=now,
            actor=f"provider:{said.provider}",
            action="webhook",
            outcome=WebhookOutcome.UNCONCERNING.value,
            detail={"event": said.event_id, "type": said.type},
        )
        write_audit_records(connection, [row])


def record_refused_webhook(
    database: Database, provider: str, refusal: WebhookRefusal, now: datetime
) -> None:
    """A webhook that was not the provider's, or not from now: seen, and nothing else."""
    with database.transaction() as connection:
        row = AuditRow(
            at=now, actor=f"provider:{provider}", action="webhook", outcome=refusal.value
        )
        write_audit_records(connection, [row])


def told_by_look_up(provider: str, status: CheckoutStatus) -> ProviderEvent | None:
    """What a look-up says, as if a webhook had come; None while nothing is decided."""
    match status.state:
        case CheckoutState.OPEN:
            return None
        case CheckoutState.PAID:
            kind = EventKind.PAID
        case CheckoutState.EXPIRED:
            kind = EventKind.EXPIRED
    return ProviderEvent(
        provider,
        f"look-up:{status.reference}:{status.state.value}",
        kind,
        status.reference,
        status.amount,
        charge=status.charge,
    )


def _find(connection: Connection, event: ProviderEvent) -> UUID | None:
    """The payment it is about, by the checkout, the charge, or our own name for it."""
    named = [
        payments.c.provider_reference == event.reference,
        payments.c.provider_charge == event.reference,
    ]
    ours = None if event.payment_id is None else _uuid(event.payment_id)
    if ours is not None:
        is_this = payments.c.id == ours
        if event.kind in {EventKind.PAID, EventKind.EXPIRED}:
            # A checkout is named: another one than ours is not this payment's.
            is_this = and_(is_this, payments.c.provider_reference.is_(None))
        named.append(is_this)
    return connection.execute(
        select(payments.c.id).where(payments.c.provider == event.provider, or_(*named))
    ).scalar_one_or_none()


def _take(
    connection: Connection, locked: Locked, event: ProviderEvent, now: datetime
) -> WebhookOutcome | Refusal:
    refusal = _refuse(connection, locked, event)
    if refusal is not None:
        return refusal
    row = {
        "provider": event.provider,
        "event_id": event.event_id,
        "type": event.kind.value,
        "payment_id": locked.payment.id,
        "received_at": now,
    }
    if not insert_if_new(connection, webhook_events, row):
        return WebhookOutcome.KNOWN_ALREADY
    match event.kind:
        case EventKind.PAID:
            return _take_paid(connection, locked, event, now)
        case EventKind.FAILED | EventKind.EXPIRED:
            return _take_unpaid(connection, locked, event, now)
        case EventKind.REFUND_DONE:
            return _take_refund(connection, locked, event, RefundState.DONE, now)
        case EventKind.REFUND_FAILED:
            return _take_refund(connection, locked, event, RefundState.FAILED, now)
        case EventKind.DISPUTED:
            return take_dispute(connection, locked, event, now)
        case EventKind.DISPUTE_WON:
            return take_won_dispute(connection, locked, event, now)


def _refuse(connection: Connection, locked: Locked, event: ProviderEvent) -> Refusal | None:
    payment = locked.payment
    paid_for = Money(payment.amount_in_cents, payment.currency)
    if event.kind in _ABOUT_THE_WHOLE:
        return None if event.amount == paid_for else _differs(paid_for, event)
    if event.amount.currency != payment.currency or event.amount > paid_for:
        return _differs(paid_for, event)
    if payment.state not in _WAS_PAID:
        return _TOO_EARLY
    match event.kind:
        case EventKind.DISPUTE_WON:
            return _TOO_EARLY if find_dispute(connection, event) is None else None
        case EventKind.REFUND_DONE | EventKind.REFUND_FAILED:
            refund = find_card_refund(connection, payment, event.refund_id, event.about)
            if refund is not None:
                asked = Money(refund.amount_in_cents, refund.currency)
                return None if event.amount == asked else _differs(asked, event)
            left = paid_for - Money(payment.refunded_in_cents, payment.currency)
            return None if event.amount <= left else _differs(left, event)
        case _:
            return None


def _take_paid(
    connection: Connection, locked: Locked, event: ProviderEvent, now: datetime
) -> WebhookOutcome:
    """However late: the money came, also where the page was thought to have expired."""
    payment = locked.payment
    if payment.state in _WAS_PAID:
        return WebhookOutcome.KNOWN_ALREADY
    reference = payment.provider_reference or event.reference
    bought = None
    if payment.purpose == Purpose.TOP_UP:
        bought = UUID(credit_purchase(connection, payment, reference, now))
    connection.execute(
        update(payments)
        .where(payments.c.id == payment.id)
        .values(
            state=PaymentState.SUCCEEDED,
            provider_reference=reference,
            provider_charge=event.charge,
            transaction_id=bought,
            poll_at=None,
            updated_at=now,
        )
    )
    if payment.purpose == Purpose.TOP_UP:
        return WebhookOutcome.CREDITED
    settle_order_payment(connection, payment, event, now)
    return WebhookOutcome.SETTLED


def _take_unpaid(
    connection: Connection, locked: Locked, event: ProviderEvent, now: datetime
) -> WebhookOutcome:
    """A declined card leaves the page open for another; an expired page takes none."""
    payment = locked.payment
    if payment.state in (*_WAS_PAID, PaymentState.EXPIRED):
        # What was told late changes nothing.
        return WebhookOutcome.NOTED
    is_over = event.kind is EventKind.EXPIRED
    connection.execute(
        update(payments)
        .where(payments.c.id == payment.id)
        .values(
            state=PaymentState.EXPIRED if is_over else PaymentState.FAILED,
            poll_at=None if is_over else payment.poll_at,
            updated_at=now,
        )
    )
    if payment.purpose == Purpose.TOP_UP:
        return WebhookOutcome.NOTED
    settle_order_payment(connection, payment, event, now)
    return WebhookOutcome.SETTLED


def _take_refund(
    connection: Connection,
    locked: Locked,
    event: ProviderEvent,
    state: RefundState,
    now: datetime,
) -> WebhookOutcome:
    refund = find_card_refund(connection, locked.payment, event.refund_id, event.about)
    if refund is None:
        return take_hand_made_refund(connection, locked, event, state, now)
    return end_card_refund(connection, locked, refund, RefundStatus(event.about, state), now)


def _audit(
    connection: Connection,
    event: ProviderEvent,
    outcome: WebhookOutcome | Refusal,
    locked: Locked | None,
    now: datetime,
) -> None:
    detail = {"event": event.event_id, "kind": event.kind.value, "amount": str(event.amount)}
    if event.about is not None:
        detail["about"] = event.about
    if locked is not None:
        detail |= {"payment": str(locked.payment.id), "was": locked.payment.state}
    row = AuditRow(
        at=now,
        actor=f"provider:{event.provider}",
        action="webhook",
        outcome=outcome.code.value if isinstance(outcome, Refusal) else outcome.value,
        subject=event.reference,
        event_id=None if locked is None else locked.payment.event_id,
        user_id=None if locked is None else str(locked.payment.user_id),
        detail=detail,
    )
    write_audit_records(connection, [row])


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _differs(expected: Money, event: ProviderEvent) -> Refusal:
    return Refusal(
        Code.AMOUNT_DIFFERS,
        f"It is about {expected}; the webhook says {event.amount}.",
        "Look at the payment in the provider's dashboard: nothing was done.",
    )


_UNKNOWN: Final = Refusal(
    Code.PAYMENT_UNKNOWN,
    "There is no such payment.",
    "If it was made a moment ago, send the same again.",
)
_TOO_EARLY: Final = Refusal(
    Code.CAME_TOO_EARLY,
    "What this is about was not heard of yet.",
    "Send the same again.",
)
