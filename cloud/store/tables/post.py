"""The outbox: letters written in the transaction that they tell of, sent by the courier."""

from sqlalchemy import (
    Column,
    Index,
    Integer,
    String,
    Table,
    Uuid,
    text,
)

from cloud.store.tables.columns import JSON_VALUE, metadata, moment, one_of

letters = Table(
    "letters",
    metadata,
    # Also the mail's Message-ID: one that is sent twice is seen to be the same.
    Column("letter_id", Uuid, primary_key=True),
    Column("to_address", String(254), nullable=False),
    Column("kind", String(24), nullable=False),
    # Taken away once it was sent: a code or a link must not stay readable.
    Column("content", JSON_VALUE),
    Column("state", String(8), nullable=False),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    # None: sent, or given up.
    moment("next_try_at", nullable=True),
    Column("last_fault", String(200)),
    moment("created_at"),
    moment("ended_at", nullable=True),
    one_of("state", "waiting", "sent", "given_up"),
)

Index(
    "ix_letters_next_try_at",
    letters.c.next_try_at,
    sqlite_where=letters.c.next_try_at.is_not(None),
    postgresql_where=letters.c.next_try_at.is_not(None),
)
