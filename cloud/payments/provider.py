"""What we ask of a card provider, and what it tells us; card data stays on its own page."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from protocol.money import Money


class ProviderUnreachableError(Exception):
    """The provider gave no answer: nothing is known, and the same call may be made again."""


class CheckoutRefusedError(Exception):
    """The provider will not open this checkout: there is none, and nobody can have paid there."""


@dataclass(frozen=True, slots=True)
class CheckoutRequest:
    payment_id: str
    """Also the provider's idempotency key: asking twice opens one checkout."""
    amount: Money
    return_url: str
    """Where the provider sends the attendee afterwards, paid or not."""
    opened_at: datetime | None = None
    """When it was first asked for: what a provider's own time limit counts from."""


@dataclass(frozen=True, slots=True)
class Checkout:
    reference: str
    """The provider's own name for it, which its webhooks carry."""
    card_page: str


class CheckoutState(StrEnum):
    OPEN = "open"
    PAID = "paid"
    EXPIRED = "expired"
    """Nobody can pay there any more, and nobody has."""


@dataclass(frozen=True, slots=True)
class CheckoutStatus:
    reference: str
    state: CheckoutState
    amount: Money
    """What it was opened for."""
    charge: str | None = None
    """What the provider calls the money itself, once it was paid."""


class RefundState(StrEnum):
    PENDING = "pending"
    """On its way; a webhook or a look-up says how it ended."""
    DONE = "done"
    FAILED = "failed"
    """For good: the money is still with the provider."""


@dataclass(frozen=True, slots=True)
class RefundRequest:
    refund_id: str
    """Also the provider's idempotency key: asking twice gives back once."""
    reference: str
    """Of the checkout that was paid."""
    amount: Money
    """All of it or a part."""


@dataclass(frozen=True, slots=True)
class RefundStatus:
    reference: str | None
    """The provider's own name for the refund; none where it refused to make one."""
    state: RefundState


class EventKind(StrEnum):
    PAID = "payment.succeeded"
    FAILED = "payment.failed"
    EXPIRED = "payment.expired"
    REFUND_DONE = "refund.succeeded"
    """Ours, or one made in the provider's dashboard: `refund_id` tells which."""
    REFUND_FAILED = "refund.failed"
    DISPUTED = "dispute.opened"
    """A chargeback: the bank took the money back."""
    DISPUTE_WON = "dispute.won"


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """A webhook whose signature holds; whether it fits a payment of ours is still to be seen."""

    provider: str
    event_id: str
    kind: EventKind
    reference: str
    """Of the checkout; or of the charge, where the provider names no more than that."""
    amount: Money
    """Paid, refunded or disputed."""
    refund_id: str | None = None
    """Ours, where the event is about a refund that we asked for."""
    about: str | None = None
    """The provider's name for the refund or the dispute: each counts once."""
    charge: str | None = None
    """What the provider calls the money itself, where it was just paid."""
    payment_id: str | None = None
    """Ours, where the provider says it back."""


@dataclass(frozen=True, slots=True)
class Unconcerning:
    """A webhook whose signature holds, about nothing that moves money here."""

    provider: str
    event_id: str
    type: str


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
        """A page of the provider's for this payment.

        Raises ProviderUnreachableError, CheckoutRefusedError.
        """
        ...

    def look_up(self, reference: str) -> CheckoutStatus:
        """What became of a checkout. Raises ProviderUnreachableError."""
        ...

    def expire_checkout(self, reference: str) -> CheckoutStatus:
        """Close it and confirm: EXPIRED, or PAID where somebody was faster.

        Expiring it twice changes nothing. Raises ProviderUnreachableError.
        """
        ...

    def refund(self, request: RefundRequest) -> RefundStatus:
        """Give back to the card. Raises ProviderUnreachableError."""
        ...

    def look_up_refund(self, reference: str) -> RefundStatus:
        """What became of a refund. Raises ProviderUnreachableError."""
        ...

    def read_webhook(
        self, body: bytes, signature: str, now: datetime
    ) -> ProviderEvent | Unconcerning | WebhookRefusal:
        """What the provider says, where it is the provider who says it, just now."""
        ...
