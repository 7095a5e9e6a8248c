"""Wallets with real purchases behind them, a courier's hands, and what must always hold."""

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import select, update

from cloud.operations.cards.card_events import take_provider_event
from cloud.operations.cards.make_card_refunds import make_card_refunds
from cloud.operations.cards.top_up import Payment, start_top_up
from cloud.operations.cash_outs.cash_out import ask_cash_out, withdraw_cash_out
from cloud.operations.cash_outs.cash_out_advance import advance_cash_outs
from cloud.operations.cash_outs.read_cash_outs import CashOut, find_cash_out
from cloud.operations.people.sign_in_attendee import Attendee
from cloud.operations.proof.reconcile import reconcile
from cloud.operations.refusals import Refusal
from cloud.payments.built_in import BuiltInProvider
from cloud.payments.provider import ProviderEvent, ProviderUnreachableError
from cloud.store.tables import (
    card_refunds,
    cash_outs,
    credit_transactions,
    events,
    letters,
    payments,
    users,
)
from protocol.ids import EventId, IdempotencyKey, PayerId, UserId
from protocol.messages import Deduct, JournalPosition
from tests.cloud.floor import CURRENCY, EVENT, Floor, Till, eur
from tests.cloud.operations.box_office import GOOD_CARD, Patron, TouchyProvider

_T = TypeVar("_T")


class PayDesk:
    """An event that always pays out; tills that prove their queues as a test says."""

    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self.bank = BuiltInProvider("http://wallet.test", b"a secret of the test's own")
        self.provider = TouchyProvider(self.bank)
        self.set_rule("always")

    def set_rule(self, rule: str, event_id: str = EVENT, **others: Any) -> None:
        with self.floor.database.transaction() as connection:
            connection.execute(
                update(events).where(events.c.event_id == event_id).values(cash_out=rule, **others)
            )

    # People and what they do.

    def add_patron(self, *cents: int, card: str = GOOD_CARD, email: str | None = None) -> Patron:
        """Someone who topped up with each of these amounts, by this card."""
        guest = self.floor.add_guest(0)
        if email is not None:
            with self.floor.database.transaction() as connection:
                connection.execute(
                    update(users).where(users.c.user_id == UUID(guest.user_id)).values(email=email)
                )
        patron = Patron(Attendee(UserId(guest.user_id), PayerId(guest.payer_id)), guest)
        for each in cents:
            self.top_up(patron, each, card)
        return patron

    def top_up(self, patron: Patron, cents: int, card: str = GOOD_CARD) -> str:
        """The payment's id."""
        opened = start_top_up(
            self.floor.database,
            self.provider,
            patron.attendee,
            eur(cents),
            event_id=EventId(EVENT),
            key=IdempotencyKey(secrets.token_urlsafe(16)),
            return_url="http://wallet.test/",
            now=self.floor.now(),
        )
        assert isinstance(opened, Payment), opened
        self.bank.pay(f"test_{opened.id}", card)
        self.tell()
        return opened.id

    def ask(
        self, patron: Patron, cents: int | None = None, key: str | None = None
    ) -> CashOut | Refusal:
        return ask_cash_out(
            self.floor.database,
            patron.attendee,
            CURRENCY,
            cents,
            key=IdempotencyKey(key or secrets.token_urlsafe(16)),
            now=self.floor.now(),
        )

    def asked(self, patron: Patron, cents: int | None = None) -> CashOut:
        asked = self.ask(patron, cents)
        assert isinstance(asked, CashOut), asked
        return asked

    def withdraw(self, patron: Patron, cash_out: CashOut) -> CashOut | Refusal:
        return withdraw_cash_out(
            self.floor.database, patron.attendee, str(cash_out.id), self.floor.now()
        )

    def buy(self, patron: Patron, till: Till, cents: int) -> Any:
        """Online, at a stall."""
        return self.floor.ask_one(till, till.deduct(self.floor.qr(patron.guest), cents))

    def hear(
        self, till: Till, *, queue: int = 0, is_settled: bool = True, waits: Deduct | None = None
    ) -> None:
        """A heartbeat of the appliance's; `waits`: its oldest sale that was not uploaded."""
        beat = till.heartbeat(queue=queue)
        last = beat.journal.last
        settled_below = last + 1 if is_settled else last
        if waits is not None:
            settled_below = waits.entry
        journal = JournalPosition(till.epoch, last, settled_below, "A" * 43)
        self.floor.ask_one(till, till.heartbeat(queue=queue, journal=journal))

    # The courier, and the provider.

    def advance(self) -> int:
        return advance_cash_outs(self.floor.database, self.floor.now())

    def make_refunds(self) -> int:
        return make_card_refunds(self.floor.database, self.provider, self.floor.now())

    def tell(self) -> None:
        """Deliver what the provider has to tell, once each."""
        now = self.floor.now()
        for event_id, body in self.bank.untold():
            event = self.bank.read_webhook(body, self.bank.sign(body, now), now)
            assert isinstance(event, ProviderEvent), event
            take_provider_event(self.floor.database, event, now)
            self.bank.mark_told(event_id, taken=True)

    def carry(self, rounds: int = 12) -> None:
        """As couriers do, until time has let everything end."""
        for _ in range(rounds):
            self.advance()
            try:
                self.make_refunds()
            except ProviderUnreachableError:
                assert self.provider.is_away or self.provider.loses_answers
            self.tell()
            self.floor.pass_time(hours=1)

    # Looking at what stands.

    def look(self, patron: Patron, cash_out: CashOut) -> CashOut:
        found = find_cash_out(self.floor.database, patron.attendee, str(cash_out.id))
        assert isinstance(found, CashOut), found
        return found

    def rows(self) -> list[Any]:
        with self.floor.database.reading() as connection:
            return list(connection.execute(select(cash_outs).order_by(cash_outs.c.cash_out_id)))

    def refunds(self) -> list[Any]:
        with self.floor.database.reading() as connection:
            return list(connection.execute(select(card_refunds).order_by(card_refunds.c.refund_id)))

    def payment(self, payment_id: str) -> Any:
        with self.floor.database.reading() as connection:
            return connection.execute(
                select(payments).where(payments.c.id == UUID(payment_id))
            ).one()

    def letters(self, kind: str) -> list[Any]:
        with self.floor.database.reading() as connection:
            return [
                row.content
                for row in connection.execute(select(letters).where(letters.c.kind == kind))
            ]

    def given_back(self) -> int:
        """What the provider's own books say went back to cards."""
        with self.bank._books.deed() as books:
            [row] = books.execute(
                "SELECT coalesce(sum(amount_in_cents), 0) FROM refunds WHERE state = 'done'"
            )
        return int(row[0])

    def check(self, *patrons: Patron) -> None:
        """Money is conserved: what was paid in is in wallets, spent, or back on cards."""
        assert reconcile(self.floor.database).is_balanced
        with self.floor.database.reading() as connection:
            for row in self.rows():
                self._check_one(connection, row)
        for patron in patrons:
            self.floor.balance(patron.guest)

    def _check_one(self, connection: Any, row: Any) -> None:
        posted = connection.execute(
            select(credit_transactions)
            .where(credit_transactions.c.reference == str(row.cash_out_id))
            .order_by(credit_transactions.c.id)
        ).all()
        parts = [each for each in self.refunds() if each.cash_out_id == row.cash_out_id]
        if row.state in {"waiting", "withdrawn"}:
            assert (posted, parts) == ([], []), "nothing moved"
            return
        deduct, *reversals = posted
        assert (deduct.type, deduct.id) == ("Deduct", row.transaction_id)
        assert deduct.amount_in_cents == row.amount_in_cents
        assert sum(each.amount_in_cents for each in parts) == row.amount_in_cents
        failed = sum(each.amount_in_cents for each in parts if each.state == "failed")
        assert len(reversals) <= 1
        if row.ended_at is not None:
            assert {each.state for each in parts} <= {"done", "failed"}
            assert sum(each.amount_in_cents for each in reversals) == failed
            for each in reversals:
                assert (each.type, each.reversal_of_transaction_id) == ("Refund", deduct.id)

    def at_once(self, count: int, do: Callable[[int], _T]) -> list[_T]:
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(do, range(count)))
