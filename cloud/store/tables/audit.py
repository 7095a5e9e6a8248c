"""The audit log: records, and the Merkle tree that proves them."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    Uuid,
    text,
)

from cloud.store.tables.columns import HASH, JSON_VALUE, SLUG, metadata, moment, one_of

audit_records = Table(
    "audit_records",
    metadata,
    Column("id", Uuid, primary_key=True),
    moment("at"),
    Column("actor", String(80), nullable=False),
    Column("action", String(40), nullable=False),
    # `approved`, `done`, or the name of the refusal.
    Column("outcome", String(40), nullable=False),
    Column("device_id", SLUG),
    Column("event_id", SLUG),
    Column("user_id", Uuid),
    # What it was done to: an idempotency key, a transaction, a device, a policy.
    Column("subject", String(200)),
    Column("request_hash", HASH),
    Column("detail", JSON_VALUE),
)

# What somebody did to an appliance: not what it asked for itself, of which there is no end. So no
# sale's record is in this index.
IS_DEED: Final = text(
    "device_id IS NOT NULL AND (request_hash IS NULL OR action = 'device_quarantined')"
)
Index(
    "ix_audit_records_deeds",
    audit_records.c.device_id,
    audit_records.c.id,
    sqlite_where=IS_DEED,
    postgresql_where=IS_DEED,
)

# What was written and is not in the tree yet: a row a commit, taken away as the tree takes it in.
audit_pending = Table(
    "audit_pending",
    metadata,
    Column("pending_id", Uuid, primary_key=True),
    # The ids of audit records, 16 bytes each.
    Column("records", LargeBinary, nullable=False),
    # Of transactions: user and transaction, 32 bytes each.
    Column("transactions", LargeBinary, nullable=False),
)

# One life of the tree: a restored database begins a new one.
audit_epochs = Table(
    "audit_epochs",
    metadata,
    Column("epoch", Integer, primary_key=True),
    Column("reason", String(200), nullable=False),
    moment("began_at"),
)

audit_leaves = Table(
    "audit_leaves",
    metadata,
    Column("epoch", Integer, ForeignKey("audit_epochs.epoch"), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("kind", String(12), nullable=False),
    Column("record_id", Uuid, nullable=False, unique=True),
    # Of a transaction: the other half of its identity.
    Column("user_id", Uuid),
    # RFC 6962 section 2.1: SHA-256 of 0x00 and the record's canonical form.
    Column("leaf_hash", LargeBinary(32), nullable=False),
    PrimaryKeyConstraint("epoch", "position"),
    one_of("kind", "audit", "transaction"),
)

audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("epoch", Integer, ForeignKey("audit_epochs.epoch"), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("root", LargeBinary(32), nullable=False),
    # The roots of the perfect subtrees, left to right, 32 bytes each: what the tree grows from.
    Column("frontier", LargeBinary, nullable=False),
    Column("jws", Text, nullable=False),
    moment("signed_at"),
    PrimaryKeyConstraint("epoch", "size"),
)
