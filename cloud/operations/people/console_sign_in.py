"""Sign in at the console: password and second factor, each try counted before either is looked at.

An unknown name, a wrong password and a wrong code take the same steps and get the same answer.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, or_, select, update

from cloud.access.passwords import NOBODYS_HASH, is_password
from cloud.access.sealing import unseal
from cloud.access.second_factor import NOBODYS_SECRET, find_step
from cloud.keys import KeyRing
from cloud.ledger.lockout import TRIES_FREE
from cloud.operations.people.console_sessions import ConsoleSession, begin_session, subject_of
from cloud.operations.people.tries import Guarded, count_try, forget_tries, locked_out
from cloud.operations.refusals import Code, Refusal
from cloud.store.database import Database
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.tables import console_users

_TRIES_FREE_EVERYWHERE: Final = 50
"""From all addresses together: so many that a stranger does not lock somebody out by ten tries."""


@dataclass(frozen=True, slots=True)
class Attempt:
    user_name: str
    password: str = field(repr=False)
    totp: str = field(repr=False)
    client: str
    """Where it comes from: the waits of one address are not another's."""


def sign_in_console(
    database: Database, keys: KeyRing, attempt: Attempt, now: datetime
) -> ConsoleSession | Refusal:
    """A session, or the one refusal that says nothing of why.

    Two transactions with the slow comparison between them, so that no row waits for argon2. The
    first counts the try as failed: tries at once, or a crash in between, gain nothing.
    """
    guarded = [
        Guarded("console", f"{attempt.user_name} {attempt.client}", TRIES_FREE),
        Guarded("console_all", attempt.user_name, _TRIES_FREE_EVERYWHERE),
    ]
    with database.transaction() as connection:
        until = count_try(connection, guarded, now)
        if until is not None:
            _record(connection, attempt, "locked_out", now)
            return locked_out(until, now)
        known = _read(connection, attempt.user_name)

    password_hash = NOBODYS_HASH if known is None else known.password_hash
    secret = None if known is None else unseal(keys.console, known.totp_secret, known.user_name)
    is_right = is_password(attempt.password, password_hash)
    step = find_step(secret or NOBODYS_SECRET, attempt.totp, now)

    with database.transaction() as connection:
        if known is None or secret is None or not is_right or step is None:
            _record(connection, attempt, "refused", now)
            return _REFUSED
        if not _spend(connection, known, step):
            # The right code, seen a moment ago: somebody looked over a shoulder.
            _record(connection, attempt, "code_used_before", now)
            return _REFUSED
        forget_tries(connection, guarded)
        _record(connection, attempt, "done", now)
        return begin_session(connection, attempt.user_name, now)


def _read(connection: Connection, user_name: str) -> Row[*tuple[Any, ...]] | None:
    """Whoever may sign in by this name: enrolled, and not disabled."""
    return connection.execute(
        select(
            console_users.c.user_name, console_users.c.password_hash, console_users.c.totp_secret
        ).where(
            console_users.c.user_name == user_name,
            console_users.c.disabled_at.is_(None),
            console_users.c.password_hash.is_not(None),
            console_users.c.totp_secret.is_not(None),
        )
    ).one_or_none()


def _spend(connection: Connection, known: Row[*tuple[Any, ...]], step: int) -> bool:
    """A code counts once, and only for who they still are: they may have been disabled, or have
    enrolled anew, while the password was compared."""
    return (
        connection.execute(
            update(console_users)
            .where(
                console_users.c.user_name == known.user_name,
                console_users.c.disabled_at.is_(None),
                console_users.c.password_hash == known.password_hash,
                console_users.c.totp_secret == known.totp_secret,
                or_(console_users.c.totp_step.is_(None), console_users.c.totp_step < step),
            )
            .values(totp_step=step)
        ).rowcount
        == 1
    )


def _record(connection: Connection, attempt: Attempt, outcome: str, now: datetime) -> None:
    record = AuditRow(
        at=now,
        actor=subject_of(attempt.user_name) if outcome == "done" else "unknown:console",
        action="console_signed_in",
        outcome=outcome,
        subject=subject_of(attempt.user_name),
        detail={"client": attempt.client},
    )
    write_audit_records(connection, [record])


_REFUSED: Final = Refusal(
    Code.SIGN_IN_REFUSED,
    "These do not sign anybody in.",
    "Check the name, the password and the authenticator's newest code; each code works once.",
)
