"""Tickets on sale at the small event, a card provider of the test's own, what must always hold."""

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import func, insert, select, update

from cloud.operations.cards.card_events import take_provider_event
from cloud.operations.cards.card_payments import WebhookOutcome
from cloud.operations.cards.make_card_refunds import make_card_refunds
from cloud.operations.orders.check_ticket import TicketCheck, check_ticket
from cloud.operations.orders.checkout import Basket, PlacedOrder, Shop, place_order
from cloud.operations.orders.close_orders import cancel_order, close_expired_orders
from cloud.operations.orders.read_orders import Order, find_order
from cloud.operations.orders.refund_order import OrderRefunded, refund_order
from cloud.operations.people.sign_in_attendee import Attendee
from cloud.operations.proof.reconcile import reconcile
from cloud.operations.refusals import Refusal
from cloud.payments.built_in import BuiltInProvider
from cloud.payments.provider import (
    Checkout,
    CheckoutRequest,
    CheckoutStatus,
    ProviderEvent,
    ProviderUnreachableError,
    RefundRequest,
    RefundStatus,
    Unconcerning,
    WebhookRefusal,
)
from cloud.store.tables import (
    card_refunds,
    letters,
    order_lines,
    orders,
    payments,
    ticket_types,
    tickets,
    users,
)
from cloud.tickets.paying import CreditsAsked
from protocol.ids import EventId, IdempotencyKey, PayerId, UserId
from tests.cloud.floor import EVENT, Floor, Guest

GOOD_CARD = "4242424242424242"
RETURN_URL = "http://wallet.test/"

_T = TypeVar("_T")


@dataclass
class Patron:
    attendee: Attendee
    guest: Guest


@dataclass
class TouchyProvider:
    """The built-in provider, out of reach or cut off in an answer when a test says so."""

    behind: BuiltInProvider
    is_away: bool = False
    loses_answers: bool = False
    asked: list[str] = field(default_factory=list[str])
    before_expiry: Callable[[str], object] = lambda _: None
    after_expiry: Callable[[str], object] = lambda _: None

    @property
    def name(self) -> str:
        return self.behind.name

    def open_checkout(self, request: CheckoutRequest) -> Checkout:
        return self._ask("open_checkout", lambda: self.behind.open_checkout(request))

    def look_up(self, reference: str) -> CheckoutStatus:
        return self._ask("look_up", lambda: self.behind.look_up(reference))

    def expire_checkout(self, reference: str) -> CheckoutStatus:
        self.before_expiry(reference)
        status = self._ask("expire_checkout", lambda: self.behind.expire_checkout(reference))
        self.after_expiry(reference)
        return status

    def refund(self, request: RefundRequest) -> RefundStatus:
        return self._ask("refund", lambda: self.behind.refund(request))

    def look_up_refund(self, reference: str) -> RefundStatus:
        return self._ask("look_up_refund", lambda: self.behind.look_up_refund(reference))

    def read_webhook(
        self, body: bytes, signature: str, now: Any
    ) -> ProviderEvent | Unconcerning | WebhookRefusal:
        return self.behind.read_webhook(body, signature, now)

    def _ask(self, what: str, ask: Callable[[], _T]) -> _T:
        self.asked.append(what)
        if self.is_away:
            raise ProviderUnreachableError
        answer = ask()
        if self.loses_answers:
            raise ProviderUnreachableError
        return answer


class BoxOffice:
    """Adult tickets at 25.00, child tickets free; as many as a test wants."""

    def __init__(self, floor: Floor, stock: int = 50) -> None:
        self.floor = floor
        self.bank = BuiltInProvider("http://wallet.test", b"a secret of the test's own")
        self.provider = TouchyProvider(self.bank)
        with floor.database.transaction() as connection:
            for name, price in (("adult", 2500), ("child", 0)):
                connection.execute(
                    insert(ticket_types).values(
                        event_id=EVENT,
                        ticket_type_id=name,
                        name=name.title(),
                        price_in_cents=price,
                        stock=stock,
                        per_order_max=10,
                    )
                )

    # People and what they do.

    def add_patron(self, balance_in_cents: int = 0, *, has_email: bool = False) -> Patron:
        guest = self.floor.add_guest(balance_in_cents)
        if has_email:
            with self.floor.database.transaction() as connection:
                connection.execute(
                    update(users)
                    .where(users.c.user_id == UUID(guest.user_id))
                    .values(email=f"{guest.user_id}@example.org")
                )
        return Patron(Attendee(UserId(guest.user_id), PayerId(guest.payer_id)), guest)

    def order(
        self,
        patron: Patron,
        adults: int = 1,
        *,
        children: int = 0,
        asked: CreditsAsked = "all",
        key: str | None = None,
        has_provider: bool = True,
    ) -> PlacedOrder | Refusal:
        wanted = {"adult": adults, "child": children}
        return place_order(
            Shop(self.floor.database, self.floor.keys, self.provider if has_provider else None),
            patron.attendee,
            Basket(EVENT, {name: count for name, count in wanted.items() if count}, asked),
            key=IdempotencyKey(key or secrets.token_urlsafe(16)),
            return_url=RETURN_URL,
            now=self.floor.now(),
        )

    def place(self, patron: Patron, adults: int = 1, **asked: Any) -> PlacedOrder:
        placed = self.order(patron, adults, **asked)
        assert isinstance(placed, PlacedOrder), placed
        return placed

    def pay(self, placed: PlacedOrder, number: str = GOOD_CARD) -> str:
        """At the provider's page; what it answers. Nothing is told yet."""
        return self.bank.pay(self.reference(placed), number).value

    def tell(self) -> None:
        """Deliver what the provider has to tell, once each; it is taken."""
        for event_id, body in self.bank.untold():
            outcome = self.take(body)
            assert isinstance(outcome, WebhookOutcome), outcome
            self.bank.mark_told(event_id, taken=True)

    def take(self, body: bytes) -> WebhookOutcome | Refusal:
        now = self.floor.now()
        event = self.bank.read_webhook(body, self.bank.sign(body, now), now)
        assert isinstance(event, ProviderEvent), event
        return take_provider_event(self.floor.database, event, now)

    def close_expired(self) -> int:
        return close_expired_orders(self.floor.database, self.provider, self.floor.now())

    def cancel(self, patron: Patron, placed: PlacedOrder, key: str | None = None) -> Refusal | None:
        return cancel_order(
            self.floor.database,
            self.provider,
            patron.attendee,
            placed.order_id,
            key=IdempotencyKey(key or secrets.token_urlsafe(16)),
            now=self.floor.now(),
        )

    def refund(
        self, placed: PlacedOrder, key: str | None = None, reason: str = "rained off"
    ) -> OrderRefunded | Refusal:
        return refund_order(
            self.floor.database,
            EVENT,
            placed.order_id,
            actor="finance:ida",
            reason=reason,
            key=IdempotencyKey(key or secrets.token_urlsafe(16)),
            now=self.floor.now(),
        )

    def check_code(self, code: str, event_id: str = EVENT) -> TicketCheck:
        return check_ticket(
            self.floor.database,
            self.floor.keys,
            EventId(event_id),
            code,
            actor="ops:door",
            now=self.floor.now(),
        )

    def make_refunds(self) -> None:
        make_card_refunds(self.floor.database, self.provider, self.floor.now())
        self.tell()

    # Looking at what stands.

    def look(self, patron: Patron, placed: PlacedOrder) -> Order:
        found = find_order(self.floor.database, patron.attendee, placed.order_id)
        assert isinstance(found, Order), found
        return found

    def reference(self, placed: PlacedOrder) -> str:
        return str(self.payment(placed).provider_reference)

    def payment(self, placed: PlacedOrder) -> Any:
        with self.floor.database.reading() as connection:
            return connection.execute(
                select(payments).where(payments.c.order_id == placed.order_id)
            ).one()

    def taken(self, name: str = "adult") -> int:
        with self.floor.database.reading() as connection:
            return connection.execute(
                select(ticket_types.c.taken).where(ticket_types.c.ticket_type_id == name)
            ).scalar_one()

    def card_refunds(self) -> list[Any]:
        with self.floor.database.reading() as connection:
            return list(connection.execute(select(card_refunds)))

    def letters(self) -> list[Any]:
        with self.floor.database.reading() as connection:
            return [
                row.content
                for row in connection.execute(select(letters).order_by(letters.c.letter_id))
            ]

    def check(self) -> None:
        """Stock adds up, tickets fit their orders, and the ledger balances."""
        with self.floor.database.reading() as connection:
            held = dict(
                connection.execute(
                    select(order_lines.c.ticket_type_id, func.sum(order_lines.c.quantity))
                    .join(orders, orders.c.order_id == order_lines.c.order_id)
                    .where(orders.c.state.in_(("open", "closing", "paid")))
                    .group_by(order_lines.c.ticket_type_id)
                ).all()
            )
            for kind in connection.execute(select(ticket_types)):
                assert kind.taken == held.get(kind.ticket_type_id, 0), "stock does not add up"
                assert kind.taken <= kind.stock, "oversold"
            for order in connection.execute(select(orders)):
                states = set(
                    connection.execute(
                        select(tickets.c.state).where(tickets.c.order_id == order.order_id)
                    ).scalars()
                )
                assert states == {_TICKETS_ARE[order.state]}, order.state
                is_given_back = order.reversal_transaction_id is not None
                is_over = order.state in {"closed", "cancelled"}
                assert is_given_back == (is_over and order.credits_in_cents > 0)
        assert reconcile(self.floor.database).is_balanced

    def at_once(self, count: int, do: Callable[[int], _T]) -> list[_T]:
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(do, range(count)))


_TICKETS_ARE = {
    "open": "held",
    "closing": "held",
    "paid": "valid",
    "closed": "void",
    "cancelled": "void",
}
