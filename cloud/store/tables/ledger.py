"""Money: wallets, transactions, and what was answered under each key."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
    Uuid,
    false,
)

from cloud.store.tables.columns import (
    CURRENCY,
    HASH,
    JSON_VALUE,
    KEY,
    SLUG,
    metadata,
    moment,
    one_of,
)

credit_wallets = Table(
    "credit_wallets",
    metadata,
    Column("user_id", Uuid, ForeignKey("users.user_id"), nullable=False),
    Column("currency", CURRENCY, nullable=False),
    # A projection of the wallet's transactions, written with each of them; may be negative.
    Column("balance_in_cents", BigInteger, nullable=False),
    Column("offline_frozen", Boolean, nullable=False, server_default=false()),
    moment("updated_at"),
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
    Column("currency", CURRENCY, nullable=False),
    Column("reference", String(200), nullable=False),
    Column("idempotency_key", KEY, nullable=False),
    Column("correlation_id", KEY, nullable=False),
    moment("created_at"),
    # `kind:id`, as `device:till-1`, `user:...`, `staff:mia`, `system:payments`.
    Column("created_by", String(80), nullable=False),
    Column("reversal_of_transaction_id", Uuid),
    Column("event_id", SLUG),
    Column("stall_id", SLUG),
    Column("device_id", SLUG),
    Column("staff_id", SLUG),
    Column("order_id", Uuid),
    Column("lines", JSON_VALUE),
    # When a till took the sale by its policy alone; none: the cloud decided it.
    moment("accepted_offline_at", nullable=True),
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

outcomes = Table(
    "outcomes",
    metadata,
    Column("device_id", SLUG, nullable=False),
    Column("key", KEY, nullable=False),
    Column("state", String(16), nullable=False),
    # `SaleContent.digest()`; none for a cancel that came before its sale.
    Column("digest", HASH),
    # `messages.encode_outcome`: the same answer for the same request, word for word.
    Column("answer", LargeBinary, nullable=False),
    Column("user_id", Uuid),
    Column("transaction_id", Uuid),
    # Where the sale stands in the appliance's journal: what it has not settled is found by these.
    Column("epoch", KEY),
    Column("entry", BigInteger),
    moment("created_at"),
    PrimaryKeyConstraint("device_id", "key"),
    one_of("state", "approved", "declined", "cancelled", "posted_offline", "review", "answered"),
    postgresql_with={"fillfactor": "90"},
    sqlite_with_rowid=False,
)

http_outcomes = Table(
    "http_outcomes",
    metadata,
    # `kind:id`, as in `created_by`: a key belongs to whoever sent it.
    Column("actor", String(80), nullable=False),
    Column("key", KEY, nullable=False),
    Column("operation", String(40), nullable=False),
    # Of the request's content: the same key with other content is refused.
    Column("digest", HASH, nullable=False),
    Column("status", Integer, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    moment("created_at"),
    PrimaryKeyConstraint("actor", "key"),
    sqlite_with_rowid=False,
)

# A wallet QR's `jti`, from its one online approval (or burned by an offline posting) until no
# upload can name it any more.
# A journal's entry belongs to one key: another under its number is a clone's.
Index("ix_outcomes_entry", outcomes.c.device_id, outcomes.c.epoch, outcomes.c.entry)

# The deny list of a currency, as appliances are told it. The serial rises with every wallet that is
# frozen or released there, under this row's lock: lower ones never commit after higher ones.
deny_lists = Table(
    "deny_lists",
    metadata,
    Column("currency", CURRENCY, primary_key=True),
    # Drawn when the list begins, and anew when the database was restored: serials of a time that
    # is lost then mean nothing.
    Column("tag", Integer, nullable=False),
    Column("serial", BigInteger, nullable=False),
)

denied_wallets = Table(
    "denied_wallets",
    metadata,
    Column("currency", CURRENCY, nullable=False),
    Column("user_id", Uuid, ForeignKey("users.user_id"), nullable=False),
    # The change that made it so: each has its own.
    Column("serial", BigInteger, nullable=False),
    Column("is_denied", Boolean, nullable=False),
    PrimaryKeyConstraint("currency", "user_id"),
    UniqueConstraint("currency", "serial"),
)

spent_tokens = Table(
    "spent_tokens",
    metadata,
    Column("user_id", Uuid, nullable=False),
    Column("jti", String(22), nullable=False),
    moment("expires_at"),
    PrimaryKeyConstraint("user_id", "jti"),
    sqlite_with_rowid=False,
)

# Each entry ends in exactly one of posted, reversed or written off.
review_entries = Table(
    "review_entries",
    metadata,
    Column("review_id", Uuid, primary_key=True),
    Column("device_id", SLUG, nullable=False),
    Column("key", KEY, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("reason", String(40), nullable=False),
    # The request as the appliance signed it: what a person judges, and what is posted. None for
    # an approval whose appliance never said that it knows of it.
    Column("request", LargeBinary),
    Column("user_id", Uuid),
    Column("amount_in_cents", BigInteger),
    Column("currency", CURRENCY),
    Column("event_id", SLUG),
    Column("state", String(12), nullable=False, server_default="open"),
    Column("transaction_id", Uuid),
    moment("created_at"),
    moment("resolved_at", nullable=True),
    Column("resolved_by", String(80)),
    Column("resolution_reason", String(200)),
    UniqueConstraint("device_id", "key"),
    one_of("state", "open", "posted", "reversed", "written_off"),
)

# What needs a second person: asked by one, granted or refused by another.
approvals = Table(
    "approvals",
    metadata,
    Column("approval_id", Uuid, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("state", String(12), nullable=False),
    Column("user_id", Uuid, nullable=False),
    Column("amount_in_cents", BigInteger, nullable=False),
    Column("currency", CURRENCY, nullable=False),
    Column("direction", String(3)),
    # Of a refund: the sale it gives back.
    Column("sale_transaction_id", Uuid),
    # And what was left of it when that was asked: given back meanwhile, it may be owed no more.
    Column("sale_left_in_cents", BigInteger),
    Column("event_id", SLUG),
    Column("stall_id", SLUG),
    Column("reason", String(200), nullable=False),
    # `kind:id`; whoever decides is another.
    Column("asked_by", String(80), nullable=False),
    moment("asked_at"),
    Column("decided_by", String(80)),
    moment("decided_at", nullable=True),
    Column("decision_reason", String(200)),
    # Granted at an appliance: for that one alone, and only until then.
    Column("device_id", SLUG),
    moment("expires_at", nullable=True),
    Column("posted_transaction_id", Uuid),
    CheckConstraint("amount_in_cents > 0", name="amount_positive"),
    CheckConstraint("decided_by IS NULL OR decided_by <> asked_by", name="two_people"),
    CheckConstraint("state = 'waiting' OR decided_by IS NOT NULL", name="decided_by_somebody"),
    one_of("kind", "refund", "adjustment"),
    one_of("state", "waiting", "granted", "refused", "used"),
)

Index(
    "ix_approvals_sale",
    approvals.c.user_id,
    approvals.c.sale_transaction_id,
    sqlite_where=approvals.c.sale_transaction_id.is_not(None),
    postgresql_where=approvals.c.sale_transaction_id.is_not(None),
)
