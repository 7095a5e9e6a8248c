"""What we ask of a card provider, and what it tells us; card data stays on its own page."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from protocol.money import Money


class ProviderUnreachableError(Exception):
    """The provider gave no answer: nothing is known, and the same call may be made again."""


@dataclass(frozen=True, slots=True)
class CheckoutRequest:
    payment_id: str
    """Also the provider's idempotency key: asking twice opens one checkout."""
    amount: Money
    return_url: str
    """Where the provider sends the attendee afterwards, paid or not."""


@dataclass(frozen=True, slots=True)
class Checkout:
    reference: str
    """The provider's own name for it, which its webhooks carry."""
    card_page: str


class EventKind(StrEnum):
    PAID = "payment.succeeded"
    FAILED = "payment.failed"


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """A webhook whose signature holds; whether it fits a payment of ours is still to be seen."""

    provider: str
    event_id: str
    kind: EventKind
    reference: str
    amount: Money


class WebhookRefusal(StrEnum):
    """Why a webhook was not believed."""

    SIGNATURE_MISSING = "signature_missing"
    SIGNATURE_WRONG = "signature_wrong"
    STALE = "stale"
    MALFORMED = "malformed"


class CardProvider(Protocol):
    @property
    def name(self) -> str: ...

    def open_checkout(self, request: CheckoutRequest) -> Checkout:
        """A page of the provider's for this payment. Raises ProviderUnreachableError."""
        ...

    def read_webhook(
        self, body: bytes, signature: str, now: datetime
    ) -> ProviderEvent | WebhookRefusal:
        """What the provider says, where it is the provider who says it, just now."""
        ...
