"""Sessions at the console: twelve hours at most, and whoever is disabled has none."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, insert, select, update

from cloud.access.roles import Grant, Holder, Role
from cloud.access.tokens import TokenKind, draw_token, hash_token, is_of_kind
from cloud.store.database import Database
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.tables import console_grants, console_sessions, console_users

SESSION_VALID: Final = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class ConsoleSession:
    user_name: str
    token: str = field(repr=False)
    expires_at: datetime


def subject_of(user_name: str) -> str:
    """How the audit log names somebody at the console."""
    return f"console:{user_name}"


def find_console_holder(database: Database, token: str, now: datetime) -> Holder | None:
    """Whose session this is, and what they are granted at this very moment."""
    if not is_of_kind(token, TokenKind.CONSOLE_SESSION):
        return None
    with database.reading() as connection:
        user_name = connection.execute(
            select(console_users.c.user_name)
            .join(console_sessions, console_sessions.c.user_name == console_users.c.user_name)
            .where(
                console_sessions.c.hash == hash_token(token),
                console_sessions.c.ended_at.is_(None),
                console_sessions.c.expires_at > now,
                console_users.c.disabled_at.is_(None),
            )
        ).scalar_one_or_none()
        if user_name is None:
            return None
        return Holder(subject_of(user_name), read_grants(connection, [user_name]))


def read_grants(connection: Connection, user_names: Iterable[str]) -> tuple[Grant, ...]:
    rows = connection.execute(
        select(console_grants)
        .where(
            console_grants.c.user_name.in_(list(user_names)), console_grants.c.ended_at.is_(None)
        )
        .order_by(console_grants.c.created_at, console_grants.c.grant_id)
    )
    return tuple(grant_in(row) for row in rows)


def grant_in(row: Row[*tuple[Any, ...]]) -> Grant:
    return Grant(Role(row.role), row.event_id, row.stall_id)


def begin_session(connection: Connection, user_name: str, now: datetime) -> ConsoleSession:
    """A token nobody has seen: what the request brought along opens nothing more than before."""
    token = draw_token(TokenKind.CONSOLE_SESSION)
    connection.execute(
        insert(console_sessions).values(
            hash=hash_token(token),
            user_name=user_name,
            created_at=now,
            expires_at=now + SESSION_VALID,
        )
    )
    return ConsoleSession(user_name, token, now + SESSION_VALID)


def end_session(database: Database, token: str, now: datetime) -> None:
    """Sign out; ending a session that has ended changes nothing."""
    with database.transaction() as connection:
        user_name = connection.execute(
            update(console_sessions)
            .where(
                console_sessions.c.hash == hash_token(token), console_sessions.c.ended_at.is_(None)
            )
            .values(ended_at=now)
            .returning(console_sessions.c.user_name)
        ).scalar_one_or_none()
        if user_name is not None:
            record = AuditRow(
                at=now, actor=subject_of(user_name), action="console_signed_out", outcome="done"
            )
            write_audit_records(connection, [record])


def end_sessions_of(connection: Connection, user_name: str, now: datetime) -> int:
    """All that this person has; how many ended."""
    return connection.execute(
        update(console_sessions)
        .where(console_sessions.c.user_name == user_name, console_sessions.c.ended_at.is_(None))
        .values(ended_at=now)
    ).rowcount
