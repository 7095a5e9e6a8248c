"""What every card provider must do: the same tests speak to each through one of these."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime

import stripe

from cloud.payments.built_in import (
    DECLINED_CARD,
    REFUNDS_FAIL_CARD,
    REFUNDS_WAIT_CARD,
    BuiltInProvider,
)
from cloud.payments.provider import CardProvider, ProviderEvent
from cloud.payments.stripe_cards import StripeProvider
from protocol.money import Money
from tests.cloud.payments.fake_stripe import FakeStripe

NOW = datetime(2026, 6, 20, 18, 0, tzinfo=UTC)
STRIPE_KEY = "sk_test_not_a_key"
STRIPE_WEBHOOK_SECRET = "whsec_not_a_secret"


class Counter(ABC):
    """A provider, and the people on its other side: attendees at its page, its dashboard, banks."""

    provider: CardProvider

    @abstractmethod
    def pay(self, reference: str, refunds: str = "through") -> None:
        """`refunds`: through, slowly, or wrong."""

    @abstractmethod
    def decline(self, reference: str) -> None: ...

    @abstractmethod
    def refund_by_hand(self, reference: str, amount: Money) -> None: ...

    @abstractmethod
    def return_refund(self, name: str) -> None:
        """The card's bank sends back what had been given."""

    @abstractmethod
    def dispute(self, reference: str) -> str: ...

    @abstractmethod
    def win(self, dispute: str) -> None: ...

    @abstractmethod
    def bodies(self) -> Sequence[bytes]:
        """What was told since this was last asked, as webhooks carry it."""

    @abstractmethod
    def sign(self, body: bytes, at: datetime) -> str: ...

    def events(self) -> list[ProviderEvent]:
        """What was told since this was last asked, as the provider's own reader reads it."""
        read = [
            self.provider.read_webhook(body, self.sign(body, NOW), NOW) for body in self.bodies()
        ]
        return [each for each in read if isinstance(each, ProviderEvent)]


class BuiltInCounter(Counter):
    def __init__(self) -> None:
        self.books = BuiltInProvider("https://pay.test", b"a secret of the test's own")
        self.provider = self.books

    def pay(self, reference: str, refunds: str = "through") -> None:
        cards = {"slowly": REFUNDS_WAIT_CARD, "wrong": REFUNDS_FAIL_CARD}
        self.books.pay(reference, cards.get(refunds, "4242424242424242"))

    def decline(self, reference: str) -> None:
        self.books.pay(reference, DECLINED_CARD)

    def refund_by_hand(self, reference: str, amount: Money) -> None:
        self.books.refund_by_hand(reference, amount)

    def return_refund(self, name: str) -> None:
        self.books.fail_refund(name)

    def dispute(self, reference: str) -> str:
        return self.books.open_dispute(reference)

    def win(self, dispute: str) -> None:
        self.books.win_dispute(dispute)

    def bodies(self) -> Sequence[bytes]:
        untold = self.books.untold()
        for event_id, _ in untold:
            self.books.mark_told(event_id, taken=True)
        return [body for _, body in untold]

    def sign(self, body: bytes, at: datetime) -> str:
        return self.books.sign(body, at)


class StripeCounter(Counter):
    def __init__(self, server: FakeStripe) -> None:
        self.server = server
        self.provider = StripeProvider(STRIPE_KEY, STRIPE_WEBHOOK_SECRET, server.url)
        self._disputes: dict[str, dict[str, object]] = {}

    def pay(self, reference: str, refunds: str = "through") -> None:
        statuses = {"through": "succeeded", "slowly": "pending", "wrong": "failed"}
        self.server.pay(reference, refunds_go=statuses[refunds])

    def decline(self, reference: str) -> None:
        self.server.decline(reference)

    def refund_by_hand(self, reference: str, amount: Money) -> None:
        self.server.make_refund(self._intent(reference), amount.amount_in_cents, {})

    def return_refund(self, name: str) -> None:
        self.server.change_refund(name, "failed")

    def dispute(self, reference: str) -> str:
        dispute = self.server.dispute(self._intent(reference))
        self._disputes[dispute["id"]] = dispute
        return dispute["id"]

    def win(self, dispute: str) -> None:
        self.server.close_dispute(self._disputes[dispute], "won")

    def bodies(self) -> Sequence[bytes]:
        told, self.server.events = self.server.events, []
        return [json.dumps(each).encode() for each in told]

    def sign(self, body: bytes, at: datetime) -> str:
        return stripe.WebhookSignature.generate_signature_header(
            body.decode(), STRIPE_WEBHOOK_SECRET, int(at.timestamp())
        )

    def _intent(self, reference: str) -> str:
        return self.server.sessions[reference]["payment_intent"]
