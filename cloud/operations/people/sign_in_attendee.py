"""An attendee's way in: a link or a code that works once, then a session on their phone."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, Executable, String, insert, select, update
from sqlalchemy.sql.selectable import FromClause
from uuid_utils.compat import uuid7

from cloud.access.tokens import TokenKind, draw_token, hash_token, is_of_kind
from cloud.keys import KeyRing
from cloud.operations.people.one_time_codes import normal, use_code
from cloud.operations.refusals import Code, Refusal
from cloud.operations.rows import insert_if_new
from cloud.store.database import Database
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.rows import BatchStatement
from cloud.store.tables import attendee_sessions, login_links, users
from protocol.encoding import to_base64url
from protocol.ids import PayerId, UserId

LINK_VALID: Final = timedelta(hours=24)
SESSION_VALID: Final = timedelta(days=14)
_PAYER_ID_BYTES: Final = 9


@dataclass(frozen=True, slots=True)
class Attendee:
    user_id: UserId
    payer_id: PayerId

    @property
    def row_id(self) -> UUID:
        return UUID(self.user_id)


@dataclass(frozen=True, slots=True)
class Invitation:
    """A secret to hand over once: whoever has it signs in as this attendee."""

    user_id: UserId
    link_token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Session:
    attendee: Attendee
    token: str = field(repr=False)
    expires_at: datetime


def invite(
    database: Database,
    email: str | None,
    actor: str,
    now: datetime,
    valid: timedelta = LINK_VALID,
) -> Invitation:
    """A sign-in link for the attendee of this address, who is entered first where unknown."""
    token = draw_token(TokenKind.SIGN_IN_LINK)
    with database.transaction() as connection:
        user_id = _enter(connection, email, now)
        connection.execute(
            insert(login_links).values(
                hash=hash_token(token), user_id=user_id, created_at=now, expires_at=now + valid
            )
        )
        write_audit_records(
            connection,
            [
                AuditRow(
                    at=now,
                    actor=actor,
                    action="attendee_invited",
                    outcome="done",
                    user_id=str(user_id),
                )
            ],
        )
    return Invitation(UserId(str(user_id)), token, now + valid)


def exchange_link(database: Database, link_token: str, now: datetime) -> Session | Refusal:
    """A session for a link that is used for the first time; it opens nothing afterwards."""
    if not is_of_kind(link_token, TokenKind.SIGN_IN_LINK):
        return _LINK_NOT_USABLE
    with database.transaction() as connection:
        used = connection.execute(
            update(login_links)
            .where(
                login_links.c.hash == hash_token(link_token),
                login_links.c.used_at.is_(None),
                login_links.c.expires_at > now,
            )
            .values(used_at=now)
            .returning(login_links.c.user_id)
        ).scalar_one_or_none()
        if used is None:
            return _LINK_NOT_USABLE
        return _begin(connection, used, "link", now)


def sign_in_with_code(
    database: Database, keys: KeyRing, email: str, code: str, now: datetime
) -> Session | Refusal:
    """A session for the newest code sent to this address; whoever is new is entered by it."""
    with database.transaction() as connection:
        refusal = use_code(connection, keys, email, code, now)
        if refusal is not None:
            return refusal
        return _begin(connection, _enter(connection, email, now), "code", now)


def find_attendees(
    database: Database, session_tokens: Sequence[str], now: datetime
) -> list[Attendee | None]:
    """Whose session each of these is, while it lasts."""
    with database.reading() as connection:
        return attendees_of(connection, session_tokens, now)


def attendees_of(
    connection: Connection, session_tokens: Sequence[str], now: datetime
) -> list[Attendee | None]:
    hashes = [
        hash_token(token) if is_of_kind(token, TokenKind.ATTENDEE_SESSION) else None
        for token in session_tokens
    ]
    wanted = {each for each in hashes if each is not None}
    found = {
        row.hash: Attendee(UserId(str(row.user_id)), PayerId(row.payer_id))
        for row in _SESSIONS.run(connection, [(each,) for each in wanted])
        if row.ended_at is None and row.expires_at > now
    }
    return [None if each is None else found.get(each) for each in hashes]


def sign_out(database: Database, session_token: str, now: datetime) -> None:
    """End the session; ending one that has ended changes nothing."""
    with database.transaction() as connection:
        connection.execute(
            update(attendee_sessions)
            .where(
                attendee_sessions.c.hash == hash_token(session_token),
                attendee_sessions.c.ended_at.is_(None),
            )
            .values(ended_at=now)
        )


def _begin(connection: Connection, user_id: UUID, by: str, now: datetime) -> Session:
    """A token nobody has seen: what the request brought along opens nothing more than before."""
    token = draw_token(TokenKind.ATTENDEE_SESSION)
    connection.execute(
        insert(attendee_sessions).values(
            hash=hash_token(token),
            user_id=user_id,
            created_at=now,
            expires_at=now + SESSION_VALID,
        )
    )
    payer_id = connection.execute(
        select(users.c.payer_id).where(users.c.user_id == user_id)
    ).scalar_one()
    write_audit_records(
        connection,
        [
            AuditRow(
                at=now,
                actor=f"user:{user_id}",
                action="attendee_signed_in",
                outcome="done",
                user_id=str(user_id),
                detail={"by": by},
            )
        ],
    )
    return Session(Attendee(UserId(str(user_id)), payer_id), token, now + SESSION_VALID)


def _enter(connection: Connection, email: str | None, now: datetime) -> UUID:
    email = None if email is None else normal(email)
    user_id, payer_id = uuid7(), to_base64url(secrets.token_bytes(_PAYER_ID_BYTES))
    row = {"user_id": user_id, "payer_id": payer_id, "email": email, "created_at": now}
    if insert_if_new(connection, users, row):
        return user_id
    return connection.execute(select(users.c.user_id).where(users.c.email == email)).scalar_one()


_LINK_NOT_USABLE: Final = Refusal(
    Code.LINK_NOT_USABLE,
    "This sign-in link was used already, has expired, or is incomplete.",
    "Ask for a new one.",
)


def _select_sessions(wanted: FromClause) -> Executable:
    return (
        select(
            attendee_sessions.c.hash,
            attendee_sessions.c.ended_at,
            attendee_sessions.c.expires_at,
            users.c.user_id,
            users.c.payer_id,
        )
        .join(wanted, attendee_sessions.c.hash == wanted.c.hash)
        .join(users, users.c.user_id == attendee_sessions.c.user_id)
    )


_SESSIONS: Final = BatchStatement({"hash": String()}, _select_sessions)
