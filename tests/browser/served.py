"""A running `railtix-cloud serve`, and what its people ask of it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from uuid_utils.compat import uuid7

from cloud.ledger.postings import Direction, Posting, TransactionType, Wallet, post
from cloud.store.database import Database
from cloud.store.locks import lock_wallets
from cloud.store.postings import write_postings
from protocol.ids import CorrelationId, EventId, IdempotencyKey, StallId, TransactionId, UserId
from protocol.money import Money

EVENT: dict[str, Any] = {
    "name": "Harbour Festival",
    "currency": "EUR",
    "locale": "en_IE",
    "stalls": [{"id": "bar-north", "name": "Bar North"}],
}


@dataclass(frozen=True)
class Invited:
    user_id: UserId
    link: str


class Served:
    def __init__(self, url: str, ops_token: str, database: Database) -> None:
        self.url = url
        self.database = database
        self.ops = httpx.Client(
            base_url=f"{url}/v1/ops",
            headers={"Authorization": f"Bearer {ops_token}"},
            timeout=10,
            trust_env=False,
        )
        self.ops.put("/events/harbour", json=EVENT).raise_for_status()

    def attendee(self) -> Invited:
        answer = self.ops.post("/attendees", json={}).raise_for_status().json()
        return Invited(UserId(answer["user_id"]), answer["sign_in_link"])

    def sign_in_link(self) -> str:
        return self.attendee().link

    def credit(self, attendee: Invited, amount: Money) -> None:
        self._post(attendee, TransactionType.PURCHASE, Direction.IN, amount)

    def sell(self, attendee: Invited, amount: Money) -> None:
        """A sale at the bar, as a worker in another process writes it."""
        self._post(attendee, TransactionType.DEDUCT, Direction.OUT, amount)

    def _post(
        self, attendee: Invited, kind: TransactionType, direction: Direction, amount: Money
    ) -> None:
        now, key = datetime.now(UTC), (attendee.user_id, amount.currency)  # noqa: TID251
        posting = Posting(
            id=TransactionId(str(uuid7())),
            user_id=attendee.user_id,
            type=kind,
            direction=direction,
            amount=amount,
            reference=str(uuid7()),
            idempotency_key=IdempotencyKey("k" * 20),
            correlation_id=CorrelationId("c" * 20),
            created_at=now,
            created_by="system:test",
            event_id=EventId("harbour"),
            stall_id=StallId("bar-north") if direction is Direction.OUT else None,
        )
        with self.database.transaction() as connection:
            before = lock_wallets(connection, [key])
            wallet = before.get(key, Wallet.empty(attendee.user_id, amount.currency))
            write_postings(connection, [posting], before, {key: post(wallet, posting)}, now)
