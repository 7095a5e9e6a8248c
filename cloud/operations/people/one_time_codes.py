"""Six digits by e-mail: ten minutes, five tries, one use, and only the newest counts."""

import hmac
import secrets
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select, update
from uuid_utils.compat import uuid7

from cloud.access.sealing import hash_code
from cloud.access.tokens import hash_token
from cloud.keys import KeyRing
from cloud.operations.people.tries import Guarded, count_try, forget_tries, hold, locked_out
from cloud.operations.refusals import Code, Refusal
from cloud.store.database import Database
from cloud.store.letters import OneTimeCode, post_letter
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.tables import one_time_codes

CODE_VALID: Final = timedelta(minutes=10)
CODE_DIGITS: Final = 6
TRIES_MAX: Final = 5
SENT_MAX: Final = 5
SENT_WITHIN: Final = timedelta(hours=1)
_TRIES_FREE: Final = 20
"""Over several codes: four wrong ones in a row, then the waits begin."""


def send_code(database: Database, keys: KeyRing, email: str, now: datetime) -> None:
    """Post a code to this address, whoever it is: nobody is looked up, so nothing tells.

    An address gets a few an hour; beyond that nothing is posted, and nothing said.
    """
    address = normal(email)
    code = f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}}"
    code_id = uuid7()
    with database.transaction() as connection:
        # Held for this address: codes asked for at once are counted one by one.
        hold(connection, Guarded("code_sent", address, SENT_MAX), now)
        connection.execute(
            delete(one_time_codes).where(
                one_time_codes.c.email == address,
                one_time_codes.c.created_at <= now - SENT_WITHIN,
            )
        )
        sent = connection.execute(
            select(func.count()).where(one_time_codes.c.email == address)
        ).scalar_one()
        if sent >= SENT_MAX:
            write_audit_records(connection, [_record(address, "code_sent", "too_many", now)])
            return
        connection.execute(
            insert(one_time_codes).values(
                code_id=code_id,
                email=address,
                code_hash=hash_code(keys.console, code, f"{code_id} {address}"),
                created_at=now,
                expires_at=now + CODE_VALID,
            )
        )
        letter = OneTimeCode(
            at_ms=int(now.timestamp() * 1000),
            code=code,
            valid_minutes=int(CODE_VALID.total_seconds()) // 60,
        )
        post_letter(connection, address, letter, now)
        write_audit_records(connection, [_record(address, "code_sent", "done", now)])


def use_code(
    connection: Connection, keys: KeyRing, email: str, code: str, now: datetime
) -> Refusal | None:
    """None: it is this address's newest code, and now it is used. A wrong try is kept, so the
    caller commits in either case.
    """
    address = normal(email)
    newest = connection.execute(
        select(one_time_codes)
        .where(one_time_codes.c.email == address)
        .order_by(one_time_codes.c.created_at.desc(), one_time_codes.c.code_id.desc())
        .limit(1)
        .with_for_update()
    ).one_or_none()
    if (
        newest is None
        or newest.used_at is not None
        or newest.expires_at <= now
        or newest.tries >= TRIES_MAX
    ):
        # Nothing that could be guessed: no try is counted, else strangers could lock anybody out.
        return CODE_NOT_USABLE
    guarded = [Guarded("code", address, _TRIES_FREE)]
    until = count_try(connection, guarded, now)
    if until is not None:
        write_audit_records(connection, [_record(address, "code_tried", "locked_out", now)])
        return locked_out(until, now)

    expected = hash_code(keys.console, code, f"{newest.code_id} {address}")
    is_right = hmac.compare_digest(expected, newest.code_hash)

    connection.execute(
        update(one_time_codes)
        .where(one_time_codes.c.code_id == newest.code_id)
        .values(tries=newest.tries + 1, used_at=now if is_right else None)
    )
    if not is_right:
        write_audit_records(connection, [_record(address, "code_tried", "wrong", now)])
        return CODE_NOT_USABLE
    forget_tries(connection, guarded)
    return None


def normal(email: str) -> str:
    """One address, one attendee, however it was typed."""
    return email.strip().lower()


def _record(address: str, action: str, outcome: str, now: datetime) -> AuditRow:
    # The log is kept for ever; an address must be able to go.
    subject = f"address:{hash_token(address)[:22]}"
    return AuditRow(
        at=now, actor="unknown:attendee", action=action, outcome=outcome, subject=subject
    )


CODE_NOT_USABLE: Final = Refusal(
    Code.CODE_NOT_USABLE,
    "This is not the newest code for this address, or it was used or has expired.",
    "Look at the newest letter, or ask for another code.",
)
