"""What attendees set for themselves: address, letters about sales, where they are signed in."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, select, update
from sqlalchemy.exc import IntegrityError

from cloud.access.tokens import hash_token
from cloud.keys import KeyRing
from cloud.operations.people.one_time_codes import normal, use_code
from cloud.operations.people.sign_in_attendee import Attendee
from cloud.operations.refusals import Code, Refusal
from cloud.store.database import Database
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.tables import attendee_sessions, users


@dataclass(frozen=True, slots=True)
class Profile:
    email: str | None
    pos_receipts: bool
    """Whether sales at stalls are confirmed by e-mail."""


@dataclass(frozen=True, slots=True)
class NewAddress:
    """An address, and the code that was sent to it: nobody gets letters they did not ask for."""

    email: str
    code: str


@dataclass(frozen=True, slots=True)
class SessionView:
    created_at: datetime
    expires_at: datetime
    is_this: bool
    """Whether it is the one that asks."""


def read_profile(database: Database, attendee: Attendee) -> Profile:
    with database.reading() as connection:
        return _profile(_read(connection, attendee))


def change_profile(
    database: Database,
    keys: KeyRing,
    attendee: Attendee,
    *,
    address: NewAddress | None,
    pos_receipts: bool | None,
    now: datetime,
) -> Profile | Refusal:
    """Change what is given; an address counts once its code shows that it is theirs."""
    try:
        with database.transaction() as connection:
            before = _profile(_read(connection, attendee))
            after = before
            if address is not None:
                refusal = use_code(connection, keys, address.email, address.code, now)
                if refusal is not None:
                    return refusal
                after = Profile(normal(address.email), after.pos_receipts)
            if pos_receipts is not None:
                after = Profile(after.email, pos_receipts)
            if after.pos_receipts and after.email is None:
                return _EMAIL_NEEDED
            if after != before:
                _write(connection, attendee, before, after, now)
            return after
    except IntegrityError:
        return _EMAIL_TAKEN


def list_sessions(
    database: Database, attendee: Attendee, session_token: str, now: datetime
) -> list[SessionView]:
    """Where they are signed in, the newest first."""
    this = hash_token(session_token)
    with database.reading() as connection:
        rows = connection.execute(
            select(attendee_sessions)
            .where(
                attendee_sessions.c.user_id == attendee.row_id,
                attendee_sessions.c.ended_at.is_(None),
                attendee_sessions.c.expires_at > now,
            )
            .order_by(attendee_sessions.c.created_at.desc())
        )
        return [SessionView(row.created_at, row.expires_at, row.hash == this) for row in rows]


def end_sessions(database: Database, attendee: Attendee, now: datetime) -> int:
    """Sign out everywhere, here too; how many sessions ended."""
    with database.transaction() as connection:
        ended = connection.execute(
            update(attendee_sessions)
            .where(
                attendee_sessions.c.user_id == attendee.row_id,
                attendee_sessions.c.ended_at.is_(None),
            )
            .values(ended_at=now)
        ).rowcount
        record = AuditRow(
            at=now,
            actor=f"user:{attendee.user_id}",
            action="attendee_signed_out_everywhere",
            outcome="done",
            user_id=attendee.user_id,
            detail={"sessions": ended},
        )
        write_audit_records(connection, [record])
    return ended


def _write(
    connection: Connection, attendee: Attendee, before: Profile, after: Profile, now: datetime
) -> None:
    """Raises IntegrityError where the address is somebody else's."""
    connection.execute(
        update(users)
        .where(users.c.user_id == attendee.row_id)
        .values(email=after.email, pos_receipts=after.pos_receipts)
    )
    changed = [
        name
        for name, is_changed in (
            ("email", after.email != before.email),
            ("pos_receipts", after.pos_receipts != before.pos_receipts),
        )
        if is_changed
    ]
    record = AuditRow(
        at=now,
        actor=f"user:{attendee.user_id}",
        action="profile_changed",
        outcome="done",
        user_id=attendee.user_id,
        detail={"changed": changed},
    )
    write_audit_records(connection, [record])


def _read(connection: Connection, attendee: Attendee) -> Row[*tuple[Any, ...]]:
    found = select(users.c.email, users.c.pos_receipts).where(users.c.user_id == attendee.row_id)
    return connection.execute(found).one()


def _profile(row: Row[*tuple[Any, ...]]) -> Profile:
    return Profile(row.email, bool(row.pos_receipts))


_EMAIL_NEEDED: Final = Refusal(
    Code.EMAIL_NEEDED,
    "There is no address that receipts could be sent to.",
    "Ask for a code at POST /v1/sign-in/codes and give the address with it.",
)
_EMAIL_TAKEN: Final = Refusal(
    Code.EMAIL_TAKEN,
    "Another wallet has this address.",
    "Sign in with it to use that wallet.",
)
