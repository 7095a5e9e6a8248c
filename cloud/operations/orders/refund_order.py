"""Gives a paid order back, whole: tickets void, Credits to the wallet, the rest to the card."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from cloud.operations.once import claim, digest_of, keep
from cloud.operations.orders.order_deeds import carry_out, lock_order
from cloud.operations.orders.order_refusals import UNKNOWN_ORDER, explain_impossible
from cloud.operations.refusals import Refusal
from cloud.store.database import Database
from cloud.tickets.life import Happening, Impossible, OrderState, step
from protocol.ids import EventId, IdempotencyKey
from protocol.money import Money


@dataclass(frozen=True, slots=True)
class OrderRefunded:
    order_id: UUID
    state: OrderState
    credits_back: Money
    """Of this very request: nothing, where the order was given back before."""
    card_back: Money
    """On its way to the card."""


_ANSWER: Final = msgspec.json.Decoder(OrderRefunded)


def refund_order(
    database: Database,
    event_id: EventId,
    order_id: UUID,
    *,
    actor: str,
    reason: str,
    key: IdempotencyKey,
    now: datetime,
) -> OrderRefunded | Refusal:
    """Once, however often and by however many it is asked. `reason` stands in the audit record."""
    with database.transaction() as connection:
        digest = digest_of(event_id, str(order_id), reason)
        answer = claim(connection, actor, key, operation="refund_order", digest=digest, now=now)
        if isinstance(answer, Refusal):
            return answer
        if answer:
            return _ANSWER.decode(answer)
        locked = lock_order(connection, order_id)
        if locked is None or locked.order.event_id != event_id:
            return UNKNOWN_ORDER
        taken = step(locked.state, Happening.REFUND_ASKED)
        if isinstance(taken, Impossible):
            return explain_impossible(taken)

        given_back = carry_out(connection, locked, taken, actor=actor, now=now, reason=reason)
        refunded = OrderRefunded(
            order_id, taken.state, given_back.credits_part, given_back.card_part
        )
        keep(connection, actor, key, msgspec.json.encode(refunded))
    return refunded
