"""The built-in card provider, where nobody pays: its own page, books and signed webhooks."""

import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import msgspec
from uuid_utils.compat import uuid7

from cloud.payments.built_in_books import Books
from cloud.payments.provider import (
    Checkout,
    CheckoutRequest,
    CheckoutState,
    CheckoutStatus,
    EventKind,
    ProviderEvent,
    ProviderUnreachableError,
    RefundRequest,
    RefundState,
    RefundStatus,
    WebhookRefusal,
)
from cloud.payments.webhook_signature import refuse_webhook, sign_webhook
from protocol.money import Money

NAME: Final = "test"
PATH: Final = "/test-provider"
BOOKS: Final = "test-provider.sqlite"
"""The file's name in the state folder."""

DECLINED_CARD: Final = "4000000000000002"
REFUNDS_FAIL_CARD: Final = "4000000000005126"
REFUNDS_WAIT_CARD: Final = "4000000000007726"
DISPUTED_CARD: Final = "4000000000000259"
WEBHOOK_BYTES_MAX: Final = 4096


class CardAnswer(StrEnum):
    PAID = "paid"
    DECLINED = "declined"
    NOT_A_CARD = "not_a_card"
    EXPIRED = "expired"
    """The checkout was closed: nobody can pay there any more."""


class _RefundsGo(StrEnum):
    """How refunds to a card go; a card for trying each."""

    THROUGH = "through"
    WRONG = "wrong"
    SLOWLY = "slowly"


_REFUNDS_GO: Final = {
    REFUNDS_FAIL_CARD: _RefundsGo.WRONG,
    REFUNDS_WAIT_CARD: _RefundsGo.SLOWLY,
}


@dataclass(frozen=True, slots=True)
class HostedCheckout:
    """What the hosted page shows."""

    payment_id: str
    reference: str
    amount: Money
    return_url: str
    state: CheckoutState


_NAMED: Final = frozenset(
    {
        EventKind.REFUND_DONE,
        EventKind.REFUND_FAILED,
        EventKind.DISPUTED,
        EventKind.DISPUTE_WON,
    }
)
"""About a refund or a dispute, which has a name of its own."""
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Webhook(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    id: _Name
    type: EventKind
    reference: _Name
    amount: Money
    refund_id: _Name | None = None
    about: _Name | None = None


_WEBHOOK: Final = msgspec.json.Decoder(Webhook)


class BuiltInProvider:
    """The provider's side of the counter; `cloud.api` serves its page and delivers its webhooks."""

    def __init__(self, base_url: str, secret: bytes, books: Path | None = None) -> None:
        """`books`: the file it keeps; None: in memory, gone with this object."""
        self._base_url = base_url.rstrip("/")
        self._secret = secret
        self._books = Books(books)

    @property
    def name(self) -> str:
        return NAME

    # What a merchant asks.

    def open_checkout(self, request: CheckoutRequest) -> Checkout:
        with self._books.deed() as books:
            books.execute(
                "INSERT OR IGNORE INTO checkouts VALUES (?, ?, ?, ?, ?, ?, 'open', NULL)",
                (
                    f"test_{request.payment_id}",
                    request.payment_id,
                    secrets.token_urlsafe(24),
                    request.amount.amount_in_cents,
                    request.amount.currency,
                    request.return_url,
                ),
            )
            row = books.execute(
                "SELECT * FROM checkouts WHERE payment_id = ?", (request.payment_id,)
            ).fetchone()
        stands = _checkout(row)
        assert stands.amount == request.amount, "one payment, one amount"
        return Checkout(stands.reference, f"{self._base_url}{PATH}/pay/{row['address']}")

    def look_up(self, reference: str) -> CheckoutStatus:
        with self._books.deed() as books:
            return _status(_find(books, reference))

    def expire_checkout(self, reference: str) -> CheckoutStatus:
        with self._books.deed() as books:
            checkout = _find(books, reference)
            if checkout.state is CheckoutState.OPEN:
                _move(books, checkout, CheckoutState.EXPIRED)
                _tell(books, EventKind.EXPIRED, reference, checkout.amount)
            return _status(_find(books, reference))

    def refund(self, request: RefundRequest) -> RefundStatus:
        with self._books.deed() as books:
            stands = books.execute(
                "SELECT * FROM refunds WHERE refund_id = ?", (request.refund_id,)
            ).fetchone()
            if stands is not None:
                return _refund_status(stands)
            checkout = _find(books, request.reference)
            state = _answer_refund(books, checkout, request.amount)
            return _make_refund(books, checkout, request.amount, state, request.refund_id)

    def look_up_refund(self, reference: str) -> RefundStatus:
        """One that waits is done when it is looked up."""
        with self._books.deed() as books:
            row = books.execute("SELECT * FROM refunds WHERE name = ?", (reference,)).fetchone()
            if row is None:
                raise ProviderUnreachableError("no such refund here")
            if row["state"] != RefundState.PENDING:
                return _refund_status(row)
            books.execute("UPDATE refunds SET state = 'done' WHERE name = ?", (reference,))
            checkout = _find(books, row["reference"])
            amount = Money(row["amount_in_cents"], checkout.amount.currency)
            _tell(
                books,
                EventKind.REFUND_DONE,
                checkout.reference,
                amount,
                refund_id=row["refund_id"],
                about=reference,
            )
            return RefundStatus(reference, RefundState.DONE)

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
        if said.amount.amount_in_cents <= 0 or (said.type in _NAMED and said.about is None):
            return WebhookRefusal.MALFORMED
        return ProviderEvent(
            NAME, said.id, said.type, said.reference, said.amount, said.refund_id, said.about
        )

    # What somebody at the hosted page does.

    def find_checkout(self, address: str) -> HostedCheckout | None:
        """The checkout behind its address, where the address is one of ours."""
        with self._books.deed() as books:
            row = books.execute("SELECT * FROM checkouts WHERE address = ?", (address,)).fetchone()
        return None if row is None else _checkout(row)

    def pay(self, reference: str, number: str) -> CardAnswer:
        """Any well-formed number pays, save those for trying what goes wrong."""
        digits = "".join(number.split())
        if not (digits.isascii() and digits.isdecimal() and 13 <= len(digits) <= 19):
            return CardAnswer.NOT_A_CARD
        with self._books.deed() as books:
            checkout = _find(books, reference)
            match checkout.state:
                case CheckoutState.PAID:
                    return CardAnswer.PAID
                case CheckoutState.EXPIRED:
                    return CardAnswer.EXPIRED
                case CheckoutState.OPEN:
                    pass
            if digits == DECLINED_CARD:
                _tell(books, EventKind.FAILED, reference, checkout.amount)
                return CardAnswer.DECLINED
            refunds_go = _REFUNDS_GO.get(digits, _RefundsGo.THROUGH)
            _move(books, checkout, CheckoutState.PAID, refunds_go)
            _tell(books, EventKind.PAID, reference, checkout.amount)
            if digits == DISPUTED_CARD:
                _open_dispute(books, checkout)
            return CardAnswer.PAID

    # What somebody does in the provider's dashboard, or at the card's bank.

    def refund_by_hand(self, reference: str, amount: Money) -> RefundStatus:
        """A refund that the merchant's programs did not ask for."""
        with self._books.deed() as books:
            checkout = _find(books, reference)
            state = _answer_refund(books, checkout, amount)
            return _make_refund(books, checkout, amount, state, None)

    def fail_refund(self, name: str) -> None:
        """The card's bank sends back what was given: its money is with the provider again."""
        with self._books.deed() as books:
            row = books.execute("SELECT * FROM refunds WHERE name = ?", (name,)).fetchone()
            assert row is not None, "a refund of this provider's"
            books.execute("UPDATE refunds SET state = 'failed' WHERE name = ?", (name,))
            checkout = _find(books, row["reference"])
            _tell(
                books,
                EventKind.REFUND_FAILED,
                checkout.reference,
                Money(row["amount_in_cents"], checkout.amount.currency),
                refund_id=row["refund_id"],
                about=name,
            )

    def open_dispute(self, reference: str) -> str:
        """The card's bank takes the money back; the dispute's name."""
        with self._books.deed() as books:
            return _open_dispute(books, _find(books, reference))

    def win_dispute(self, name: str) -> None:
        """The bank gives it back after all."""
        with self._books.deed() as books:
            row = books.execute("SELECT * FROM disputes WHERE name = ?", (name,)).fetchone()
            assert row is not None, "a dispute of this provider's"
            books.execute("UPDATE disputes SET state = 'won' WHERE name = ?", (name,))
            checkout = _find(books, row["reference"])
            amount = Money(row["amount_in_cents"], checkout.amount.currency)
            _tell(books, EventKind.DISPUTE_WON, checkout.reference, amount, about=name)

    # What is told to the merchant.

    def sign(self, body: bytes, now: datetime) -> str:
        return sign_webhook(body, self._secret, now)

    def untold(self) -> Sequence[tuple[str, bytes]]:
        """The events that the merchant did not take yet, by id, oldest first."""
        with self._books.deed() as books:
            rows = books.execute(
                "SELECT event_id, body FROM events WHERE state = 'untold' ORDER BY rowid"
            ).fetchall()
        return [(row["event_id"], bytes(row["body"])) for row in rows]

    def mark_told(self, event_id: str, *, taken: bool) -> None:
        """The merchant took it, or is not told any more."""
        with self._books.deed() as books:
            books.execute(
                "UPDATE events SET state = ? WHERE event_id = ?",
                ("told" if taken else "given_up", event_id),
            )


def _find(books: sqlite3.Connection, reference: str) -> HostedCheckout:
    row = books.execute("SELECT * FROM checkouts WHERE reference = ?", (reference,)).fetchone()
    if row is None:
        # Its books were lost, or it is another's: what became of it is not known here.
        raise ProviderUnreachableError("no such checkout here")
    return _checkout(row)


def _checkout(row: sqlite3.Row) -> HostedCheckout:
    return HostedCheckout(
        row["payment_id"],
        row["reference"],
        Money(row["amount_in_cents"], row["currency"]),
        row["return_url"],
        CheckoutState(row["state"]),
    )


def _status(checkout: HostedCheckout) -> CheckoutStatus:
    return CheckoutStatus(checkout.reference, checkout.state, checkout.amount)


def _move(
    books: sqlite3.Connection,
    checkout: HostedCheckout,
    state: CheckoutState,
    refunds_go: _RefundsGo | None = None,
) -> None:
    books.execute(
        "UPDATE checkouts SET state = ?, refunds_go = ? WHERE reference = ?",
        (state.value, None if refunds_go is None else refunds_go.value, checkout.reference),
    )


def _answer_refund(
    books: sqlite3.Connection, checkout: HostedCheckout, amount: Money
) -> RefundState:
    """Never more than was paid and is still here."""
    if checkout.state is not CheckoutState.PAID or amount.currency != checkout.amount.currency:
        return RefundState.FAILED
    gone = books.execute(
        "SELECT coalesce((SELECT sum(amount_in_cents) FROM refunds"
        " WHERE reference = :reference AND state <> 'failed'), 0)"
        " + coalesce((SELECT sum(amount_in_cents) FROM disputes"
        " WHERE reference = :reference AND state = 'open'), 0)",
        {"reference": checkout.reference},
    ).fetchone()[0]
    if amount.amount_in_cents > checkout.amount.amount_in_cents - gone:
        return RefundState.FAILED
    goes = books.execute(
        "SELECT refunds_go FROM checkouts WHERE reference = ?", (checkout.reference,)
    ).fetchone()[0]
    match _RefundsGo(goes):
        case _RefundsGo.THROUGH:
            return RefundState.DONE
        case _RefundsGo.WRONG:
            return RefundState.FAILED
        case _RefundsGo.SLOWLY:
            return RefundState.PENDING


def _make_refund(
    books: sqlite3.Connection,
    checkout: HostedCheckout,
    amount: Money,
    state: RefundState,
    refund_id: str | None,
) -> RefundStatus:
    name = f"tr_{uuid7()}"
    books.execute(
        "INSERT INTO refunds VALUES (?, ?, ?, ?, ?)",
        (name, refund_id, checkout.reference, amount.amount_in_cents, state.value),
    )
    if state is not RefundState.PENDING:
        kind = EventKind.REFUND_DONE if state is RefundState.DONE else EventKind.REFUND_FAILED
        _tell(books, kind, checkout.reference, amount, refund_id=refund_id, about=name)
    return RefundStatus(name, state)


def _refund_status(row: sqlite3.Row) -> RefundStatus:
    return RefundStatus(row["name"], RefundState(row["state"]))


def _open_dispute(books: sqlite3.Connection, checkout: HostedCheckout) -> str:
    name = f"td_{uuid7()}"
    books.execute(
        "INSERT INTO disputes VALUES (?, ?, ?, 'open')",
        (name, checkout.reference, checkout.amount.amount_in_cents),
    )
    _tell(books, EventKind.DISPUTED, checkout.reference, checkout.amount, about=name)
    return name


def _tell(
    books: sqlite3.Connection,
    kind: EventKind,
    reference: str,
    amount: Money,
    *,
    refund_id: str | None = None,
    about: str | None = None,
) -> None:
    """Put an event down in the same deed; it is told until the merchant takes it."""
    said = Webhook(
        id=f"evt_{uuid7()}",
        type=kind,
        reference=reference,
        amount=amount,
        refund_id=refund_id,
        about=about,
    )
    books.execute(
        "INSERT INTO events VALUES (?, ?, 'untold')", (said.id, msgspec.json.encode(said))
    )
