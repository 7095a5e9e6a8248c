"""A ledger written row by row, and remembered, so that sums can be taken a second way."""

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random  # noqa: TID251  # seeded: the same ledger each time
from typing import Any, Final
from uuid import UUID

from sqlalchemy import insert, update
from uuid_utils.compat import uuid7

from cloud.store.tables import credit_transactions, events, order_lines, orders, ticket_types, users
from tests.cloud.floor import EVENT, START, Floor

STALLS: Final = ("bar", "grill")
PRICES: Final = {1: 350, 2: 500, 7: 80}


@dataclass
class Books:
    floor: Floor
    user_id: UUID
    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @classmethod
    def open(
        cls, floor: Floor, *, timezone: str = "Europe/Berlin", locale: str = "de_DE"
    ) -> "Books":
        user_id = uuid7()
        with floor.database.transaction() as connection:
            connection.execute(
                insert(users).values(
                    user_id=user_id, payer_id=secrets.token_urlsafe(9), created_at=floor.now()
                )
            )
            connection.execute(
                update(events)
                .where(events.c.event_id == EVENT)
                .values(timezone=timezone, locale=locale)
            )
        return cls(floor, user_id)

    def add(self, kind: str, cents: int, **changes: Any) -> dict[str, Any]:
        """One transaction, not yet in the database."""
        row: dict[str, Any] = {
            "user_id": self.user_id,
            "id": uuid7(),
            "type": kind,
            "direction": "out" if kind == "Deduct" else "in",
            "amount_in_cents": cents,
            "currency": "EUR",
            "reference": secrets.token_hex(4),
            "idempotency_key": f"key-{secrets.token_hex(8)}",
            "correlation_id": f"cor-{secrets.token_hex(8)}",
            "created_at": START,
            "created_by": "system:test",
            "reversal_of_transaction_id": None,
            "event_id": EVENT,
            "stall_id": None,
            "device_id": None,
            "staff_id": None,
            "order_id": None,
            "lines": None,
            "accepted_offline_at": None,
        }
        row |= changes
        self.rows.append(row)
        return row

    def sell(
        self, *lines: tuple[int, int], stall_id: str = "bar", **changes: Any
    ) -> dict[str, Any]:
        """A sale of (product, quantity) at the list's prices."""
        said = [
            {"product": product, "quantity": quantity, "unit_price_in_cents": PRICES[product]}
            for product, quantity in lines
        ]
        cents = sum(each["quantity"] * each["unit_price_in_cents"] for each in said)
        given = {"stall_id": stall_id, "lines": said or None, "staff_id": "mia"}
        return self.add("Deduct", changes.pop("cents", cents), **(given | changes))

    def give_back(self, sale: dict[str, Any], cents: int, **changes: Any) -> dict[str, Any]:
        same = {name: sale[name] for name in ("event_id", "stall_id", "order_id", "currency")}
        reversal = {"reversal_of_transaction_id": sale["id"]}
        return self.add("Refund", cents, **(same | reversal | changes))

    def write(self) -> None:
        """All that was added."""
        with self.floor.database.transaction() as connection:
            connection.execute(insert(credit_transactions), self.rows)

    def add_order(
        self, state: str, *, credits_in_cents: int, card_in_cents: int, tickets: int
    ) -> UUID:
        order_id, now = uuid7(), self.floor.now()
        with self.floor.database.transaction() as connection:
            connection.execute(
                insert(ticket_types).values(
                    event_id=EVENT,
                    ticket_type_id=f"day-{order_id.hex[-8:]}",
                    name="Day",
                    price_in_cents=(credits_in_cents + card_in_cents) // tickets,
                    stock=100,
                )
            )
            connection.execute(
                insert(orders).values(
                    order_id=order_id,
                    user_id=self.user_id,
                    event_id=EVENT,
                    state=state,
                    currency="EUR",
                    total_in_cents=credits_in_cents + card_in_cents,
                    credits_in_cents=credits_in_cents,
                    card_in_cents=card_in_cents,
                    idempotency_key=secrets.token_hex(8),
                    correlation_id=secrets.token_hex(8),
                    created_at=now,
                )
            )
            connection.execute(
                insert(order_lines).values(
                    order_id=order_id,
                    event_id=EVENT,
                    ticket_type_id=f"day-{order_id.hex[-8:]}",
                    name="Day",
                    quantity=tickets,
                    unit_price_in_cents=(credits_in_cents + card_in_cents) // tickets,
                )
            )
        return order_id

    def add_at_random(self, seed: int, count: int) -> None:
        """Sales, cancels, refunds, adjustments, tickets, top-ups, over three days."""
        chance = Random(seed)
        for _ in range(count):
            at = START + timedelta(seconds=chance.randrange(3 * 24 * 3600))
            match chance.randrange(12):
                case 0:
                    self.add("Purchase", chance.randrange(1, 5000), created_at=at)
                case 1:
                    direction = chance.choice(["in", "out"])
                    stall_id = chance.choice([None, *STALLS])
                    cents = chance.randrange(1, 3000)
                    self.add(
                        "Adjustment", cents, direction=direction, stall_id=stall_id, created_at=at
                    )
                case 2:
                    order = self.add(
                        "Deduct", chance.randrange(2, 9000), order_id=uuid7(), created_at=at
                    )
                    if chance.random() < 0.3:
                        self.give_back(order, order["amount_in_cents"], created_at=at)
                case _:
                    self._sell_at_random(chance, at)

    def _sell_at_random(self, chance: Random, at: datetime) -> None:
        accepted = at - timedelta(minutes=chance.randrange(600))
        offline: dict[str, Any] = {
            "accepted_offline_at": accepted if chance.random() < 0.2 else None
        }
        place: dict[str, Any] = {"stall_id": chance.choice(STALLS), "created_at": at}
        if chance.random() < 0.3:
            sale = self.sell(cents=chance.randrange(1, 20_000), **place, **offline)
        else:
            chosen = chance.sample(sorted(PRICES), chance.randrange(1, 4))
            lines = [(product, chance.randrange(1, 5)) for product in chosen]
            sale = self.sell(*lines, **place, **offline)
        cents: int = sale["amount_in_cents"]
        later = at + timedelta(minutes=chance.randrange(90))
        match chance.randrange(6):
            case 0:
                self.give_back(sale, cents, created_at=later)
            case 1 if cents > 1:
                part = chance.randrange(1, cents)
                self.give_back(sale, part, created_at=later)
                if chance.random() < 0.5:
                    self.give_back(sale, cents - part, created_at=later)
            case _:
                return


def signed(row: dict[str, Any]) -> int:
    """What the row adds to its wallet."""
    cents: int = row["amount_in_cents"]
    return cents if row["direction"] == "in" else -cents
