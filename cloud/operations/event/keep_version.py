"""Every document an event was ever given, in the order it was: rows that are added, and no more."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Row, func, insert, select

from cloud.operations.event.event_document import EventDocument
from cloud.store.tables import event_versions
from protocol.ids import EventId


@dataclass(frozen=True, slots=True)
class Edit:
    """Who changes an event, and when; for a roll-back, to what and why."""

    actor: str
    now: datetime
    rolled_back_to: int | None = None
    reason: str | None = None
    within: frozenset[EventId] | None = None
    """The events for which they act; None: every event."""


@dataclass(frozen=True, slots=True)
class Version:
    version: int
    applied_at: datetime
    applied_by: str | None
    """None: before versions were kept, or past them."""
    rolled_back_to: int | None
    reason: str | None

    @classmethod
    def of(cls, row: Row[Any]) -> "Version":
        return cls(row.version, row.applied_at, row.applied_by, row.rolled_back_to, row.reason)


def keep_version(
    connection: Connection, event_id: EventId, document: EventDocument, edit: Edit
) -> int:
    """The next version's number; its row is what a roll-back reads."""
    return _insert(connection, event_id, document, edit.now, edit)


def keep_what_stands(
    connection: Connection, event_id: EventId, current: EventDocument, now: datetime
) -> None:
    """Before it is changed: what no version says yet, so that it can be had back too."""
    kept: Any = connection.execute(
        select(event_versions.c.document)
        .where(event_versions.c.event_id == event_id)
        .order_by(event_versions.c.version.desc())
        .limit(1)
    ).scalar_one_or_none()
    try:
        is_kept = kept is not None and EventDocument.model_validate(kept).in_order() == current
    except ValidationError:
        is_kept = False
    if not is_kept:
        _insert(connection, event_id, current, now, None)


def newest_version(connection: Connection, event_id: EventId) -> Version | None:
    row = connection.execute(
        select(event_versions)
        .where(event_versions.c.event_id == event_id)
        .order_by(event_versions.c.version.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else Version.of(row)


def _insert(
    connection: Connection,
    event_id: EventId,
    document: EventDocument,
    now: datetime,
    edit: Edit | None,
) -> int:
    newest = connection.execute(
        select(func.max(event_versions.c.version)).where(event_versions.c.event_id == event_id)
    ).scalar_one()
    version = (newest or 0) + 1
    connection.execute(
        insert(event_versions).values(
            event_id=event_id,
            version=version,
            document=document.model_dump(mode="json"),
            applied_at=now,
            applied_by=None if edit is None else edit.actor,
            rolled_back_to=None if edit is None else edit.rolled_back_to,
            reason=None if edit is None else edit.reason,
        )
    )
    return version
