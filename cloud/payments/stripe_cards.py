"""Stripe, by its own library: hosted Checkout pages, refunds, signed webhooks."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final

import stripe
from stripe.checkout import Session

from cloud.payments.provider import (
    Checkout,
    CheckoutRefusedError,
    CheckoutRequest,
    CheckoutState,
    CheckoutStatus,
    EventKind,
    ProviderEvent,
    ProviderUnreachableError,
    RefundRequest,
    RefundState,
    RefundStatus,
    Unconcerning,
    WebhookRefusal,
)
from cloud.payments.stripe_webhooks import NAME, money, read_event, refund_kind

DEADLINE_S: Final = 10
PAGE_OPEN_FOR: Final = timedelta(hours=2)
"""Stripe's own limit (30 min to 24 h from when it hears of it): we let go of a page much earlier,
and a call that is sent again within 90 min still asks for enough."""
WHAT_IS_BOUGHT: Final = "RailTix Credits"
_PASSES: Final = frozenset({"balance_insufficient", "lock_timeout", "rate_limit"})
"""Refused now, and perhaps not later."""

# Said once for the whole library: it tells nobody how long our requests took.
stripe.enable_telemetry = False
# At INFO it writes down whatever was sent and answered, errors that quote a key included.
logging.getLogger("stripe").setLevel(logging.WARNING)


class _RefusedError(Exception):
    """Stripe understood, and did nothing."""

    def __init__(self, code: str | None) -> None:
        super().__init__(code)
        self.code = code


class StripeProvider:
    """Holds keys: they are in no repr, no log and no error of ours."""

    def __init__(
        self, secret_key: str, webhook_secret: str, base_address: str | None = None
    ) -> None:
        """`base_address`: of another server that speaks Stripe's API; None: Stripe's own."""
        self._webhook_secret = webhook_secret
        self._client = stripe.StripeClient(
            secret_key,
            base_addresses={} if base_address is None else {"api": base_address},
            # We try again ourselves, by patience.py, and know then that it was a second try.
            max_network_retries=0,
            http_client=stripe.RequestsClient(timeout=DEADLINE_S),
        )

    @property
    def name(self) -> str:
        return NAME

    def open_checkout(self, request: CheckoutRequest) -> Checkout:
        amount = request.amount
        about = {"payment_id": request.payment_id}
        params: stripe.params.checkout.SessionCreateParams = {
            "mode": "payment",
            # Credits go back to the card they came from, so it is a card.
            "allowed_payment_method_types": ["card"],
            # Credits are in the currency that was asked for.
            "adaptive_pricing": {"enabled": False},
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {
                        "currency": amount.currency.lower(),
                        "unit_amount": amount.amount_in_cents,
                        "product_data": {"name": WHAT_IS_BOUGHT},
                    },
                }
            ],
            "success_url": request.return_url,
            "cancel_url": request.return_url,
            "client_reference_id": request.payment_id,
            "metadata": about,
            # What fails before a session completes names the intent alone.
            "payment_intent_data": {"metadata": about},
        }
        if request.opened_at is not None:
            # From the payment's own time: the same again must be word for word the same.
            params["expires_at"] = int((request.opened_at + PAGE_OPEN_FOR).timestamp())
        try:
            with _answered():
                session = self._client.v1.checkout.sessions.create(
                    params, {"idempotency_key": request.payment_id}
                )
        except _RefusedError as refused:
            raise CheckoutRefusedError(refused.code) from None
        if session.url is None:
            raise ProviderUnreachableError("a session without its page")
        return Checkout(session.id, session.url)

    def look_up(self, reference: str) -> CheckoutStatus:
        return _status(self._find(reference))

    def expire_checkout(self, reference: str) -> CheckoutStatus:
        try:
            with _answered():
                self._client.v1.checkout.sessions.expire(reference)
        except _RefusedError:
            # It is not open any more: paid, or expired before.
            return self.look_up(reference)
        return self.look_up(reference)

    def refund(self, request: RefundRequest) -> RefundStatus:
        intent = _intent_of(self._find(request.reference))
        if intent is None:
            return RefundStatus(None, RefundState.FAILED)
        # Stripe forgets idempotency keys after a day; what was made stays in its list.
        made = self._find_refund(intent, request.refund_id)
        if made is not None:
            return made
        try:
            with _answered():
                refund = self._client.v1.refunds.create(
                    {
                        "payment_intent": intent,
                        "amount": request.amount.amount_in_cents,
                        "metadata": {"refund_id": request.refund_id},
                    },
                    {"idempotency_key": request.refund_id},
                )
        except _RefusedError as refused:
            if refused.code in _PASSES:
                raise ProviderUnreachableError(refused.code) from None
            return RefundStatus(None, RefundState.FAILED)
        return _refund_status(refund)

    def look_up_refund(self, reference: str) -> RefundStatus:
        try:
            with _answered():
                return _refund_status(self._client.v1.refunds.retrieve(reference))
        except _RefusedError as refused:
            raise ProviderUnreachableError(refused.code) from None

    def read_webhook(
        self, body: bytes, signature: str, now: datetime
    ) -> ProviderEvent | Unconcerning | WebhookRefusal:
        if not signature:
            return WebhookRefusal.SIGNATURE_MISSING
        try:
            # Its age is judged by our clock, below, and both ways.
            stripe.WebhookSignature.verify_header(  # pyright: ignore[reportUnknownMemberType] -- its `tolerance` has no type
                body, signature, self._webhook_secret
            )
        except (stripe.SignatureVerificationError, UnicodeDecodeError):
            return WebhookRefusal.SIGNATURE_WRONG
        if abs(now.timestamp() - _signed_at_s(signature)) > stripe.Webhook.DEFAULT_TOLERANCE:
            return WebhookRefusal.STALE
        return read_event(body)

    def _find(self, reference: str) -> Session:
        try:
            with _answered():
                return self._client.v1.checkout.sessions.retrieve(
                    reference, {"expand": ["payment_intent"]}
                )
        except _RefusedError as refused:
            # Another account's, or another mode's: what became of it is not known here.
            raise ProviderUnreachableError(refused.code) from None

    def _find_refund(self, intent: str, refund_id: str) -> RefundStatus | None:
        try:
            with _answered():
                made = self._client.v1.refunds.list({"payment_intent": intent, "limit": 100})
                for refund in made.auto_paging_iter():
                    about = {} if refund.metadata is None else refund.metadata.to_dict()
                    if about.get("refund_id") == refund_id:
                        return _refund_status(refund)
        except _RefusedError as refused:
            raise ProviderUnreachableError(refused.code) from None
        return None


@contextmanager
def _answered() -> Generator[None]:
    """Stripe's errors as ours. Their texts stay here: they may quote what was sent."""
    try:
        yield
    except stripe.InvalidRequestError as error:
        raise _RefusedError(error.code) from None
    except stripe.StripeError as error:
        raise ProviderUnreachableError(type(error).__name__) from None


def _status(session: Session) -> CheckoutStatus:
    if session.amount_total is None or session.currency is None:
        raise ProviderUnreachableError("a session without its amount")
    amount = money(session.amount_total, session.currency)
    if session.payment_status == "paid":
        return CheckoutStatus(session.id, CheckoutState.PAID, amount, _intent_of(session))
    return CheckoutStatus(
        session.id, CheckoutState.EXPIRED if _is_over(session) else CheckoutState.OPEN, amount
    )


def _is_over(session: Session) -> bool:
    """Whether nobody can pay there any more; its payment is not made."""
    match session.status:
        case "expired":
            return True
        case "complete":
            # Completed by a way to pay that ends later: over when it was called off.
            intent = session.payment_intent
            return isinstance(intent, stripe.PaymentIntent) and intent.status == "canceled"
        case _:
            return False


def _intent_of(session: Session) -> str | None:
    intent = session.payment_intent
    return intent.id if isinstance(intent, stripe.PaymentIntent) else intent


def _refund_status(refund: stripe.Refund) -> RefundStatus:
    match refund_kind(refund.status):
        case EventKind.REFUND_DONE:
            return RefundStatus(refund.id, RefundState.DONE)
        case EventKind.REFUND_FAILED:
            return RefundStatus(refund.id, RefundState.FAILED)
        case _:
            return RefundStatus(refund.id, RefundState.PENDING)


def _signed_at_s(signature: str) -> int:
    """The time that was signed: the first one named, as the library takes it."""
    return int(next(part[2:] for part in signature.split(",") if part.startswith("t=")))
