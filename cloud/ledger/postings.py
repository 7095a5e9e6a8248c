"""Postings, and the wallet as their sum: the only arithmetic that moves money."""

from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from protocol.ids import (
    CorrelationId,
    DeviceId,
    EventId,
    IdempotencyKey,
    StaffId,
    StallId,
    TransactionId,
    UserId,
)
from protocol.messages import SaleLine
from protocol.money import Money


class TransactionType(StrEnum):
    """The specification's four; the sign follows from the type, save for an adjustment."""

    PURCHASE = "Purchase"
    DEDUCT = "Deduct"
    REFUND = "Refund"
    ADJUSTMENT = "Adjustment"


class Direction(StrEnum):
    IN = "in"
    OUT = "out"


_DIRECTION_OF: Final = {
    TransactionType.PURCHASE: Direction.IN,
    TransactionType.DEDUCT: Direction.OUT,
    TransactionType.REFUND: Direction.IN,
}


class Posting(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the ledger: written once, never changed."""

    id: TransactionId
    user_id: UserId
    type: TransactionType
    direction: Direction
    amount: Money
    """Positive; `direction` has the sign."""
    reference: str
    """The card provider's id, the receipt's short code, or the order."""
    idempotency_key: IdempotencyKey
    correlation_id: CorrelationId
    created_at: datetime
    created_by: str
    """`kind:id`."""
    reversal_of: TransactionId | None = None
    event_id: EventId | None = None
    stall_id: StallId | None = None
    device_id: DeviceId | None = None
    staff_id: StaffId | None = None
    order_id: str | None = None
    lines: tuple[SaleLine, ...] = ()
    accepted_offline_at: datetime | None = None
    """When a till took the sale by its policy alone; none: the cloud decided it."""

    def __post_init__(self) -> None:
        assert self.amount.amount_in_cents > 0, "a posting of nothing"
        expected = _DIRECTION_OF.get(self.type)
        assert expected in {None, self.direction}, f"a {self.type} goes {expected}"

    @property
    def signed_amount(self) -> Money:
        """What it adds to the balance."""
        return self.amount if self.direction is Direction.IN else -self.amount


class Wallet(msgspec.Struct, frozen=True):
    """One user's Credits in one currency: the sum of that wallet's postings."""

    user_id: UserId
    balance: Money
    offline_frozen: bool = False
    """No offline allowance: it owes, or a person froze it."""

    @classmethod
    def empty(cls, user_id: UserId, currency: str) -> "Wallet":
        return cls(user_id, Money.zero(currency))


def post(wallet: Wallet, posting: Posting) -> Wallet:
    """The wallet after the posting.

    One that owes is frozen for offline use; the top-up that pays the debt lifts that, and lifts
    nothing where a person froze a wallet that owed nothing.
    """
    assert wallet.user_id == posting.user_id, "a posting in another's wallet"
    balance = wallet.balance + posting.signed_amount
    owed, owes = wallet.balance.amount_in_cents < 0, balance.amount_in_cents < 0
    paid_up = posting.type is TransactionType.PURCHASE and owed and not owes
    return Wallet(wallet.user_id, balance, owes or (wallet.offline_frozen and not paid_up))


def purchase(
    *,
    transaction_id: TransactionId,
    user_id: UserId,
    amount: Money,
    provider_reference: str,
    idempotency_key: IdempotencyKey,
    correlation_id: CorrelationId,
    at: datetime,
    created_by: str,
) -> Posting:
    """Credits bought with a card; `provider_reference` is credited once (a unique index)."""
    return Posting(
        id=transaction_id,
        user_id=user_id,
        type=TransactionType.PURCHASE,
        direction=Direction.IN,
        amount=amount,
        reference=provider_reference,
        idempotency_key=idempotency_key,
        correlation_id=correlation_id,
        created_at=at,
        created_by=created_by,
    )
