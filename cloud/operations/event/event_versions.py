"""An event's versions: looked at, compared, and had back as a new one."""

from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, select

from cloud.keys import KeyRing
from cloud.operations.event.apply_event import (
    Applied,
    Expected,
    lock_and_read,
    make_so,
    refuse_changed,
)
from cloud.operations.event.event_document import EventDocument
from cloud.operations.event.keep_version import Edit, Version
from cloud.operations.event.read_event import no_event
from cloud.operations.refusals import Code, Refusal
from cloud.store.database import Database
from cloud.store.tables import event_versions, events
from protocol.ids import EventId


@dataclass(frozen=True, slots=True)
class KeptVersion:
    version: Version
    document: dict[str, Any]
    """As it was applied: a later release may refuse it."""


def list_versions(
    database: Database, event_id: EventId, *, limit: int, before: int | None = None
) -> list[Version] | Refusal:
    """The newest first; `before`: only older ones than this."""
    wanted = (
        select(event_versions)
        .where(event_versions.c.event_id == event_id)
        .order_by(event_versions.c.version.desc())
        .limit(limit)
    )
    if before is not None:
        wanted = wanted.where(event_versions.c.version < before)
    with database.reading() as connection:
        if not _is_there(connection, event_id):
            return no_event(event_id)
        return [Version.of(row) for row in connection.execute(wanted)]


def find_version(database: Database, event_id: EventId, version: int) -> KeptVersion | Refusal:
    with database.reading() as connection:
        return _read(connection, event_id, version)


def roll_back(
    database: Database,
    keys: KeyRing,
    event_id: EventId,
    version: int,
    edit: Edit,
    *,
    top_up_url: str | None = None,
    is_expected: Expected | None = None,
) -> Applied | Refusal:
    """What `version` says, once more, as the newest: judged by the rules and the world of today."""
    with database.transaction() as connection:
        current = lock_and_read(connection, event_id)
        refusal = refuse_changed(connection, event_id, current, is_expected)
        if refusal is not None:
            return refusal
        kept = _read(connection, event_id, version)
        if isinstance(kept, Refusal):
            return kept
        try:
            document = EventDocument.model_validate(kept.document)
        except ValidationError as error:
            return _not_usable(event_id, version, error)
        return make_so(
            connection,
            keys,
            event_id,
            current=current,
            document=document,
            edit=replace(edit, rolled_back_to=version),
            top_up_url=top_up_url,
        )


def _read(connection: Connection, event_id: EventId, version: int) -> KeptVersion | Refusal:
    row = connection.execute(
        select(event_versions).where(
            event_versions.c.event_id == event_id, event_versions.c.version == version
        )
    ).one_or_none()
    if row is not None:
        return KeptVersion(Version.of(row), row.document)
    if not _is_there(connection, event_id):
        return no_event(event_id)
    return Refusal(
        Code.VERSION_UNKNOWN,
        f"{event_id} has no version {version}.",
        "Look at the list of its versions.",
    )


def _is_there(connection: Connection, event_id: EventId) -> bool:
    found = select(events.c.event_id).where(events.c.event_id == event_id)
    return connection.execute(found).one_or_none() is not None


def _not_usable(event_id: EventId, version: int, error: ValidationError) -> Refusal:
    wrong = "; ".join(
        f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}"
        for each in error.errors(include_url=False, include_context=False, include_input=False)
    )
    return Refusal(
        Code.VERSION_NOT_USABLE,
        f"Version {version} of {event_id} is no event by the rules of today: {wrong}.",
        "Read that version, correct it, and apply it.",
    )
