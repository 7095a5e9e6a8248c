"""An order: tickets held, Credits taken, and all of it paid or a card page opened for the rest."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, insert, select, update
from uuid_utils.compat import uuid7

from cloud.keys import KeyRing
from cloud.ledger.postings import Direction, Posting, TransactionType, Wallet, post
from cloud.operations.cards.card_payments import Purpose, enter_payment, open_card_page
from cloud.operations.once import claim, digest_of, keep
from cloud.operations.orders.order_deeds import carry_out, lock_order, lock_ticket_types
from cloud.operations.orders.order_refusals import explain_order, explain_split, unknown_event
from cloud.operations.orders.read_sale import ticket_type_of
from cloud.operations.orders.settle_order import close_unopened
from cloud.operations.people.sign_in_attendee import Attendee
from cloud.operations.refusals import Code, Refusal
from cloud.payments.provider import CardProvider
from cloud.store.database import Database
from cloud.store.locks import WalletKey, lock_wallets
from cloud.store.postings import write_postings
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.tables import events, order_lines, orders, payments, ticket_types, tickets
from cloud.tickets.codes import TicketClaims, sign_ticket
from cloud.tickets.life import OPEN_FOR, OrderState, place
from cloud.tickets.ordering import (
    EventTerms,
    Line,
    NotOrdered,
    TicketType,
    judge_order,
)
from cloud.tickets.paying import CreditsAsked, NotSplit, Split, split_total
from protocol.encoding import to_base64url
from protocol.ids import CorrelationId, EventId, IdempotencyKey, TransactionId
from protocol.money import Money


@dataclass(frozen=True, slots=True)
class Shop:
    """What a checkout works with."""

    database: Database
    keys: KeyRing
    provider: CardProvider | None
    """None: Credits alone pay here."""


@dataclass(frozen=True, slots=True)
class Basket:
    event_id: EventId
    wanted: Mapping[str, int]
    """How many of each kind, at least one."""
    credits_asked: CreditsAsked


@dataclass(frozen=True, slots=True)
class PlacedOrder:
    """What the same request is answered for good, whatever becomes of the order."""

    order_id: UUID
    event_id: str
    lines: tuple[Line, ...]
    split: Split
    card_page: str | None
    """None: nothing is left to pay."""
    expires_at: datetime | None
    """When the tickets go to others, unless the card part is paid."""

    @property
    def total(self) -> Money:
        return self.split.credits_part + self.split.card_part


def place_order(
    shop: Shop,
    attendee: Attendee,
    basket: Basket,
    *,
    key: IdempotencyKey,
    return_url: str,
    now: datetime,
) -> PlacedOrder | Refusal:
    """The order under this key. The same again: the same order, or the same refusal.

    `return_url` gets `?order=ID&payment=ID` appended.
    """
    actor = f"user:{attendee.user_id}"
    digest = digest_of(basket.event_id, sorted(basket.wanted.items()), basket.credits_asked)
    with shop.database.transaction() as connection:
        answer = claim(connection, actor, key, operation="place_order", digest=digest, now=now)
        if isinstance(answer, Refusal):
            return answer
        if answer is None:
            facts = _gather(connection, attendee, basket)
            decided = _decide(facts, basket, now, has_provider=shop.provider is not None)
            placed = (
                decided
                if isinstance(decided, Refusal)
                else _store(
                    connection,
                    shop,
                    attendee,
                    facts,
                    decided,
                    key=key,
                    return_url=return_url,
                    now=now,
                )
            )
            _record(connection, attendee, basket, placed, now)
            keep(connection, actor, key, _encode(placed))
        else:
            placed = _decode(answer)
    return placed if isinstance(placed, Refusal) else _open_page(shop, placed, now)


# Gather.


@dataclass(frozen=True, slots=True)
class _Facts:
    event: Row[Any] | None
    kinds: Mapping[str, TicketType]
    wallets: Mapping[WalletKey, Wallet]


def _gather(connection: Connection, attendee: Attendee, basket: Basket) -> _Facts:
    # The event first, as whoever applies one does: neither waits for the other in a circle.
    event = connection.execute(
        select(events)
        .where(events.c.event_id == basket.event_id)
        .with_for_update(read=True, key_share=True)
    ).one_or_none()
    if event is None:
        return _Facts(None, {}, {})
    rows = lock_ticket_types(connection, basket.event_id, basket.wanted)
    kinds = {row.ticket_type_id: ticket_type_of(row) for row in rows}
    if basket.credits_asked == 0:
        return _Facts(event, kinds, {})
    return _Facts(event, kinds, lock_wallets(connection, [(attendee.user_id, event.currency)]))


# Decide.


@dataclass(frozen=True, slots=True)
class _Decided:
    lines: tuple[Line, ...]
    split: Split


def _decide(
    facts: _Facts, basket: Basket, now: datetime, *, has_provider: bool
) -> _Decided | Refusal:
    if facts.event is None:
        return unknown_event(basket.event_id)
    terms = EventTerms(facts.event.currency, facts.event.ends_at)
    ordered = judge_order(terms, facts.kinds, basket.wanted, now)
    if isinstance(ordered, NotOrdered):
        return explain_order(ordered)
    [balance] = [wallet.balance for wallet in facts.wallets.values()] or [
        Money.zero(terms.currency)
    ]
    split = split_total(ordered.total, balance, basket.credits_asked)
    if isinstance(split, NotSplit):
        return explain_split(split, ordered.total)
    if split.card_part.amount_in_cents > 0 and not has_provider:
        return Refusal(
            Code.PAYMENTS_OFF,
            "No card provider is set up here, and Credits do not pay it all.",
            "Buy Credits at a counter first; then order under a new key.",
        )
    return _Decided(ordered.lines, split)


# Store.


def _store(
    connection: Connection,
    shop: Shop,
    attendee: Attendee,
    facts: _Facts,
    decided: _Decided,
    *,
    key: IdempotencyKey,
    return_url: str,
    now: datetime,
) -> UUID:
    assert facts.event is not None, "decided on an event"
    event_id, split, order_id = EventId(facts.event.event_id), decided.split, uuid7()
    for line in decided.lines:
        connection.execute(
            update(ticket_types)
            .where(
                ticket_types.c.event_id == event_id,
                ticket_types.c.ticket_type_id == line.ticket_type_id,
            )
            .values(taken=ticket_types.c.taken + line.quantity)
        )
    payment_id = None
    if split.card_part.amount_in_cents > 0:
        assert shop.provider is not None, "decided with a provider"
        payment_id = enter_payment(
            connection,
            provider=shop.provider.name,
            user_id=attendee.row_id,
            amount=split.card_part,
            purpose=Purpose.ORDER,
            return_url=f"{return_url}?order={order_id}&payment=",
            # No header's key has a colon: a top-up of the same attendee never meets it.
            key=IdempotencyKey(f"order:{order_id}"),
            now=now,
            event_id=event_id,
            order_id=order_id,
        ).id
    deduct = _deduct(
        connection, attendee, facts, split.credits_part, order_id=order_id, key=key, now=now
    )
    connection.execute(
        insert(orders).values(
            order_id=order_id,
            user_id=attendee.row_id,
            event_id=event_id,
            state=OrderState.OPEN.value,
            currency=facts.event.currency,
            total_in_cents=(split.credits_part + split.card_part).amount_in_cents,
            credits_in_cents=split.credits_part.amount_in_cents,
            card_in_cents=split.card_part.amount_in_cents,
            idempotency_key=key,
            correlation_id=str(order_id),
            transaction_id=deduct,
            payment_id=payment_id,
            created_at=now,
            expires_at=None if payment_id is None else now + OPEN_FOR,
        )
    )
    connection.execute(
        insert(order_lines),
        [
            {"order_id": order_id, "event_id": event_id, **msgspec.structs.asdict(line)}
            for line in decided.lines
        ],
    )
    connection.execute(insert(tickets), _sign_tickets(shop.keys, event_id, order_id, decided.lines))
    if payment_id is None:
        placed = lock_order(connection, order_id)
        assert placed is not None, "it was just written"
        carry_out(
            connection, placed, place(needs_card=False), actor=f"user:{attendee.user_id}", now=now
        )
    return order_id


def _deduct(
    connection: Connection,
    attendee: Attendee,
    facts: _Facts,
    credits_part: Money,
    *,
    order_id: UUID,
    key: IdempotencyKey,
    now: datetime,
) -> UUID | None:
    if credits_part.amount_in_cents == 0:
        return None
    assert facts.event is not None, "decided on an event"
    posting = Posting(
        id=TransactionId(str(uuid7())),
        user_id=attendee.user_id,
        type=TransactionType.DEDUCT,
        direction=Direction.OUT,
        amount=credits_part,
        reference=str(order_id),
        idempotency_key=key,
        correlation_id=CorrelationId(str(order_id)),
        created_at=now,
        created_by=f"user:{attendee.user_id}",
        event_id=EventId(facts.event.event_id),
        order_id=str(order_id),
    )
    wallet_key = (attendee.user_id, credits_part.currency)
    after = {wallet_key: post(facts.wallets[wallet_key], posting)}
    write_postings(connection, [posting], facts.wallets, after, now)
    return UUID(posting.id)


def _sign_tickets(
    keys: KeyRing, event_id: EventId, order_id: UUID, lines: tuple[Line, ...]
) -> list[dict[str, Any]]:
    """Signed now, so that whoever hears of the payment needs no key; held until then."""
    key, rows = keys.ticket, list[dict[str, Any]]()
    for line in lines:
        for _ in range(line.quantity):
            ticket_id = uuid7()
            claims = TicketClaims(
                1,
                to_base64url(ticket_id.bytes),
                event_id,
                line.ticket_type_id,
                to_base64url(order_id.bytes),
            )
            rows.append(
                {
                    "ticket_id": ticket_id,
                    "order_id": order_id,
                    "event_id": event_id,
                    "ticket_type_id": line.ticket_type_id,
                    "code": sign_ticket(claims, key.private, key.kid),
                    "state": "held",
                }
            )
    return rows


def _record(
    connection: Connection,
    attendee: Attendee,
    basket: Basket,
    placed: UUID | Refusal,
    now: datetime,
) -> None:
    is_refused = isinstance(placed, Refusal)
    write_audit_records(
        connection,
        [
            AuditRow(
                at=now,
                actor=f"user:{attendee.user_id}",
                action="order_placed",
                outcome=placed.code.value if is_refused else "done",
                event_id=None if is_refused else basket.event_id,
                user_id=attendee.user_id,
                subject=basket.event_id if is_refused else str(placed),
                detail={"wanted": dict(basket.wanted)},
            )
        ],
    )


# Answer.


def _open_page(shop: Shop, order_id: UUID, now: datetime) -> PlacedOrder | Refusal:
    """The order as it was placed, with its card page: opened now, where it has none yet."""
    with shop.database.reading() as connection:
        order = connection.execute(select(orders).where(orders.c.order_id == order_id)).one()
        lines = read_lines(connection, order_id)
        card_page = connection.execute(
            select(payments.c.checkout_url).where(payments.c.id == order.payment_id)
        ).scalar_one_or_none()
    if order.payment_id is not None and card_page is None:
        if order.state != OrderState.OPEN or shop.provider is None:
            return _NEVER_OPENED
        opened = open_card_page(shop.database, shop.provider, order.payment_id, now)
        if isinstance(opened, Refusal):
            if opened.code is Code.PAYMENT_REFUSED:
                with shop.database.transaction() as connection:
                    close_unopened(connection, order_id, now)
            return opened
        card_page = opened.card_page
    return PlacedOrder(
        order_id,
        order.event_id,
        lines,
        Split(
            Money(order.credits_in_cents, order.currency),
            Money(order.card_in_cents, order.currency),
        ),
        card_page,
        None if order.payment_id is None else order.created_at + OPEN_FOR,
    )


def read_lines(connection: Connection, order_id: UUID) -> tuple[Line, ...]:
    rows = connection.execute(
        select(order_lines)
        .where(order_lines.c.order_id == order_id)
        .order_by(order_lines.c.ticket_type_id)
    )
    return tuple(
        Line(row.ticket_type_id, row.name, row.quantity, row.unit_price_in_cents) for row in rows
    )


class _Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """What stands under a key: an order, or why there is none."""

    order_id: UUID | None = None
    code: Code | None = None
    detail: str = ""
    next_step: str = ""


_KEPT: Final = msgspec.json.Decoder(_Kept)


def _encode(placed: UUID | Refusal) -> bytes:
    if isinstance(placed, Refusal):
        kept = _Kept(None, placed.code, placed.detail, placed.next_step)
    else:
        kept = _Kept(placed)
    return msgspec.json.encode(kept)


def _decode(answer: bytes) -> UUID | Refusal:
    kept = _KEPT.decode(answer)
    if kept.order_id is not None:
        return kept.order_id
    assert kept.code is not None, "an order, or why there is none"
    return Refusal(kept.code, kept.detail, kept.next_step)


_NEVER_OPENED: Final = Refusal(
    Code.ORDER_CLOSED,
    "The order was closed before its card page was opened; nothing is charged.",
    "Order again, under a new key.",
)
