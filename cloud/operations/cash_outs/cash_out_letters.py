"""Tells the owner of a wallet what became of a cash-out, where there is an address for it."""

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from cloud.store.letters import CashOutEnded, CashOutNotPaid, post_letter
from cloud.store.tables import events, users


def tell_owner(
    connection: Connection, asked: Row[Any], letter: CashOutEnded | CashOutNotPaid, now: datetime
) -> None:
    """`asked`: the cash-out's row; written as the newest event in its currency writes."""
    address = connection.execute(
        select(users.c.email).where(users.c.user_id == asked.user_id)
    ).scalar_one()
    if address is None:
        return
    manner = connection.execute(
        select(events.c.locale, events.c.timezone)
        .where(events.c.currency == asked.currency)
        .order_by(events.c.created_at.desc(), events.c.event_id)
        .limit(1)
    ).one()
    told = msgspec.structs.replace(letter, locale=manner.locale, timezone=manner.timezone)
    post_letter(connection, address, told, now)
