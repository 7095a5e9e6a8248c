"""An Idempotency-Key over HTTP: the same content gets the first answer, other content a refusal."""

import hashlib
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, select, update

from cloud.operations.refusals import Code, Refusal
from cloud.operations.rows import insert_if_new
from cloud.store.tables import http_outcomes
from protocol.encoding import to_base64url
from protocol.ids import IdempotencyKey


def digest_of(*content: object) -> str:
    """Of what makes two requests the same; anything that msgspec can write as JSON."""
    return to_base64url(hashlib.sha256(msgspec.json.encode(content)).digest())


def claim(
    connection: Connection,
    actor: str,
    key: IdempotencyKey,
    *,
    operation: str,
    digest: str,
    now: datetime,
) -> bytes | Refusal | None:
    """None: go on, and `keep` an answer in this same transaction. Otherwise what was answered.

    Waits for whoever is at the same key just now. `actor` is `kind:id`; a key is theirs alone.
    """
    row: dict[str, Any] = {
        "actor": actor,
        "key": key,
        "operation": operation,
        "digest": digest,
        "status": 0,
        "answer": b"",
        "created_at": now,
    }
    if insert_if_new(connection, http_outcomes, row):
        return None
    stands = connection.execute(
        select(http_outcomes)
        .where(http_outcomes.c.actor == actor, http_outcomes.c.key == key)
        # A refusal may have been kept without an answer: of those who ask again, one at a time.
        .with_for_update()
    ).one()
    if (stands.operation, stands.digest) != (operation, digest):
        return Refusal(
            Code.KEY_REUSED,
            "This Idempotency-Key was used for something else.",
            "Use a new key for a new request.",
        )
    return bytes(stands.answer)


def keep(
    connection: Connection, actor: str, key: IdempotencyKey, answer: bytes, status: int = 200
) -> None:
    """The answer that this key gets from now on; a refusal is an answer too."""
    connection.execute(
        update(http_outcomes)
        .where(http_outcomes.c.actor == actor, http_outcomes.c.key == key)
        .values(answer=answer, status=status)
    )
