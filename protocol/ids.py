"""Identities that cross the wire, one type each, so that no two are ever confused."""

import re
from typing import Final, NewType

DeviceId = NewType("DeviceId", str)
"""An appliance: the common name of its certificate and its level in every topic."""

EventId = NewType("EventId", str)
StallId = NewType("StallId", str)
StaffId = NewType("StaffId", str)
UserId = NewType("UserId", str)
"""An account. It never reaches an appliance; see PayerId."""

PayerId = NewType("PayerId", str)
"""The opaque `sub` of a wallet QR: names a payer to the cloud and nobody else."""

SessionId = NewType("SessionId", str)
IdempotencyKey = NewType("IdempotencyKey", str)
CorrelationId = NewType("CorrelationId", str)
TransactionId = NewType("TransactionId", str)
TokenId = NewType("TokenId", str)
"""A `jti`: one published QR."""

KeyId = NewType("KeyId", str)

_SLUG: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")


def is_slug(text: str) -> bool:
    """Whether `text` may name a device, an event, a stall or a member of staff.

    1 to 40 of a-z, 0-9 and inner hyphens: safe as a topic level, a file name and a common name.
    """
    return _SLUG.fullmatch(text) is not None
