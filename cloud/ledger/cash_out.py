"""Unspent Credits back to cards: what is held back, what is paid now, and from which purchases."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, assert_never

import msgspec

from cloud.ledger.postings import Direction, Posting, TransactionType
from protocol.ids import CorrelationId, IdempotencyKey, TransactionId, UserId
from protocol.money import Money

TOKEN_LIFETIME_MAX: Final = timedelta(seconds=120)
CLOCK_SKEW_MAX: Final = timedelta(seconds=60)
"""How far an appliance's clock may be off and still judge a QR's end."""
WAIT_MAX: Final = timedelta(hours=24)
"""What is uploaded later goes to the review list, and never past a person into a wallet."""
OFFLINE_SHARE: Final = 4
"""A QR's offline allowance is this part of the balance at most."""


class CashOutRule(StrEnum):
    """An event's word on unspent Credits."""

    NEVER = "never"
    AFTER_EVENT = "after_event"
    ALWAYS = "always"


class EventRule(msgspec.Struct, frozen=True):
    name: str
    rule: CashOutRule
    ends_at: datetime | None


class Objection(msgspec.Struct, frozen=True):
    """An event whose rule says no."""

    event_name: str
    until: datetime | None
    """Then it says yes; none: nobody knows, or never."""
    is_final: bool


def find_objection(rules: Sequence[EventRule], now: datetime) -> Objection | None:
    """The event that objects, the most final first: one wallet has been to all of these."""
    objections = [each for each in (_object(rule, now) for rule in rules) if each is not None]
    return min(objections, key=_finality, default=None)


class Appliance(msgspec.Struct, frozen=True):
    """One that may hold sales which the cloud has not seen."""

    allowance_in_cents: int
    """What it may at most have sold to one wallet on its own."""
    proves_from: datetime
    """An empty queue from then on is a proof: `proof_begins`."""
    seen_at: datetime | None
    """Its newest heartbeat."""
    is_queue_empty: bool
    """As of then, and nothing in its journal without a final answer."""


def proof_begins(stopped_at: datetime, event_ends_at: datetime | None) -> datetime:
    """From then on no QR with an allowance can be accepted any more.

    `stopped_at`: when the last such QR was signed at the latest; none is signed after the end.
    """
    last = stopped_at if event_ends_at is None else min(stopped_at, event_ends_at)
    return last + TOKEN_LIFETIME_MAX + CLOCK_SKEW_MAX


def most_sold_offline(came_in_cents: int, wallet_max_in_cents: int) -> int:
    """What one appliance may at most have sold to a wallet that all this ever came into."""
    return max(0, min(wallet_max_in_cents, came_in_cents // OFFLINE_SHARE))


def held_back(appliances: Sequence[Appliance], *, waits_until: datetime, now: datetime) -> int:
    """What must stay in the wallet for uploads that may still come; each may bring its own."""
    if now >= waits_until:
        return 0
    return sum(each.allowance_in_cents for each in appliances if not _is_proved(each))


def _is_proved(appliance: Appliance) -> bool:
    seen_at = appliance.seen_at
    return appliance.is_queue_empty and seen_at is not None and seen_at >= appliance.proves_from


class Purchase(msgspec.Struct, frozen=True):
    """A card payment that bought Credits."""

    payment_id: str
    left_in_cents: int
    """What may still go back to its card."""


class Part(msgspec.Struct, frozen=True):
    """What goes back to the card of one purchase."""

    payment_id: str
    amount_in_cents: int


class NotPaidBecause(StrEnum):
    WALLET_FROZEN = "wallet_frozen"
    NOTHING_LEFT = "nothing_left"


class Pay(msgspec.Struct, frozen=True):
    amount_in_cents: int
    parts: tuple[Part, ...]
    """Oldest purchase first; together the amount."""


class Wait(msgspec.Struct, frozen=True):
    held_in_cents: int


Decision = Pay | Wait | NotPaidBecause


class Holdings(msgspec.Struct, frozen=True):
    """What a wallet holds, and where it came from."""

    balance_in_cents: int
    is_frozen: bool
    purchases: tuple[Purchase, ...]
    """Oldest first."""

    @property
    def payable_in_cents(self) -> int:
        """What can go back to cards: what did not come from one has nowhere to go."""
        from_cards = sum(each.left_in_cents for each in self.purchases)
        return max(0, min(self.balance_in_cents, from_cards))

    @property
    def is_barred(self) -> bool:
        """It owes, or somebody froze it: its Credits may be somebody else's."""
        return self.is_frozen or self.balance_in_cents < 0


def decide_cash_out(asked_in_cents: int | None, holdings: Holdings, held_in_cents: int) -> Decision:
    """The smaller of what was asked (none: all) and what there is, unless it touches the hold.

    Sales went on meanwhile: what is left now decides.
    """
    if holdings.is_barred:
        return NotPaidBecause.WALLET_FROZEN
    payable = holdings.payable_in_cents
    amount = payable if asked_in_cents is None else min(asked_in_cents, payable)
    if amount == 0:
        # An upload may take from it, but adds nothing.
        return NotPaidBecause.NOTHING_LEFT
    if amount > holdings.balance_in_cents - held_in_cents and held_in_cents:
        return Wait(held_in_cents)
    return Pay(amount, plan_parts(amount, holdings.purchases))


def plan_parts(amount_in_cents: int, purchases: Sequence[Purchase]) -> tuple[Part, ...]:
    """Oldest purchase first, each at most with what is left of it."""
    parts: list[Part] = []
    rest = amount_in_cents
    for each in purchases:
        part = min(rest, each.left_in_cents)
        if part > 0:
            parts.append(Part(each.payment_id, part))
            rest -= part
    assert rest == 0, "more than was paid by card"
    return tuple(parts)


def deduct_for_cash_out(
    *,
    transaction_id: TransactionId,
    user_id: UserId,
    amount: Money,
    cash_out_id: str,
    idempotency_key: IdempotencyKey,
    at: datetime,
) -> Posting:
    """Out of the wallet, before the provider is asked."""
    return Posting(
        id=transaction_id,
        user_id=user_id,
        type=TransactionType.DEDUCT,
        direction=Direction.OUT,
        amount=amount,
        reference=cash_out_id,
        idempotency_key=idempotency_key,
        correlation_id=CorrelationId(cash_out_id),
        created_at=at,
        created_by=f"user:{user_id}",
    )


def give_back(
    *,
    transaction_id: TransactionId,
    user_id: UserId,
    amount: Money,
    cash_out_id: str,
    idempotency_key: IdempotencyKey,
    reversal_of: TransactionId,
    at: datetime,
) -> Posting:
    """What the provider refused for good, into the wallet again."""
    return Posting(
        id=transaction_id,
        user_id=user_id,
        type=TransactionType.REFUND,
        direction=Direction.IN,
        amount=amount,
        reference=cash_out_id,
        idempotency_key=idempotency_key,
        correlation_id=CorrelationId(cash_out_id),
        created_at=at,
        created_by="system:cash-out",
        reversal_of=reversal_of,
    )


def _object(event: EventRule, now: datetime) -> Objection | None:
    match event.rule:
        case CashOutRule.ALWAYS:
            return None
        case CashOutRule.NEVER:
            return Objection(event.name, None, is_final=True)
        case CashOutRule.AFTER_EVENT:
            if event.ends_at is not None and event.ends_at <= now:
                return None
            return Objection(event.name, event.ends_at, is_final=False)
        case _:
            assert_never(event.rule)


def _finality(objection: Objection) -> tuple[bool, bool, float]:
    """Never; then no known end; then the latest end."""
    until = objection.until
    return (
        not objection.is_final,
        until is not None,
        0.0 if until is None else -until.timestamp(),
    )
