"""Letters from the outbox: each is sent at least once, under one Message-ID, and then emptied."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import Connection, null, select, update

from cloud.courier.letters.message import AddressNotUsableError, make_message
from cloud.courier.post_office import (
    LetterDeferredError,
    LetterRefusedError,
    PostOffice,
    PostOfficeAwayError,
)
from cloud.store.database import Database
from cloud.store.letters import Letter, OneTimeCode, read_letter
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.tables import letters

AT_ONCE_MAX: Final = 50
LEASE: Final = timedelta(minutes=5)
"""How long a letter is left alone while a courier has it: should that one die, another takes it."""
TRIED_FOR: Final = timedelta(days=3)
_WAIT_MIN: Final = timedelta(seconds=10)
_WAIT_MAX: Final = timedelta(hours=1)
_FAULT_CHARS_MAX: Final = 200

_log = structlog.stdlib.get_logger("courier")


@dataclass(frozen=True, slots=True)
class _Taken:
    """A letter that is ours until the lease ends."""

    letter_id: UUID
    to_address: str = field(repr=False)
    kind: str
    content: Any = field(repr=False)
    tries: int
    created_at: datetime


def send_letters(
    database: Database,
    post_office: PostOffice,
    *,
    sender: str,
    clock: Callable[[], datetime],
    is_stopping: Callable[[], bool] = lambda: False,
) -> int:
    """Send what is due, one at a time; how many have ended, one way or the other.

    Raises PostOfficeAwayError once nobody takes letters in; the one in hand waits its turn.
    """
    ended = 0
    try:
        while ended < AT_ONCE_MAX and not is_stopping():
            taken = _take_next(database, clock())
            if taken is None:
                break
            ended += _send(database, post_office, taken, sender, clock)
    finally:
        post_office.leave()
    return ended


def _take_next(database: Database, now: datetime) -> _Taken | None:
    due = letters.c.next_try_at <= now
    with database.reading() as connection:
        # Most rounds find nothing, and SQLite's one writer is not asked for that.
        if connection.execute(select(letters.c.letter_id).where(due).limit(1)).first() is None:
            return None
    with database.transaction() as connection:
        row = connection.execute(
            select(letters)
            .where(due, letters.c.state == "waiting")
            .order_by(letters.c.next_try_at)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).one_or_none()
        if row is None:
            return None
        connection.execute(
            update(letters)
            .where(letters.c.letter_id == row.letter_id)
            .values(next_try_at=now + LEASE, tries=row.tries + 1)
        )
    return _Taken(
        row.letter_id, row.to_address, row.kind, row.content, row.tries + 1, row.created_at
    )


def _send(
    database: Database,
    post_office: PostOffice,
    taken: _Taken,
    sender: str,
    clock: Callable[[], datetime],
) -> int:
    try:
        letter = read_letter(taken.content)
    except msgspec.DecodeError:
        return _give_up(database, taken, "unreadable", clock())
    if _is_too_late(letter, clock()):
        return _drop(database, taken, clock())
    try:
        message = make_message(
            taken.letter_id,
            taken.to_address,
            letter,
            written_at=taken.created_at,
            sender=sender,
        )
    except AddressNotUsableError:
        return _give_up(database, taken, "address not usable", clock())
    except Exception:  # noqa: BLE001  # logged with its trace; the other letters go on
        _log.exception("letter_met_a_bug", letter_id=str(taken.letter_id), kind=taken.kind)
        return _put_back(database, taken, "cannot be written", clock())
    try:
        # No transaction is open while the server is spoken to.
        post_office.hand_in(message, taken.to_address)
    except LetterRefusedError as error:
        return _give_up(database, taken, str(error), clock())
    except LetterDeferredError as error:
        return _put_back(database, taken, str(error), clock())
    except PostOfficeAwayError as error:
        _put_back(database, taken, str(error), clock())
        raise
    with database.transaction() as connection:
        _end(connection, taken, "sent", None, clock())
    _log.info("letter_sent", letter_id=str(taken.letter_id), kind=taken.kind, tries=taken.tries)
    return 1


def _is_too_late(letter: Letter, now: datetime) -> bool:
    """A code that no longer signs anybody in is no letter any more."""
    if not isinstance(letter, OneTimeCode):
        return False
    made = datetime.fromtimestamp(letter.at_ms / 1000, UTC)
    return now >= made + timedelta(minutes=letter.valid_minutes)


def _put_back(database: Database, taken: _Taken, fault: str, now: datetime) -> int:
    """Until its next try, or for good after `TRIED_FOR`."""
    wait = wait_before_try(taken.tries + 1)
    if now + wait >= taken.created_at + TRIED_FOR:
        return _give_up(database, taken, fault, now)
    with database.transaction() as connection:
        connection.execute(
            update(letters)
            .where(letters.c.letter_id == taken.letter_id, letters.c.state == "waiting")
            .values(next_try_at=now + wait, last_fault=fault[:_FAULT_CHARS_MAX])
        )
    _log.warning("letter_put_back", letter_id=str(taken.letter_id), kind=taken.kind, fault=fault)
    return 0


def wait_before_try(number: int) -> timedelta:
    """10 s before the second, then doubling to an hour."""
    doublings = min(max(0, number - 2), 20)
    return min(_WAIT_MIN * 2**doublings, _WAIT_MAX)


def _drop(database: Database, taken: _Taken, now: datetime) -> int:
    with database.transaction() as connection:
        _end(connection, taken, "given_up", "too late", now)
    _log.info("letter_dropped", letter_id=str(taken.letter_id), kind=taken.kind)
    return 1


def _give_up(database: Database, taken: _Taken, fault: str, now: datetime) -> int:
    with database.transaction() as connection:
        is_first = _end(connection, taken, "given_up", fault, now)
        if is_first:
            audit = AuditRow(
                at=now,
                actor="system:courier",
                action="letter",
                outcome="given_up",
                subject=str(taken.letter_id),
                detail={"kind": taken.kind, "fault": fault, "tries": taken.tries},
            )
            write_audit_records(connection, [audit])
    _log.warning("letter_given_up", letter_id=str(taken.letter_id), kind=taken.kind, fault=fault)
    return 1


def _end(
    connection: Connection, taken: _Taken, state: str, fault: str | None, now: datetime
) -> bool:
    """Whether it was us who ended it; what it said is taken away with that."""
    ended = connection.execute(
        update(letters)
        .where(letters.c.letter_id == taken.letter_id, letters.c.state == "waiting")
        .values(
            state=state,
            content=null(),
            next_try_at=None,
            last_fault=None if fault is None else fault[:_FAULT_CHARS_MAX],
            ended_at=now,
        )
    )
    return ended.rowcount == 1
