"""Whether a claim's secret is right: each try is counted and kept before it is known."""

import hmac
import re
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import select, update

from cloud.operations.enrolment.claims import TRIES_MAX, hash_secret
from cloud.operations.refusals import Code, Refusal
from cloud.store.database import Database
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.tables import claims

_CLAIM_ID: Final = re.compile(r"[A-Z2-7]{10}")
ACTOR: Final = "system:enrolment"
"""Who acts in the audit log while nobody of ours does yet."""
WRONG: Final = Refusal(
    Code.CLAIM_WRONG,
    "This claim is not known, or its secret is wrong.",
    "Show the appliance the QR of a new claim.",
)
_LOCKED: Final = Refusal(
    Code.CLAIM_LOCKED,
    f"{TRIES_MAX} wrong secrets were tried: nobody enrols with this claim any more.",
    "Make a new claim, and ask who saw the old one's number.",
)


def try_claim(database: Database, claim_id: str, secret: str, now: datetime) -> Refusal | None:
    """None where the secret is right; what the claim is then good for is another question."""
    if _CLAIM_ID.fullmatch(claim_id) is None:
        _record(database, None, "unknown_claim", now)
        return WRONG
    with database.transaction() as connection:
        found = connection.execute(
            select(claims.c.secret_hash, claims.c.tries)
            .where(claims.c.claim_id == claim_id)
            .with_for_update()
        ).one_or_none()
        tries = TRIES_MAX if found is None else found.tries
        if tries < TRIES_MAX:
            connection.execute(
                update(claims).where(claims.c.claim_id == claim_id).values(tries=tries + 1)
            )
    if found is None:
        _record(database, None, "unknown_claim", now)
        return WRONG
    if tries >= TRIES_MAX:
        _record(database, claim_id, "locked", now)
        return _LOCKED
    if hmac.compare_digest(hash_secret(secret), found.secret_hash):
        # Its own count alone is void: wrong ones beside it stay counted.
        with database.transaction() as connection:
            connection.execute(
                update(claims).where(claims.c.claim_id == claim_id).values(tries=claims.c.tries - 1)
            )
        return None
    _record(database, claim_id, "wrong_secret", now, is_last=tries + 1 == TRIES_MAX)
    return WRONG


def _record(
    database: Database, claim_id: str | None, why: str, now: datetime, *, is_last: bool = False
) -> None:
    """`claim_id`: one of ours; what is none is anybody's text, and kept nowhere."""
    with database.transaction() as connection:
        about = None
        if claim_id is not None:
            about = connection.execute(
                select(claims.c.device_id, claims.c.event_id).where(claims.c.claim_id == claim_id)
            ).one()
        refused = AuditRow(
            at=now,
            actor=ACTOR,
            action="claim_refused",
            outcome="refused",
            subject=claim_id,
            device_id=None if about is None else about.device_id,
            event_id=None if about is None else about.event_id,
            detail={"why": why},
        )
        locked = [msgspec.structs.replace(refused, action="claim_locked")] if is_last else []
        write_audit_records(connection, [refused, *locked])
