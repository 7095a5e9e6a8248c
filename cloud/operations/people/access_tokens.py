"""Access tokens for people and programs that run the event: made, checked, revoked."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import insert, or_, select, update

from cloud.access.roles import Grant, Holder, Role
from cloud.access.tokens import TokenKind, draw_token, hash_token, is_of_kind
from cloud.store.database import Database
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.tables import access_tokens
from protocol.ids import EventId, StallId


@dataclass(frozen=True, slots=True)
class NewToken:
    holder: Holder
    token: str = field(repr=False)
    expires_at: datetime | None


def create_token(
    database: Database,
    role: Role,
    name: str,
    expires_at: datetime | None,
    now: datetime,
    *,
    event_id: EventId | None = None,
    stall_id: StallId | None = None,
) -> NewToken:
    """A new token for `name`; it is shown this once and kept as a hash."""
    token = draw_token(TokenKind.OPS_ACCESS)
    holder = Holder(f"{role.value}:{name}", (Grant(role, event_id, stall_id),))
    with database.transaction() as connection:
        connection.execute(
            insert(access_tokens).values(
                hash=hash_token(token),
                role=role.value,
                subject=holder.subject,
                event_id=event_id,
                stall_id=stall_id,
                created_at=now,
                expires_at=expires_at,
            )
        )
        write_audit_records(
            connection,
            [
                AuditRow(
                    at=now,
                    actor="system:console",
                    action="token_created",
                    outcome="done",
                    subject=holder.subject,
                )
            ],
        )
    return NewToken(holder, token, expires_at)


@dataclass(frozen=True, slots=True)
class TokenView:
    """What is kept of a token: everything but itself."""

    subject: str
    grant: Grant
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def list_tokens(database: Database) -> list[TokenView]:
    """All that were ever made, the newest first."""
    with database.reading() as connection:
        rows = connection.execute(
            select(access_tokens).order_by(
                access_tokens.c.created_at.desc(), access_tokens.c.subject
            )
        )
        return [
            TokenView(
                row.subject,
                Grant(Role(row.role), row.event_id, row.stall_id),
                row.created_at,
                row.expires_at,
                row.revoked_at,
            )
            for row in rows
        ]


def find_holder(database: Database, token: str, now: datetime) -> Holder | None:
    """Who this token belongs to, while it counts."""
    if not is_of_kind(token, TokenKind.OPS_ACCESS):
        return None
    with database.reading() as connection:
        row = connection.execute(
            select(access_tokens).where(
                access_tokens.c.hash == hash_token(token),
                access_tokens.c.revoked_at.is_(None),
                or_(access_tokens.c.expires_at.is_(None), access_tokens.c.expires_at > now),
            )
        ).one_or_none()
    if row is None:
        return None
    return Holder(row.subject, (Grant(Role(row.role), row.event_id, row.stall_id),))


def revoke_tokens(database: Database, role: Role, name: str, now: datetime) -> int:
    """End every token of `name`; how many there were."""
    subject = f"{role.value}:{name}"
    with database.transaction() as connection:
        ended = connection.execute(
            update(access_tokens)
            .where(access_tokens.c.subject == subject, access_tokens.c.revoked_at.is_(None))
            .values(revoked_at=now)
        ).rowcount
        write_audit_records(
            connection,
            [
                AuditRow(
                    at=now,
                    actor="system:console",
                    action="tokens_revoked",
                    outcome="done",
                    subject=subject,
                )
            ],
        )
    return ended
