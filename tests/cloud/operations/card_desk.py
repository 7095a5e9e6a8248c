"""An attendee who buys Credits by card at the built-in provider, without the HTTP edge."""

import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import select, update

from cloud.operations.cards.card_events import take_provider_event
from cloud.operations.cards.card_payments import Payment, PaymentState, WebhookOutcome, lock_payment
from cloud.operations.cards.card_refunds import RefundReason, ask_card_refund
from cloud.operations.cards.make_card_refunds import make_card_refunds
from cloud.operations.cards.poll_payments import poll_payments
from cloud.operations.cards.top_up import start_top_up
from cloud.operations.people.sign_in_attendee import Attendee
from cloud.operations.refusals import Refusal
from cloud.payments.built_in import BuiltInProvider
from cloud.payments.provider import (
    CardProvider,
    Checkout,
    CheckoutRequest,
    CheckoutStatus,
    EventKind,
    ProviderEvent,
    ProviderUnreachableError,
    RefundRequest,
    RefundStatus,
    Unconcerning,
    WebhookRefusal,
)
from cloud.store.tables import card_refunds, credit_wallets, letters, payments, users
from protocol.ids import EventId, IdempotencyKey, PayerId, UserId
from protocol.money import Money
from tests.cloud.floor import Floor, Guest, eur

GOOD_CARD = "4242424242424242"
Told = WebhookOutcome | Refusal


class Shaky:
    """A provider whose answers get lost: the calls named in `lost` are done, and not answered;
    those in `down` are not even done."""

    def __init__(self, behind: CardProvider) -> None:
        self.behind = behind
        self.down: set[str] = set()
        self.lost: set[str] = set()
        self.asked: list[str] = []

    @property
    def name(self) -> str:
        return self.behind.name

    def open_checkout(self, request: CheckoutRequest) -> Checkout:
        return self._ask("open_checkout", request)

    def look_up(self, reference: str) -> CheckoutStatus:
        return self._ask("look_up", reference)

    def expire_checkout(self, reference: str) -> CheckoutStatus:
        return self._ask("expire_checkout", reference)

    def refund(self, request: RefundRequest) -> RefundStatus:
        return self._ask("refund", request)

    def look_up_refund(self, reference: str) -> RefundStatus:
        return self._ask("look_up_refund", reference)

    def read_webhook(
        self, body: bytes, signature: str, now: Any
    ) -> ProviderEvent | Unconcerning | WebhookRefusal:
        return self.behind.read_webhook(body, signature, now)

    def _ask(self, call: str, said: object) -> Any:
        self.asked.append(call)
        if call in self.down:
            raise ProviderUnreachableError
        answer = getattr(self.behind, call)(said)
        if call in self.lost:
            raise ProviderUnreachableError
        return answer


class CardDesk:
    def __init__(self, floor: Floor, books: Path | None = None) -> None:
        """`books`: the provider's own file, where another program opens it too."""
        self.floor = floor
        self.books = BuiltInProvider("https://pay.test", b"a secret of the test's own", books)
        self.provider = Shaky(self.books)

    # Buying.

    def start(
        self, guest: Guest, cents: int = 2000, key: str | None = None, event_id: str | None = None
    ) -> Payment | Refusal:
        return start_top_up(
            self.floor.database,
            self.provider,
            Attendee(UserId(guest.user_id), PayerId(guest.payer_id)),
            eur(cents),
            event_id=None if event_id is None else EventId(event_id),
            key=IdempotencyKey(key or secrets.token_urlsafe(18)),
            return_url="https://wallet.test/",
            now=self.floor.now(),
        )

    def open(self, guest: Guest, cents: int = 2000) -> Payment:
        started = self.start(guest, cents)
        assert isinstance(started, Payment), started
        return started

    def buy(self, guest: Guest, cents: int = 2000, card: str = GOOD_CARD) -> Payment:
        """Paid, and told."""
        payment = self.open(guest, cents)
        self.pay(payment, card)
        assert self.tell_all()[0] is WebhookOutcome.CREDITED
        return payment

    def pay(self, payment: Payment, card: str = GOOD_CARD) -> None:
        assert payment.reference is not None
        self.books.pay(payment.reference, card)

    # Telling.

    def untold(self) -> list[ProviderEvent]:
        now = self.floor.now()
        read = [
            self.books.read_webhook(body, self.books.sign(body, now), now)
            for _, body in self.books.untold()
        ]
        return [each for each in read if isinstance(each, ProviderEvent)]

    def forget_webhooks(self) -> None:
        for event_id, _ in self.books.untold():
            self.books.mark_told(event_id, taken=False)

    def tell_all(self) -> list[Told]:
        outcomes = [self.tell(each) for each in self.untold()]
        self.forget_webhooks()
        return outcomes

    def tell(self, event: ProviderEvent) -> Told:
        return take_provider_event(self.floor.database, event, self.floor.now())

    def event(self, payment: Payment, kind: EventKind = EventKind.PAID, **changes: Any) -> Any:
        """As the provider would tell of this payment, under a new id."""
        assert payment.reference is not None
        event = ProviderEvent(
            "test", f"evt_{secrets.token_hex(8)}", kind, payment.reference, payment.amount
        )
        return replace(event, **changes)

    # The courier's rounds.

    def poll(self) -> int:
        return poll_payments(self.floor.database, self.provider, self.floor.now())

    def make_refunds(self) -> int:
        return make_card_refunds(self.floor.database, self.provider, self.floor.now())

    def ask_refund(
        self,
        payment: Payment,
        cents: int,
        reason: RefundReason = RefundReason.CANCELLED_ORDER,
        **about: Any,
    ) -> UUID:
        with self.floor.database.transaction() as connection:
            locked = lock_payment(connection, UUID(payment.id))
            return ask_card_refund(
                connection,
                payment=locked.payment,
                amount=eur(cents),
                reason=reason,
                now=self.floor.now(),
                **about,
            )

    # Looking at what stands.

    def row(self, payment: Payment) -> Any:
        with self.floor.database.reading() as connection:
            return connection.execute(
                select(payments).where(payments.c.id == UUID(payment.id))
            ).one()

    def state(self, payment: Payment) -> PaymentState:
        return PaymentState(self.row(payment).state)

    def refund_rows(self, payment: Payment) -> list[Any]:
        with self.floor.database.reading() as connection:
            return list(
                connection.execute(
                    select(card_refunds)
                    .where(card_refunds.c.payment_id == UUID(payment.id))
                    .order_by(card_refunds.c.refund_id)
                )
            )

    def is_frozen(self, guest: Guest) -> bool:
        with self.floor.database.reading() as connection:
            return connection.execute(
                select(credit_wallets.c.offline_frozen).where(
                    credit_wallets.c.user_id == UUID(guest.user_id)
                )
            ).scalar_one()

    def give_address(self, guest: Guest, address: str) -> None:
        with self.floor.database.transaction() as connection:
            connection.execute(
                update(users).where(users.c.user_id == UUID(guest.user_id)).values(email=address)
            )

    def letters(self) -> list[Any]:
        with self.floor.database.reading() as connection:
            return list(connection.execute(select(letters).order_by(letters.c.letter_id)))

    def kinds(self, guest: Guest) -> list[tuple[str, str, int]]:
        return [
            (row.type, row.direction, row.amount_in_cents) for row in self.floor.transactions(guest)
        ]


def code_of(told: object) -> str:
    assert isinstance(told, Refusal), told
    return told.code.value


def money(cents: int, currency: str = "EUR") -> Money:
    return Money(cents, currency)
