"""Events, their stalls and price lists, their staff."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    Uuid,
    false,
    text,
)

from cloud.store.tables.columns import CURRENCY, JSON_VALUE, SLUG, metadata, moment, one_of

events = Table(
    "events",
    metadata,
    Column("event_id", SLUG, primary_key=True),
    Column("name", String(200), nullable=False),
    Column("currency", CURRENCY, nullable=False),
    Column("locale", String(6), nullable=False, server_default="en_GB"),
    Column("timezone", String(64), nullable=False, server_default="UTC"),
    Column("sale_max_in_cents", BigInteger, nullable=False, server_default=text("20000")),
    Column("reply_timeout_ms", Integer, nullable=False, server_default=text("4000")),
    Column("staff_session_s", Integer, nullable=False, server_default=text("43200")),
    # `policy.OfflineRules` as JSON; none: no offline sales.
    Column("offline_rules", JSON_VALUE),
    Column("top_up_min_in_cents", BigInteger, nullable=False, server_default=text("100")),
    Column("top_up_max_in_cents", BigInteger, nullable=False, server_default=text("50000")),
    Column("refund_window_s", Integer, nullable=False, server_default=text("1800")),
    Column("refund_staff_limit_in_cents", BigInteger, nullable=False, server_default=text("2000")),
    # None: two weeks after the end.
    moment("refund_deadline", nullable=True),
    Column("cash_out", String(12), nullable=False, server_default="after_event"),
    # Above it an adjustment needs a second person.
    Column("adjustment_limit_in_cents", BigInteger, nullable=False, server_default=text("5000")),
    moment("starts_at", nullable=True),
    moment("ends_at", nullable=True),
    moment("created_at"),
    one_of("cash_out", "never", "after_event", "always"),
)

# Each document that was applied, whole: what a roll-back makes anew. Rows are never changed.
event_versions = Table(
    "event_versions",
    metadata,
    Column("event_id", SLUG, ForeignKey("events.event_id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("document", JSON_VALUE, nullable=False),
    moment("applied_at"),
    # As in the audit log; none: before versions were kept.
    Column("applied_by", String(80)),
    # The version whose content this is again, and why; none: an edit.
    Column("rolled_back_to", Integer),
    Column("reason", String(200)),
    PrimaryKeyConstraint("event_id", "version"),
)

stalls = Table(
    "stalls",
    metadata,
    Column("event_id", SLUG, ForeignKey("events.event_id"), nullable=False),
    Column("stall_id", SLUG, nullable=False),
    Column("name", String(200), nullable=False),
    PrimaryKeyConstraint("event_id", "stall_id"),
)

products = Table(
    "products",
    metadata,
    Column("event_id", SLUG, nullable=False),
    Column("stall_id", SLUG, nullable=False),
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
    Column("staff_id", SLUG, primary_key=True),
    Column("name", String(100), nullable=False),
    Column("initials", String(8), nullable=False),
    moment("created_at"),
)

staff_assignments = Table(
    "staff_assignments",
    metadata,
    Column("staff_id", SLUG, ForeignKey("staff.staff_id"), nullable=False),
    Column("event_id", SLUG, ForeignKey("events.event_id"), nullable=False),
    # None: every stall of the event.
    Column("stall_id", SLUG),
    Column("assignment_id", Uuid, primary_key=True),
    # Whether they approve there what others may not give back alone.
    Column("is_supervisor", Boolean, nullable=False, server_default=false()),
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
    Column("staff_id", SLUG, ForeignKey("staff.staff_id"), nullable=False),
    Column("event_id", SLUG, ForeignKey("events.event_id"), nullable=False),
    # argon2id in its PHC string form; the PIN itself is kept nowhere. None: not chosen yet.
    Column("pin_hash", String(200)),
    # Without a PIN the badge is a secret by itself: until then whoever shows it chooses one.
    moment("choose_until", nullable=True),
    moment("created_at"),
    moment("revoked_at", nullable=True),
)

sign_in_failures = Table(
    "sign_in_failures",
    metadata,
    Column("badge_id", String(22), nullable=False),
    Column("device_id", SLUG, nullable=False),
    Column("count", Integer, nullable=False),
    moment("locked_until", nullable=True),
    PrimaryKeyConstraint("badge_id", "device_id"),
)

staff_sessions = Table(
    "staff_sessions",
    metadata,
    Column("session_id", Uuid, primary_key=True),
    Column("staff_id", SLUG, ForeignKey("staff.staff_id"), nullable=False),
    Column("device_id", SLUG, ForeignKey("devices.device_id"), nullable=False),
    Column("event_id", SLUG, nullable=False),
    Column("stall_id", SLUG, nullable=False),
    moment("created_at"),
    moment("expires_at"),
    moment("ended_at", nullable=True),
)
