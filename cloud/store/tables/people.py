"""Who signs in: attendees, console users, programs; only hashes of what they present."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Uuid,
    false,
    text,
)

from cloud.store.tables.columns import HASH, SLUG, metadata, moment, one_of

users = Table(
    "users",
    metadata,
    Column("user_id", Uuid, primary_key=True),
    # The opaque `sub` of a wallet QR, base64url: it names the payer to the cloud and nobody else.
    Column("payer_id", String(22), nullable=False, unique=True),
    Column("email", String(254), unique=True),
    # Whether sales at stalls are confirmed by e-mail; the attendee's own choice.
    Column("pos_receipts", Boolean, nullable=False, server_default=false()),
    moment("created_at"),
)

login_links = Table(
    "login_links",
    metadata,
    Column("hash", HASH, primary_key=True),
    Column("user_id", Uuid, ForeignKey("users.user_id"), nullable=False),
    moment("created_at"),
    moment("expires_at"),
    moment("used_at", nullable=True),
)

attendee_sessions = Table(
    "attendee_sessions",
    metadata,
    Column("hash", HASH, primary_key=True),
    Column("user_id", Uuid, ForeignKey("users.user_id"), nullable=False),
    moment("created_at"),
    moment("expires_at"),
    moment("ended_at", nullable=True),
)

access_tokens = Table(
    "access_tokens",
    metadata,
    Column("hash", HASH, primary_key=True),
    Column("role", String(40), nullable=False),
    # Whose it is, for the audit record: `ops:ana`.
    Column("subject", String(80), nullable=False),
    # None: every event; every stall.
    Column("event_id", SLUG),
    Column("stall_id", SLUG),
    moment("created_at"),
    moment("expires_at", nullable=True),
    moment("revoked_at", nullable=True),
)

# A code sent by e-mail; its hash alone stays.
one_time_codes = Table(
    "one_time_codes",
    metadata,
    Column("code_id", Uuid, primary_key=True),
    Column("email", String(254), nullable=False, index=True),
    Column("code_hash", String(200), nullable=False),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    moment("created_at"),
    moment("expires_at"),
    moment("used_at", nullable=True),
)

console_users = Table(
    "console_users",
    metadata,
    Column("user_name", SLUG, primary_key=True),
    Column("email", String(254), nullable=False, unique=True),
    # argon2id in its PHC string form; none until the invitation was taken.
    Column("password_hash", String(200)),
    # Sealed with a key that the database does not hold.
    Column("totp_secret", LargeBinary),
    # The newest time step that signed in: a code counts once (RFC 6238 section 5.2).
    Column("totp_step", BigInteger),
    moment("created_at"),
    moment("disabled_at", nullable=True),
)

console_grants = Table(
    "console_grants",
    metadata,
    Column("grant_id", Uuid, primary_key=True),
    Column("user_name", SLUG, ForeignKey("console_users.user_name"), nullable=False, index=True),
    Column("role", String(20), nullable=False),
    # None: every event; every stall.
    Column("event_id", SLUG),
    Column("stall_id", SLUG),
    Column("granted_by", String(80), nullable=False),
    moment("created_at"),
    moment("ended_at", nullable=True),
    one_of("role", "supervisor", "ops", "finance", "admin", "stall_owner"),
)

# An invitation, or a new start for someone who lost their second factor.
console_links = Table(
    "console_links",
    metadata,
    Column("hash", HASH, primary_key=True),
    Column("user_name", SLUG, ForeignKey("console_users.user_name"), nullable=False),
    # Chosen but not yet confirmed by a first code: what stood before still signs in.
    Column("password_hash", String(200)),
    Column("totp_secret", LargeBinary),
    moment("created_at"),
    moment("expires_at"),
    moment("used_at", nullable=True),
)

console_sessions = Table(
    "console_sessions",
    metadata,
    Column("hash", HASH, primary_key=True),
    Column("user_name", SLUG, ForeignKey("console_users.user_name"), nullable=False, index=True),
    moment("created_at"),
    moment("expires_at"),
    moment("ended_at", nullable=True),
)

# Wrong tries at a secret: of one kind, by whose secret it is.
secret_tries = Table(
    "secret_tries",
    metadata,
    Column("kind", String(24), nullable=False),
    Column("subject", String(254), nullable=False),
    Column("count", Integer, nullable=False),
    moment("locked_until", nullable=True),
    moment("last_at"),
    PrimaryKeyConstraint("kind", "subject"),
)
