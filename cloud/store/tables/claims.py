"""Claims: who may enrol an appliance, where it will stand, and what the one that did was given."""

from sqlalchemy import Column, Index, Integer, String, Table, Text, text

from cloud.store.tables.columns import HASH, SLUG, metadata, moment

claims = Table(
    "claims",
    metadata,
    # Base32, 10 characters: what the QR names it by.
    Column("claim_id", String(10), primary_key=True),
    Column("secret_hash", HASH, nullable=False),
    # No foreign key: an old claim keeps no stall from going.
    Column("event_id", SLUG, nullable=False),
    Column("stall_id", SLUG, nullable=False),
    # The name that the appliance will get.
    Column("device_id", SLUG, nullable=False),
    # The one appliance that may use it, by what its request says; none: whichever reads the QR.
    Column("serial", String(64)),
    # The appliance whose place it takes.
    Column("replaces", SLUG),
    moment("created_at"),
    Column("created_by", String(200), nullable=False),
    moment("expires_at"),
    # Wrong secrets, each counted before it was compared.
    Column("tries", Integer, nullable=False, server_default=text("0")),
    moment("used_at", nullable=True),
    # The key that used it, and what it was given: the same key may ask again for the same.
    Column("used_spki", String(200)),
    Column("certificate_pem", Text),
    moment("withdrawn_at", nullable=True),
)

_IS_OPEN = claims.c.used_at.is_(None) & claims.c.withdrawn_at.is_(None)
Index(
    "ix_claims_open",
    claims.c.device_id,
    sqlite_where=_IS_OPEN,
    postgresql_where=_IS_OPEN,
)
