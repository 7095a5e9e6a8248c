"""What Stripe's webhooks say, in our words; only what moves money is read, and no more of it."""

from typing import Annotated, Any, Final

import msgspec

from cloud.payments.provider import EventKind, ProviderEvent, Unconcerning, WebhookRefusal
from protocol.money import Money, is_currency

NAME: Final = "stripe"
SIGNATURE_HEADER: Final = "Stripe-Signature"
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class _Data(msgspec.Struct, frozen=True):
    object: msgspec.Raw


class _Event(msgspec.Struct, frozen=True):
    """https://docs.stripe.com/api/events/object"""

    id: _Id
    type: Annotated[str, msgspec.Meta(max_length=80)]
    data: _Data


class _Session(msgspec.Struct, frozen=True):
    """https://docs.stripe.com/api/checkout/sessions/object"""

    id: _Id
    payment_status: str
    amount_total: int | None = None
    currency: str | None = None
    payment_intent: _Id | None = None
    client_reference_id: _Id | None = None


class _Intent(msgspec.Struct, frozen=True):
    """https://docs.stripe.com/api/payment_intents/object"""

    id: _Id
    amount: int
    currency: str
    metadata: dict[str, str] = {}


class _Refund(msgspec.Struct, frozen=True):
    """https://docs.stripe.com/api/refunds/object"""

    id: _Id
    amount: int
    currency: str
    status: str | None = None
    payment_intent: _Id | None = None
    metadata: dict[str, str] | None = None


class _Refunds(msgspec.Struct, frozen=True):
    data: list[_Refund] = []


class _Charge(msgspec.Struct, frozen=True):
    """https://docs.stripe.com/api/charges/object; `refunds` only before version 2022-11-15."""

    id: _Id
    refunds: _Refunds | None = None


class _Dispute(msgspec.Struct, frozen=True):
    """https://docs.stripe.com/api/disputes/object"""

    id: _Id
    amount: int
    currency: str
    status: str
    payment_intent: _Id | None = None


def read_event(body: bytes) -> ProviderEvent | Unconcerning | WebhookRefusal:
    """`body` is known to be Stripe's."""
    try:
        event = _EVENT.decode(body)
        reader = _READERS.get(event.type)
        said = None if reader is None else reader(event)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        return WebhookRefusal.MALFORMED
    return Unconcerning(NAME, event.id, event.type) if said is None else said


def refund_kind(status: str | None) -> EventKind | None:
    """None: it has not ended."""
    match status:
        case "succeeded":
            return EventKind.REFUND_DONE
        case "failed" | "canceled":
            return EventKind.REFUND_FAILED
        case _:
            return None


def money(amount_in_cents: int, currency: str) -> Money:
    """Stripe writes currencies in small letters. Raises ValueError for what we do not count."""
    code = currency.upper()
    if amount_in_cents <= 0 or not is_currency(code):
        raise ValueError("not an amount of ours")
    return Money(amount_in_cents, code)


def _completed(event: _Event) -> ProviderEvent | None:
    session = msgspec.json.decode(event.data.object, type=_Session)
    # Other ways to pay end later: `async_payment_succeeded` tells.
    return _session(event, EventKind.PAID) if session.payment_status == "paid" else None


def _paid_later(event: _Event) -> ProviderEvent | None:
    return _session(event, EventKind.PAID)


def _failed_later(event: _Event) -> ProviderEvent | None:
    return _session(event, EventKind.FAILED)


def _expired(event: _Event) -> ProviderEvent | None:
    return _session(event, EventKind.EXPIRED)


def _session(event: _Event, kind: EventKind) -> ProviderEvent | None:
    session = msgspec.json.decode(event.data.object, type=_Session)
    if session.client_reference_id is None:
        # The account sells something else too.
        return None
    if session.amount_total is None or session.currency is None:
        raise ValueError("a payment's session has an amount")
    return ProviderEvent(
        NAME,
        event.id,
        kind,
        session.id,
        money(session.amount_total, session.currency),
        charge=session.payment_intent if kind is EventKind.PAID else None,
        payment_id=session.client_reference_id,
    )


def _declined(event: _Event) -> ProviderEvent | None:
    intent = msgspec.json.decode(event.data.object, type=_Intent)
    payment_id = intent.metadata.get("payment_id")
    if payment_id is None:
        return None
    amount = money(intent.amount, intent.currency)
    return ProviderEvent(NAME, event.id, EventKind.FAILED, intent.id, amount, payment_id=payment_id)


def _refund(event: _Event) -> ProviderEvent | None:
    return _tell_refund(event, msgspec.json.decode(event.data.object, type=_Refund))


def _charge_refunded(event: _Event) -> ProviderEvent | None:
    """Newer versions leave the refunds out: `refund.created` and `refund.updated` tell of them."""
    charge = msgspec.json.decode(event.data.object, type=_Charge)
    if charge.refunds is None or not charge.refunds.data:
        return None
    # The newest comes first.
    return _tell_refund(event, charge.refunds.data[0])


def _tell_refund(event: _Event, refund: _Refund) -> ProviderEvent | None:
    kind = refund_kind(refund.status)
    if kind is None or refund.payment_intent is None:
        return None
    return ProviderEvent(
        NAME,
        event.id,
        kind,
        refund.payment_intent,
        money(refund.amount, refund.currency),
        refund_id=(refund.metadata or {}).get("refund_id"),
        about=refund.id,
    )


def _disputed(event: _Event) -> ProviderEvent | None:
    dispute = msgspec.json.decode(event.data.object, type=_Dispute)
    # An inquiry takes no money; should it turn into a dispute, `funds_withdrawn` tells.
    return (
        None
        if dispute.status.startswith("warning_")
        else _tell_dispute(event, EventKind.DISPUTED, dispute)
    )


def _dispute_closed(event: _Event) -> ProviderEvent | None:
    dispute = msgspec.json.decode(event.data.object, type=_Dispute)
    # One that was lost changes nothing more: its money is out already.
    return _tell_dispute(event, EventKind.DISPUTE_WON, dispute) if dispute.status == "won" else None


def _reinstated(event: _Event) -> ProviderEvent | None:
    dispute = msgspec.json.decode(event.data.object, type=_Dispute)
    return _tell_dispute(event, EventKind.DISPUTE_WON, dispute)


def _tell_dispute(event: _Event, kind: EventKind, dispute: _Dispute) -> ProviderEvent | None:
    if dispute.payment_intent is None:
        return None
    return ProviderEvent(
        NAME,
        event.id,
        kind,
        dispute.payment_intent,
        money(dispute.amount, dispute.currency),
        about=dispute.id,
    )


_EVENT: Final = msgspec.json.Decoder(_Event)
_READERS: Final[dict[str, Any]] = {
    "checkout.session.completed": _completed,
    "checkout.session.async_payment_succeeded": _paid_later,
    "checkout.session.async_payment_failed": _failed_later,
    "checkout.session.expired": _expired,
    "payment_intent.payment_failed": _declined,
    "charge.refunded": _charge_refunded,
    "charge.refund.updated": _refund,
    "refund.created": _refund,
    "refund.updated": _refund,
    "refund.failed": _refund,
    "charge.dispute.created": _disputed,
    "charge.dispute.funds_withdrawn": _disputed,
    "charge.dispute.funds_reinstated": _reinstated,
    "charge.dispute.closed": _dispute_closed,
}
EVENT_TYPES: Final = tuple(sorted(_READERS))
"""What a webhook endpoint at Stripe is to be subscribed to."""
