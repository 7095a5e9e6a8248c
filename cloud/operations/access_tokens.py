"""Access tokens for people and programs that run the event: made, checked, revoked."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import insert, or_, select, update

from cloud.access.tokens import Role, TokenKind, draw_token, hash_token, is_of_kind
from cloud.store.database import Database
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.tables import access_tokens


@dataclass(frozen=True, slots=True)
class Holder:
    """Who presents a token, as the audit log names them, and what they may do."""

    subject: str
    role: Role


@dataclass(frozen=True, slots=True)
class NewToken:
    holder: Holder
    token: str = field(repr=False)
    expires_at: datetime | None


def create_token(
    database: Database, role: Role, name: str, expires_at: datetime | None, now: datetime
) -> NewToken:
    """A new token for `name`; it is shown this once and kept as a hash."""
    token = draw_token(TokenKind.OPS_ACCESS)
    holder = Holder(f"{role.value}:{name}", role)
    with database.transaction() as connection:
        connection.execute(
            insert(access_tokens).values(
                hash=hash_token(token),
                role=role.value,
                subject=holder.subject,
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


def find_holder(database: Database, token: str, now: datetime) -> Holder | None:
    """Who this token belongs to, while it counts."""
    if not is_of_kind(token, TokenKind.OPS_ACCESS):
        return None
    with database.reading() as connection:
        row = connection.execute(
            select(access_tokens.c.subject, access_tokens.c.role).where(
                access_tokens.c.hash == hash_token(token),
                access_tokens.c.revoked_at.is_(None),
                or_(access_tokens.c.expires_at.is_(None), access_tokens.c.expires_at > now),
            )
        ).one_or_none()
    return None if row is None else Holder(row.subject, Role(row.role))


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
