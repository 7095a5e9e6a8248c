"""The built-in card provider, where nobody pays: its own page, its own signed webhooks.

It keeps no state: a checkout is named by what it is about, signed, so that a restart loses none and
paying twice is one event under one id.
"""

import hashlib
import hmac
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec

from cloud.payments.provider import (
    Checkout,
    CheckoutRequest,
    EventKind,
    ProviderEvent,
    WebhookRefusal,
)
from cloud.payments.webhook_signature import refuse_webhook, sign_webhook
from protocol.encoding import from_base64url, to_base64url
from protocol.money import Money

NAME: Final = "test"
PATH: Final = "/test-provider"
DECLINED_CARD: Final = "4000000000000002"
WEBHOOK_BYTES_MAX: Final = 4096


class CardAnswer(StrEnum):
    PAID = "paid"
    DECLINED = "declined"
    NOT_A_CARD = "not_a_card"


class OpenCheckout(msgspec.Struct, frozen=True):
    """What a checkout's address says."""

    payment_id: str
    amount: Money
    return_url: str

    @property
    def reference(self) -> str:
        return f"test_{self.payment_id}"


class Webhook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    type: Literal["payment.succeeded", "payment.failed"]
    reference: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    amount: Money


_WEBHOOK: Final = msgspec.json.Decoder(Webhook)
_CHECKOUT: Final = msgspec.json.Decoder(OpenCheckout)


class BuiltInProvider:
    """The provider's side of the counter; `cloud.api` serves its page and delivers its webhooks."""

    def __init__(self, base_url: str, secret: bytes) -> None:
        self._base_url = base_url.rstrip("/")
        self._secret = secret

    @property
    def name(self) -> str:
        return NAME

    def open_checkout(self, request: CheckoutRequest) -> Checkout:
        opened = OpenCheckout(request.payment_id, request.amount, request.return_url)
        named = msgspec.json.encode(opened)
        address = f"{to_base64url(named)}.{to_base64url(self._seal(named))}"
        return Checkout(opened.reference, f"{self._base_url}{PATH}/pay/{address}")

    def find_checkout(self, address: str) -> OpenCheckout | None:
        """The checkout behind its address, where the address is one of ours."""
        named, _, seal = address.partition(".")
        raw, mac = from_base64url(named.encode()), from_base64url(seal.encode())
        if raw is None or mac is None or not hmac.compare_digest(self._seal(raw), mac):
            return None
        return _CHECKOUT.decode(raw)

    def answer_card(self, number: str) -> CardAnswer:
        """Any well-formed number pays, save the one for trying a decline."""
        digits = "".join(number.split())
        if not (digits.isascii() and digits.isdecimal() and 13 <= len(digits) <= 19):
            return CardAnswer.NOT_A_CARD
        return CardAnswer.DECLINED if digits == DECLINED_CARD else CardAnswer.PAID

    def webhook(self, checkout: OpenCheckout, kind: EventKind) -> bytes:
        """What is told to the merchant; the same event has the same id however often it is told."""
        event_id = f"evt_{checkout.payment_id}_{kind.name.lower()}"
        return msgspec.json.encode(
            Webhook(event_id, kind.value, checkout.reference, checkout.amount)
        )

    def sign(self, body: bytes, now: datetime) -> str:
        return sign_webhook(body, self._secret, now)

    def read_webhook(
        self, body: bytes, signature: str, now: datetime
    ) -> ProviderEvent | WebhookRefusal:
        refusal = refuse_webhook(body, signature, self._secret, now)
        if refusal is not None:
            return refusal
        if len(body) > WEBHOOK_BYTES_MAX:
            return WebhookRefusal.MALFORMED
        try:
            said = _WEBHOOK.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
            return WebhookRefusal.MALFORMED
        if said.amount.amount_in_cents <= 0:
            return WebhookRefusal.MALFORMED
        return ProviderEvent(NAME, said.id, EventKind(said.type), said.reference, said.amount)

    def _seal(self, named: bytes) -> bytes:
        # Another context than a webhook's: an address never passes for a signed webhook.
        return hmac.new(self._secret, b"checkout|" + named, hashlib.sha256).digest()
