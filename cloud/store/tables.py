"""Every table of the cloud, for SQLite and PostgreSQL alike; the migrations create them.

A sale inserts into `credit_transactions`, `outcomes`, `spent_tokens` and `audit_records` and
updates its own wallet: these carry no foreign key to a row that other stalls share (PostgreSQL
would lock that row once a sale) and no index that no sale needs.
"""

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    Uuid,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcTime(TypeDecorator[datetime]):
    """A timezone-aware UTC time on both databases; a naive one is our own bug."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        assert value.tzinfo is not None, "a time without its zone"
        utc = value.astimezone(UTC)
        # SQLite keeps no zone: what is stored there is UTC by this rule alone.
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002  # SQLAlchemy passes it by name
    ) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


_JSON: Final = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
_SLUG: Final = String(40)
_KEY: Final = String(64)
_CURRENCY: Final = String(3)
_HASH: Final = String(43)
"""SHA-256, base64url."""


def _one_of(column: str, *values: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{column}_known")


def _time(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, UtcTime, nullable=nullable)


# People and their money.

users = Table(
    "users",
    metadata,
    Column("user_id", Uuid, primary_key=True),
    # The opaque `sub` of a wallet QR, base64url: it names the payer to the cloud and nobody else.
    Column("payer_id", String(22), nullable=False, unique=True),
    Column("email", String(254), unique=True),
    _time("created_at"),
)

credit_wallets = Table(
    "credit_wallets",
    metadata,
    Column("user_id", Uuid, ForeignKey("users.user_id"), nullable=False),
    Column("currency", _CURRENCY, nullable=False),
    # A projection of the wallet's transactions, written with each of them; may be negative.
    Column("balance_in_cents", BigInteger, nullable=False),
    Column("offline_frozen", Boolean, nullable=False, server_default=false()),
    _time("updated_at"),
    PrimaryKeyConstraint("user_id", "currency"),
    # Room on each page, so that a sale's update stays there and touches no index.
    postgresql_with={"fillfactor": "70"},
    sqlite_with_rowid=False,
)

credit_transactions = Table(
    "credit_transactions",
    metadata,
    Column("user_id", Uuid, nullable=False),
    Column("id", Uuid, nullable=False),
    Column("type", String(10), nullable=False),
    Column("direction", String(3), nullable=False),
    Column("amount_in_cents", BigInteger, nullable=False),
    Column("currency", _CURRENCY, nullable=False),
    Column("reference", String(200), nullable=False),
    Column("idempotency_key", _KEY, nullable=False),
    Column("correlation_id", _KEY, nullable=False),
    _time("created_at"),
    # `kind:id`, as `device:till-1`, `user:...`, `staff:mia`, `system:payments`.
    Column("created_by", String(80), nullable=False),
    Column("reversal_of_transaction_id", Uuid),
    Column("event_id", _SLUG),
    Column("stall_id", _SLUG),
    Column("device_id", _SLUG),
    Column("staff_id", _SLUG),
    Column("order_id", Uuid),
    Column("lines", _JSON),
    # One index serves identity and a wallet's history: ids are UUIDv7, so they sort by time.
    PrimaryKeyConstraint("user_id", "id"),
    ForeignKeyConstraint(
        ["user_id", "reversal_of_transaction_id"],
        ["credit_transactions.user_id", "credit_transactions.id"],
    ),
    CheckConstraint("amount_in_cents > 0", name="amount_positive"),
    CheckConstraint(
        "(type = 'Purchase' AND direction = 'in') OR (type = 'Deduct' AND direction = 'out')"
        " OR (type = 'Refund' AND direction = 'in')"
        " OR (type = 'Adjustment' AND direction IN ('in', 'out'))",
        name="direction_follows_type",
    ),
    sqlite_with_rowid=False,
)

Index(
    "ix_credit_transactions_reversals",
    credit_transactions.c.user_id,
    credit_transactions.c.reversal_of_transaction_id,
    sqlite_where=credit_transactions.c.reversal_of_transaction_id.is_not(None),
    postgresql_where=credit_transactions.c.reversal_of_transaction_id.is_not(None),
)

# One card payment is credited once, whatever the operation above it believes.
Index(
    "uq_credit_transactions_purchase",
    credit_transactions.c.user_id,
    credit_transactions.c.reference,
    unique=True,
    sqlite_where=credit_transactions.c.type == "Purchase",
    postgresql_where=credit_transactions.c.type == "Purchase",
)

# Keys and outcomes: what was answered, so that it is answered again.

outcomes = Table(
    "outcomes",
    metadata,
    Column("device_id", _SLUG, nullable=False),
    Column("key", _KEY, nullable=False),
    Column("state", String(16), nullable=False),
    # `SaleContent.digest()`; none for a cancel that came before its sale.
    Column("digest", _HASH),
    # `messages.encode_outcome`: the same answer for the same request, word for word.
    Column("answer", LargeBinary, nullable=False),
    Column("user_id", Uuid),
    Column("transaction_id", Uuid),
    # Where the sale stands in the appliance's journal: what it has not settled is found by these.
    Column("epoch", _KEY),
    Column("entry", BigInteger),
    _time("created_at"),
    PrimaryKeyConstraint("device_id", "key"),
    _one_of("state", "approved", "declined", "cancelled", "posted_offline", "review", "answered"),
    postgresql_with={"fillfactor": "90"},
    sqlite_with_rowid=False,
)

http_outcomes = Table(
    "http_outcomes",
    metadata,
    Column("user_id", Uuid, nullable=False),
    Column("key", _KEY, nullable=False),
    Column("operation", String(40), nullable=False),
    # Of the request's content: the same key with other content is refused.
    Column("digest", _HASH, nullable=False),
    Column("status", Integer, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    _time("created_at"),
    PrimaryKeyConstraint("user_id", "key"),
    sqlite_with_rowid=False,
)

# A wallet QR's `jti`, from its one online approval (or burned by an offline posting) until no
# upload can name it any more.
spent_tokens = Table(
    "spent_tokens",
    metadata,
    Column("user_id", Uuid, nullable=False),
    Column("jti", String(22), nullable=False),
    _time("expires_at"),
    PrimaryKeyConstraint("user_id", "jti"),
    sqlite_with_rowid=False,
)

# Each entry ends in exactly one of posted, reversed or written off.
review_entries = Table(
    "review_entries",
    metadata,
    Column("review_id", Uuid, primary_key=True),
    Column("device_id", _SLUG, nullable=False),
    Column("key", _KEY, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("reason", String(40), nullable=False),
    # The request as the appliance signed it: what a person judges, and what is posted.
    Column("request", LargeBinary, nullable=False),
    Column("user_id", Uuid),
    Column("amount_in_cents", BigInteger),
    Column("currency", _CURRENCY),
    Column("event_id", _SLUG),
    Column("state", String(12), nullable=False, server_default="open"),
    Column("transaction_id", Uuid),
    _time("created_at"),
    _time("resolved_at", nullable=True),
    Column("resolved_by", String(80)),
    UniqueConstraint("device_id", "key"),
    _one_of("state", "open", "posted", "reversed", "written_off"),
)

audit_records = Table(
    "audit_records",
    metadata,
    Column("id", Uuid, primary_key=True),
    _time("at"),
    Column("actor", String(80), nullable=False),
    Column("action", String(40), nullable=False),
    # `approved`, `done`, or the name of the refusal.
    Column("outcome", String(40), nullable=False),
    Column("device_id", _SLUG),
    Column("event_id", _SLUG),
    Column("user_id", Uuid),
    # What it was done to: an idempotency key, a transaction, a device, a policy.
    Column("subject", String(200)),
    Column("request_hash", _HASH),
    Column("detail", _JSON),
)

# Events, stalls, staff.

events = Table(
    "events",
    metadata,
    Column("event_id", _SLUG, primary_key=True),
    Column("name", String(200), nullable=False),
    Column("currency", _CURRENCY, nullable=False),
    Column("locale", String(6), nullable=False, server_default="en_GB"),
    Column("timezone", String(64), nullable=False, server_default="UTC"),
    Column("sale_max_in_cents", BigInteger, nullable=False, server_default=text("20000")),
    Column("reply_timeout_ms", Integer, nullable=False, server_default=text("4000")),
    Column("staff_session_s", Integer, nullable=False, server_default=text("43200")),
    # `policy.OfflineRules` as JSON; none: no offline sales.
    Column("offline_rules", _JSON),
    _time("starts_at", nullable=True),
    _time("ends_at", nullable=True),
    _time("created_at"),
)

stalls = Table(
    "stalls",
    metadata,
    Column("event_id", _SLUG, ForeignKey("events.event_id"), nullable=False),
    Column("stall_id", _SLUG, nullable=False),
    Column("name", String(200), nullable=False),
    PrimaryKeyConstraint("event_id", "stall_id"),
)

products = Table(
    "products",
    metadata,
    Column("event_id", _SLUG, nullable=False),
    Column("stall_id", _SLUG, nullable=False),
    Column("number", Integer, nullable=False),
    Column("name", String(40), nullable=False),
    Column("price_in_cents", BigInteger, nullable=False),
    PrimaryKeyConstraint("event_id", "stall_id", "number"),
    ForeignKeyConstraint(["event_id", "stall_id"], ["stalls.event_id", "stalls.stall_id"]),
    CheckConstraint("price_in_cents >= 0", name="price_not_negative"),
)

staff = Table(
    "staff",
    metadata,
    Column("staff_id", _SLUG, primary_key=True),
    Column("name", String(100), nullable=False),
    Column("initials", String(8), nullable=False),
    _time("created_at"),
)

staff_assignments = Table(
    "staff_assignments",
    metadata,
    Column("staff_id", _SLUG, ForeignKey("staff.staff_id"), nullable=False),
    Column("event_id", _SLUG, ForeignKey("events.event_id"), nullable=False),
    # None: every stall of the event.
    Column("stall_id", _SLUG),
    Column("assignment_id", Uuid, primary_key=True),
)

Index(
    "uq_staff_assignments_stall",
    staff_assignments.c.staff_id,
    staff_assignments.c.event_id,
    staff_assignments.c.stall_id,
    unique=True,
)

# NULLs are distinct from one another: the assignment to a whole event needs a rule of its own.
Index(
    "uq_staff_assignments_event",
    staff_assignments.c.staff_id,
    staff_assignments.c.event_id,
    unique=True,
    sqlite_where=staff_assignments.c.stall_id.is_(None),
    postgresql_where=staff_assignments.c.stall_id.is_(None),
)

badges = Table(
    "badges",
    metadata,
    Column("badge_id", String(22), primary_key=True),
    Column("staff_id", _SLUG, ForeignKey("staff.staff_id"), nullable=False),
    Column("event_id", _SLUG, ForeignKey("events.event_id"), nullable=False),
    # argon2id in its PHC string form; the PIN itself is kept nowhere.
    Column("pin_hash", String(200), nullable=False),
    _time("created_at"),
    _time("revoked_at", nullable=True),
)

sign_in_failures = Table(
    "sign_in_failures",
    metadata,
    Column("badge_id", String(22), nullable=False),
    Column("device_id", _SLUG, nullable=False),
    Column("count", Integer, nullable=False),
    _time("locked_until", nullable=True),
    PrimaryKeyConstraint("badge_id", "device_id"),
)

staff_sessions = Table(
    "staff_sessions",
    metadata,
    Column("session_id", Uuid, primary_key=True),
    Column("staff_id", _SLUG, ForeignKey("staff.staff_id"), nullable=False),
    Column("device_id", _SLUG, ForeignKey("devices.device_id"), nullable=False),
    Column("event_id", _SLUG, nullable=False),
    Column("stall_id", _SLUG, nullable=False),
    _time("created_at"),
    _time("expires_at"),
    _time("ended_at", nullable=True),
)

# Appliances.

devices = Table(
    "devices",
    metadata,
    Column("device_id", _SLUG, primary_key=True),
    # Where it is assigned; none: nowhere yet.
    Column("event_id", _SLUG),
    Column("stall_id", _SLUG),
    Column("status", String(16), nullable=False, server_default="active"),
    _time("revoked_at", nullable=True),
    # The newest policy issued for it, and the newest it has acknowledged.
    Column("policy_version", Integer, nullable=False, server_default=text("0")),
    Column("policy_acked", Integer, nullable=False, server_default=text("0")),
    # Its journal as of the newest heartbeat: what a gap, a fork or a clone is noticed by.
    Column("journal_epoch", _KEY),
    Column("journal_last", BigInteger),
    Column("journal_settled_below", BigInteger),
    Column("journal_head", _HASH),
    Column("firmware", String(200)),
    Column("printer", String(200)),
    Column("queue", BigInteger),
    _time("last_seen_at", nullable=True),
    _time("created_at"),
    ForeignKeyConstraint(["event_id", "stall_id"], ["stalls.event_id", "stalls.stall_id"]),
    _one_of("status", "active", "revoked", "decommissioned"),
    postgresql_with={"fillfactor": "70"},
)

device_certificates = Table(
    "device_certificates",
    metadata,
    # `x5t#S256` of the certificate.
    Column("thumbprint", _HASH, primary_key=True),
    Column("device_id", _SLUG, ForeignKey("devices.device_id"), nullable=False, index=True),
    # SubjectPublicKeyInfo, DER, base64url.
    Column("spki", String(200), nullable=False),
    _time("not_before"),
    _time("not_after"),
    _time("revoked_at", nullable=True),
)

policies = Table(
    "policies",
    metadata,
    Column("device_id", _SLUG, ForeignKey("devices.device_id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("jws", Text, nullable=False),
    _time("issued_at"),
    _time("expires_at"),
    # None: a worker still has to publish it.
    _time("published_at", nullable=True),
    PrimaryKeyConstraint("device_id", "version"),
)

Index(
    "ix_policies_unpublished",
    policies.c.device_id,
    sqlite_where=policies.c.published_at.is_(None),
    postgresql_where=policies.c.published_at.is_(None),
)

# Cards.

payments = Table(
    "payments",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("user_id", Uuid, ForeignKey("users.user_id"), nullable=False),
    Column("amount_in_cents", BigInteger, nullable=False),
    Column("currency", _CURRENCY, nullable=False),
    Column("provider", String(40), nullable=False),
    # Known once the provider was called; the row is committed before that.
    Column("provider_reference", String(200)),
    # Where the provider's own page takes the card.
    Column("checkout_url", Text),
    Column("state", String(12), nullable=False),
    Column("idempotency_key", _KEY, nullable=False),
    Column("transaction_id", Uuid),
    _time("created_at"),
    _time("updated_at"),
    UniqueConstraint("user_id", "idempotency_key"),
    UniqueConstraint("provider", "provider_reference"),
    CheckConstraint("amount_in_cents > 0", name="amount_positive"),
    _one_of("state", "created", "pending", "succeeded", "failed", "expired", "refunded"),
)

webhook_events = Table(
    "webhook_events",
    metadata,
    Column("provider", String(40), nullable=False),
    Column("event_id", String(200), nullable=False),
    Column("type", String(80), nullable=False),
    Column("payment_id", Uuid),
    _time("received_at"),
    PrimaryKeyConstraint("provider", "event_id"),
)

# Access: only hashes of what a browser or a command presents.

login_links = Table(
    "login_links",
    metadata,
    Column("hash", _HASH, primary_key=True),
    Column("user_id", Uuid, ForeignKey("users.user_id"), nullable=False),
    _time("created_at"),
    _time("expires_at"),
    _time("used_at", nullable=True),
)

attendee_sessions = Table(
    "attendee_sessions",
    metadata,
    Column("hash", _HASH, primary_key=True),
    Column("user_id", Uuid, ForeignKey("users.user_id"), nullable=False),
    _time("created_at"),
    _time("expires_at"),
    _time("ended_at", nullable=True),
)

access_tokens = Table(
    "access_tokens",
    metadata,
    Column("hash", _HASH, primary_key=True),
    Column("role", String(40), nullable=False),
    # Whose it is, for the audit record: `ops:ana`.
    Column("subject", String(80), nullable=False),
    _time("created_at"),
    _time("expires_at", nullable=True),
    _time("revoked_at", nullable=True),
)
