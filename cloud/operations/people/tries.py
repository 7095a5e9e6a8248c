"""Tries at a secret, counted before it is looked at and kept: a restart forgets none."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, delete, or_, select, update

from cloud.ledger.lockout import locked_until
from cloud.operations.refusals import Code, Refusal
from cloud.operations.rows import insert_if_new
from cloud.store.database import Database
from cloud.store.tables import claims, console_links, login_links, one_time_codes, secret_tries

FORGOTTEN_AFTER: Final = timedelta(days=1)
"""So long after the last try the count begins anew."""
_USED_KEPT: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True, order=True)
class Guarded:
    """Whose secret of what kind, and how many wrong tries are free before the waits begin."""

    kind: str
    subject: str
    tries_free: int


def hold(connection: Connection, secret: Guarded, now: datetime) -> Row[*tuple[Any, ...]]:
    """Its row as it stands, held until the commit; entered where there is none."""
    found = None
    while found is None:
        # Whoever prunes may take the row between the two statements: then it is entered again.
        row = {"kind": secret.kind, "subject": secret.subject, "count": 0, "last_at": now}
        insert_if_new(connection, secret_tries, row)
        found = connection.execute(
            select(
                secret_tries.c.count.label("failures"),
                secret_tries.c.locked_until,
                secret_tries.c.last_at,
            )
            .where(_is(secret))
            .with_for_update()
        ).one_or_none()
    return found


def count_try(connection: Connection, secrets: Sequence[Guarded], now: datetime) -> datetime | None:
    """Count this try as failed, against each; where one is locked count nothing: until when.

    The rows are held until the commit, in one order: tries at once are counted one by one.
    """
    rows = {each: hold(connection, each, now) for each in sorted(secrets)}
    locks = [row.locked_until for row in rows.values() if row.locked_until is not None]
    until = max((each for each in locks if each > now), default=None)
    if until is not None:
        return until
    for each, row in rows.items():
        count = 1 if row.last_at + FORGOTTEN_AFTER < now else row.failures + 1
        connection.execute(
            update(secret_tries)
            .where(_is(each))
            .values(
                count=count,
                locked_until=locked_until(count, now, each.tries_free),
                last_at=now,
            )
        )
    return None


def forget_tries(connection: Connection, secrets: Sequence[Guarded]) -> None:
    """The secret was right: what was counted against it is void."""
    for each in sorted(secrets):
        connection.execute(update(secret_tries).where(_is(each)).values(count=0, locked_until=None))


def locked_out(until: datetime, now: datetime) -> Refusal:
    wait_s = max(1, ceil((until - now).total_seconds()))
    return Refusal(
        Code.TOO_MANY_TRIES,
        "Too many wrong tries; nothing more is looked at for now.",
        f"Try again in {wait_s} s.",
        retry_after_s=wait_s,
    )


def forget_old_secrets(database: Database, now: datetime) -> int:
    """Codes, links, claims, counts that can matter no more; how many. Once an hour is enough."""
    old = now - FORGOTTEN_AFTER
    with database.transaction() as connection:
        return sum(
            connection.execute(statement).rowcount
            for statement in (
                delete(one_time_codes).where(one_time_codes.c.expires_at < old),
                delete(secret_tries).where(
                    secret_tries.c.last_at < old,
                    or_(secret_tries.c.locked_until.is_(None), secret_tries.c.locked_until < now),
                ),
                delete(claims).where(claims.c.expires_at < now - _USED_KEPT),
                delete(login_links).where(login_links.c.expires_at < now - _USED_KEPT),
                delete(console_links).where(console_links.c.expires_at < now - _USED_KEPT),
            )
        )


def _is(secret: Guarded) -> Any:
    return and_(secret_tries.c.kind == secret.kind, secret_tries.c.subject == secret.subject)
