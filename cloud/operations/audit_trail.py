"""What people and programs did, recorded in the transaction in which they did it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, insert
from uuid_utils.compat import uuid7

from cloud.store.tables import audit_records


@dataclass(frozen=True, slots=True)
class Deed:
    """One line of the audit log. `outcome`: `done`, or the name of the refusal."""

    actor: str
    """`kind:id`, as `ops:ana`, `user:...`, `system:payments`."""
    action: str
    outcome: str = "done"
    subject: str | None = None
    """What it was done to."""
    event_id: str | None = None
    device_id: str | None = None
    user_id: UUID | None = None
    detail: Mapping[str, Any] | None = None
    """Never a secret, a token or a PIN: the audit log is read by many and kept for ever."""


def record(connection: Connection, deed: Deed, at: datetime) -> None:
    connection.execute(
        insert(audit_records).values(
            id=uuid7(),
            at=at,
            actor=deed.actor,
            action=deed.action,
            outcome=deed.outcome,
            subject=deed.subject,
            event_id=deed.event_id,
            device_id=deed.device_id,
            user_id=deed.user_id,
            detail=None if deed.detail is None else dict(deed.detail),
        )
    )
