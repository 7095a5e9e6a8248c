"""The first tables, spelled out: a migration does not change when the code's tables do."""

from typing import Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from cloud.store.append_only import triggers

revision = "0001"
down_revision = None

_TIME: Final = sa.DateTime(timezone=True)
_JSON: Final = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "access_tokens",
        sa.Column("hash", sa.String(length=43), nullable=False),
        sa.Column("role", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=80), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=True),
        sa.Column("revoked_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_access_tokens")),
    )
    op.create_table(
        "audit_records",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("outcome", sa.String(length=40), nullable=False),
        sa.Column("device_id", sa.String(length=40), nullable=True),
        sa.Column("event_id", sa.String(length=40), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("subject", sa.String(length=200), nullable=True),
        sa.Column("request_hash", sa.String(length=43), nullable=True),
        sa.Column("detail", _JSON, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_records")),
    )
    op.create_table(
        "credit_transactions",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.String(length=10), nullable=False),
        sa.Column("direction", sa.String(length=3), nullable=False),
        sa.Column("amount_in_cents", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("reference", sa.String(length=200), nullable=False),
        sa.Column("idempotency_key", sa.String(length=64), nullable=False),
        sa.Column("correlation_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("created_by", sa.String(length=80), nullable=False),
        sa.Column("reversal_of_transaction_id", sa.Uuid(), nullable=True),
        sa.Column("event_id", sa.String(length=40), nullable=True),
        sa.Column("stall_id", sa.String(length=40), nullable=True),
        sa.Column("device_id", sa.String(length=40), nullable=True),
        sa.Column("staff_id", sa.String(length=40), nullable=True),
        sa.Column("order_id", sa.Uuid(), nullable=True),
        sa.Column("lines", _JSON, nullable=True),
        sa.CheckConstraint(
            "(type = 'Purchase' AND direction = 'in')"
            " OR (type = 'Deduct' AND direction = 'out')"
            " OR (type = 'Refund' AND direction = 'in')"
            " OR (type = 'Adjustment' AND direction IN ('in', 'out'))",
            name=op.f("ck_credit_transactions_direction_follows_type"),
        ),
        sa.CheckConstraint(
            "amount_in_cents > 0", name=op.f("ck_credit_transactions_amount_positive")
        ),
        sa.ForeignKeyConstraint(
            ["user_id", "reversal_of_transaction_id"],
            ["credit_transactions.user_id", "credit_transactions.id"],
            name=op.f("fk_credit_transactions_user_id_reversal_of_transaction_id"),
        ),
        sa.PrimaryKeyConstraint("user_id", "id", name=op.f("pk_credit_transactions")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_credit_transactions_reversals",
        "credit_transactions",
        ["user_id", "reversal_of_transaction_id"],
        unique=False,
        sqlite_where=sa.text("reversal_of_transaction_id IS NOT NULL"),
        postgresql_where=sa.text("reversal_of_transaction_id IS NOT NULL"),
    )
    op.create_index(
        "uq_credit_transactions_purchase",
        "credit_transactions",
        ["user_id", "reference"],
        unique=True,
        sqlite_where=sa.text("type = 'Purchase'"),
        postgresql_where=sa.text("type = 'Purchase'"),
    )
    op.create_table(
        "events",
        sa.Column("event_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("locale", sa.String(length=6), server_default="en_GB", nullable=False),
        sa.Column("timezone", sa.String(length=64), server_default="UTC", nullable=False),
        sa.Column(
            "sale_max_in_cents", sa.BigInteger(), server_default=sa.text("20000"), nullable=False
        ),
        sa.Column("reply_timeout_ms", sa.Integer(), server_default=sa.text("4000"), nullable=False),
        sa.Column("staff_session_s", sa.Integer(), server_default=sa.text("43200"), nullable=False),
        sa.Column("offline_rules", _JSON, nullable=True),
        sa.Column("starts_at", _TIME, nullable=True),
        sa.Column("ends_at", _TIME, nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_events")),
    )
    op.create_table(
        "http_outcomes",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("operation", sa.String(length=40), nullable=False),
        sa.Column("digest", sa.String(length=43), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "key", name=op.f("pk_http_outcomes")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outcomes",
        sa.Column("device_id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("digest", sa.String(length=43), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("transaction_id", sa.Uuid(), nullable=True),
        sa.Column("epoch", sa.String(length=64), nullable=True),
        sa.Column("entry", sa.BigInteger(), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.CheckConstraint(
            "state IN ('approved', 'declined', 'cancelled',"
            " 'posted_offline', 'review', 'answered')",
            name=op.f("ck_outcomes_state_known"),
        ),
        sa.PrimaryKeyConstraint("device_id", "key", name=op.f("pk_outcomes")),
        postgresql_with={"fillfactor": "90"},
        sqlite_with_rowid=False,
    )
    op.create_table(
        "review_entries",
        sa.Column("review_id", sa.Uuid(), nullable=False),
        sa.Column("device_id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("amount_in_cents", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.String(length=3), nullable=True),
        sa.Column("event_id", sa.String(length=40), nullable=True),
        sa.Column("state", sa.String(length=12), server_default="open", nullable=False),
        sa.Column("transaction_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("resolved_at", _TIME, nullable=True),
        sa.Column("resolved_by", sa.String(length=80), nullable=True),
        sa.CheckConstraint(
            "state IN ('open', 'posted', 'reversed', 'written_off')",
            name=op.f("ck_review_entries_state_known"),
        ),
        sa.PrimaryKeyConstraint("review_id", name=op.f("pk_review_entries")),
        sa.UniqueConstraint("device_id", "key", name=op.f("uq_review_entries_device_id_key")),
    )
    op.create_table(
        "sign_in_failures",
        sa.Column("badge_id", sa.String(length=22), nullable=False),
        sa.Column("device_id", sa.String(length=40), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("locked_until", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("badge_id", "device_id", name=op.f("pk_sign_in_failures")),
    )
    op.create_table(
        "spent_tokens",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("jti", sa.String(length=22), nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "jti", name=op.f("pk_spent_tokens")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "staff",
        sa.Column("staff_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("initials", sa.String(length=8), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("staff_id", name=op.f("pk_staff")),
    )
    op.create_table(
        "users",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("payer_id", sa.String(length=22), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_users")),
        sa.UniqueConstraint("email", name=op.f("uq_users_email")),
        sa.UniqueConstraint("payer_id", name=op.f("uq_users_payer_id")),
    )
    op.create_table(
        "webhook_events",
        sa.Column("provider", sa.String(length=40), nullable=False),
        sa.Column("event_id", sa.String(length=200), nullable=False),
        sa.Column("type", sa.String(length=80), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=True),
        sa.Column("received_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("provider", "event_id", name=op.f("pk_webhook_events")),
    )
    op.create_table(
        "attendee_sessions",
        sa.Column("hash", sa.String(length=43), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.user_id"], name=op.f("fk_attendee_sessions_user_id")
        ),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_attendee_sessions")),
    )
    op.create_table(
        "badges",
        sa.Column("badge_id", sa.String(length=22), nullable=False),
        sa.Column("staff_id", sa.String(length=40), nullable=False),
        sa.Column("event_id", sa.String(length=40), nullable=False),
        sa.Column("pin_hash", sa.String(length=200), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("revoked_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(["event_id"], ["events.event_id"], name=op.f("fk_badges_event_id")),
        sa.ForeignKeyConstraint(["staff_id"], ["staff.staff_id"], name=op.f("fk_badges_staff_id")),
        sa.PrimaryKeyConstraint("badge_id", name=op.f("pk_badges")),
    )
    op.create_table(
        "credit_wallets",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("balance_in_cents", sa.BigInteger(), nullable=False),
        sa.Column("offline_frozen", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.user_id"], name=op.f("fk_credit_wallets_user_id")
        ),
        sa.PrimaryKeyConstraint("user_id", "currency", name=op.f("pk_credit_wallets")),
        postgresql_with={"fillfactor": "70"},
        sqlite_with_rowid=False,
    )
    op.create_table(
        "login_links",
        sa.Column("hash", sa.String(length=43), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("used_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.user_id"], name=op.f("fk_login_links_user_id")
        ),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_login_links")),
    )
    op.create_table(
        "payments",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("amount_in_cents", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("provider", sa.String(length=40), nullable=False),
        sa.Column("provider_reference", sa.String(length=200), nullable=True),
        sa.Column("checkout_url", sa.Text(), nullable=True),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("idempotency_key", sa.String(length=64), nullable=False),
        sa.Column("transaction_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.CheckConstraint(
            "state IN ('created', 'pending', 'succeeded', 'failed', 'expired', 'refunded')",
            name=op.f("ck_payments_state_known"),
        ),
        sa.CheckConstraint("amount_in_cents > 0", name=op.f("ck_payments_amount_positive")),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name=op.f("fk_payments_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payments")),
        sa.UniqueConstraint(
            "provider", "provider_reference", name=op.f("uq_payments_provider_provider_reference")
        ),
        sa.UniqueConstraint(
            "user_id", "idempotency_key", name=op.f("uq_payments_user_id_idempotency_key")
        ),
    )
    op.create_table(
        "staff_assignments",
        sa.Column("staff_id", sa.String(length=40), nullable=False),
        sa.Column("event_id", sa.String(length=40), nullable=False),
        sa.Column("stall_id", sa.String(length=40), nullable=True),
        sa.Column("assignment_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["event_id"], ["events.event_id"], name=op.f("fk_staff_assignments_event_id")
        ),
        sa.ForeignKeyConstraint(
            ["staff_id"], ["staff.staff_id"], name=op.f("fk_staff_assignments_staff_id")
        ),
        sa.PrimaryKeyConstraint("assignment_id", name=op.f("pk_staff_assignments")),
    )
    op.create_index(
        "uq_staff_assignments_event",
        "staff_assignments",
        ["staff_id", "event_id"],
        unique=True,
        sqlite_where=sa.text("stall_id IS NULL"),
        postgresql_where=sa.text("stall_id IS NULL"),
    )
    op.create_index(
        "uq_staff_assignments_stall",
        "staff_assignments",
        ["staff_id", "event_id", "stall_id"],
        unique=True,
    )
    op.create_table(
        "stalls",
        sa.Column("event_id", sa.String(length=40), nullable=False),
        sa.Column("stall_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["events.event_id"], name=op.f("fk_stalls_event_id")),
        sa.PrimaryKeyConstraint("event_id", "stall_id", name=op.f("pk_stalls")),
    )
    op.create_table(
        "devices",
        sa.Column("device_id", sa.String(length=40), nullable=False),
        sa.Column("event_id", sa.String(length=40), nullable=True),
        sa.Column("stall_id", sa.String(length=40), nullable=True),
        sa.Column("status", sa.String(length=16), server_default="active", nullable=False),
        sa.Column("revoked_at", _TIME, nullable=True),
        sa.Column("policy_version", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("policy_acked", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("journal_epoch", sa.String(length=64), nullable=True),
        sa.Column("journal_last", sa.BigInteger(), nullable=True),
        sa.Column("journal_settled_below", sa.BigInteger(), nullable=True),
        sa.Column("journal_head", sa.String(length=43), nullable=True),
        sa.Column("firmware", sa.String(length=200), nullable=True),
        sa.Column("printer", sa.String(length=200), nullable=True),
        sa.Column("queue", sa.BigInteger(), nullable=True),
        sa.Column("last_seen_at", _TIME, nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.CheckConstraint(
            "status IN ('active', 'revoked', 'decommissioned')",
            name=op.f("ck_devices_status_known"),
        ),
        sa.ForeignKeyConstraint(
            ["event_id", "stall_id"],
            ["stalls.event_id", "stalls.stall_id"],
            name=op.f("fk_devices_event_id_stall_id"),
        ),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_devices")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_table(
        "products",
        sa.Column("event_id", sa.String(length=40), nullable=False),
        sa.Column("stall_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("price_in_cents", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("price_in_cents >= 0", name=op.f("ck_products_price_not_negative")),
        sa.ForeignKeyConstraint(
            ["event_id", "stall_id"],
            ["stalls.event_id", "stalls.stall_id"],
            name=op.f("fk_products_event_id_stall_id"),
        ),
        sa.PrimaryKeyConstraint("event_id", "stall_id", "number", name=op.f("pk_products")),
    )
    op.create_table(
        "device_certificates",
        sa.Column("thumbprint", sa.String(length=43), nullable=False),
        sa.Column("device_id", sa.String(length=40), nullable=False),
        sa.Column("spki", sa.String(length=200), nullable=False),
        sa.Column("not_before", _TIME, nullable=False),
        sa.Column("not_after", _TIME, nullable=False),
        sa.Column("revoked_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.device_id"], name=op.f("fk_device_certificates_device_id")
        ),
        sa.PrimaryKeyConstraint("thumbprint", name=op.f("pk_device_certificates")),
    )
    op.create_index(
        op.f("ix_device_certificates_device_id"), "device_certificates", ["device_id"], unique=False
    )
    op.create_table(
        "policies",
        sa.Column("device_id", sa.String(length=40), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("jws", sa.Text(), nullable=False),
        sa.Column("issued_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("published_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.device_id"], name=op.f("fk_policies_device_id")
        ),
        sa.PrimaryKeyConstraint("device_id", "version", name=op.f("pk_policies")),
    )
    op.create_index(
        "ix_policies_unpublished",
        "policies",
        ["device_id"],
        unique=False,
        sqlite_where=sa.text("published_at IS NULL"),
        postgresql_where=sa.text("published_at IS NULL"),
    )
    op.create_table(
        "staff_sessions",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("staff_id", sa.String(length=40), nullable=False),
        sa.Column("device_id", sa.String(length=40), nullable=False),
        sa.Column("event_id", sa.String(length=40), nullable=False),
        sa.Column("stall_id", sa.String(length=40), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.device_id"], name=op.f("fk_staff_sessions_device_id")
        ),
        sa.ForeignKeyConstraint(
            ["staff_id"], ["staff.staff_id"], name=op.f("fk_staff_sessions_staff_id")
        ),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_staff_sessions")),
    )
    for statement in triggers(op.get_bind().dialect.name):
        op.execute(statement)
