"""All the money paths, people, and a tree over the audit log."""

from typing import Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
from uuid_utils.compat import uuid7

from cloud.store.append_only import refuse_changes

revision = "0002"
down_revision = "0001"

_TIME: Final = sa.DateTime(timezone=True)
_JSON: Final = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_WALLETS: Final = sa.table(
    "credit_wallets",
    sa.column("user_id", sa.Uuid()),
    sa.column("currency", sa.String()),
    sa.column("offline_frozen", sa.Boolean()),
    sa.column("updated_at", _TIME),
)
_RECORDS: Final = sa.table(
    "audit_records",
    sa.column("id", sa.Uuid()),
    sa.column("at", _TIME),
    sa.column("actor", sa.String()),
    sa.column("action", sa.String()),
    sa.column("outcome", sa.String()),
    sa.column("user_id", sa.Uuid()),
    sa.column("subject", sa.String()),
)
_NOW_APPEND_ONLY: Final = ("audit_leaves", "audit_checkpoints", "audit_epochs")


def upgrade() -> None:
    _change_tables()
    _create_tables()
    for statement in refuse_changes(op.get_bind().dialect.name, _NOW_APPEND_ONLY):
        op.execute(statement)


def _change_tables() -> None:
    """Columns with a rule are spelled out: SQLite adds a rule with its column or not at all."""
    op.add_column("access_tokens", sa.Column("event_id", sa.String(length=40), nullable=True))
    op.add_column("access_tokens", sa.Column("stall_id", sa.String(length=40), nullable=True))
    op.add_column("credit_transactions", sa.Column("accepted_offline_at", _TIME, nullable=True))
    op.add_column("devices", sa.Column("resend_for", sa.Uuid(), nullable=True))
    op.add_column("devices", sa.Column("resend_epoch", sa.String(length=64), nullable=True))
    op.add_column("devices", sa.Column("resend_from", sa.BigInteger(), nullable=True))
    for name, kind, default in (
        ("top_up_min_in_cents", sa.BigInteger(), "100"),
        ("top_up_max_in_cents", sa.BigInteger(), "50000"),
        ("refund_window_s", sa.Integer(), "1800"),
        ("refund_staff_limit_in_cents", sa.BigInteger(), "2000"),
        ("adjustment_limit_in_cents", sa.BigInteger(), "5000"),
    ):
        column = sa.Column(name, kind, server_default=sa.text(default), nullable=False)
        op.add_column("events", column)
    op.add_column("events", sa.Column("refund_deadline", _TIME, nullable=True))
    op.execute(
        "ALTER TABLE events ADD COLUMN cash_out VARCHAR(12) DEFAULT 'after_event' NOT NULL "
        "CONSTRAINT ck_events_cash_out_known CHECK (cash_out IN ('never', 'after_event', 'always'))"
    )
    op.execute(
        "ALTER TABLE payments ADD COLUMN purpose VARCHAR(8) DEFAULT 'top_up' NOT NULL "
        "CONSTRAINT ck_payments_purpose_known CHECK (purpose IN ('top_up', 'order'))"
    )
    op.add_column("payments", sa.Column("event_id", sa.String(length=40), nullable=True))
    op.add_column("payments", sa.Column("order_id", sa.Uuid(), nullable=True))
    op.add_column("payments", sa.Column("return_url", sa.Text(), nullable=True))
    op.add_column("payments", sa.Column("provider_charge", sa.String(length=200), nullable=True))
    op.create_index(
        "uq_payments_provider_charge", "payments", ["provider", "provider_charge"], unique=True
    )
    op.execute(
        "ALTER TABLE payments ADD COLUMN refunded_in_cents BIGINT DEFAULT 0 NOT NULL "
        "CONSTRAINT ck_payments_refunded_within_amount "
        "CHECK (refunded_in_cents >= 0 AND refunded_in_cents <= amount_in_cents)"
    )
    op.add_column(
        "payments",
        sa.Column(
            "disputed_in_cents", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        ),
    )
    op.add_column("payments", sa.Column("poll_at", _TIME, nullable=True))
    op.add_column(
        "payments", sa.Column("polls", sa.Integer(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column("payments", sa.Column("expires_at", _TIME, nullable=True))
    op.create_index(
        "ix_payments_poll_at",
        "payments",
        ["poll_at"],
        unique=False,
        sqlite_where=sa.text("poll_at IS NOT NULL"),
        postgresql_where=sa.text("poll_at IS NOT NULL"),
    )
    op.add_column(
        "staff_assignments",
        sa.Column("is_supervisor", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column(
        "users",
        sa.Column("pos_receipts", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    with op.batch_alter_table("review_entries") as entries:
        entries.add_column(sa.Column("resolution_reason", sa.String(length=200), nullable=True))
        entries.alter_column("request", existing_type=sa.LargeBinary(), nullable=True)
    # From now on a wallet's time is its newest transaction's.
    op.execute(
        "UPDATE credit_wallets SET updated_at ="
        " (SELECT max(t.created_at) FROM credit_transactions t"
        " WHERE t.user_id = credit_wallets.user_id AND t.currency = credit_wallets.currency)"
        " WHERE EXISTS (SELECT 1 FROM credit_transactions t"
        " WHERE t.user_id = credit_wallets.user_id AND t.currency = credit_wallets.currency)"
    )
    _record_frozen_wallets()
    # Nothing was ever written there.
    op.drop_table("http_outcomes")
    op.create_table(
        "http_outcomes",
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("operation", sa.String(length=40), nullable=False),
        sa.Column("digest", sa.String(length=43), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("actor", "key", name=op.f("pk_http_outcomes")),
        sqlite_with_rowid=False,
    )


def _record_frozen_wallets() -> None:
    """From now on a frozen wallet has a record that says so; these were frozen without one."""
    connection = op.get_bind()
    frozen = connection.execute(
        sa.select(_WALLETS.c.user_id, _WALLETS.c.currency, _WALLETS.c.updated_at).where(
            _WALLETS.c.offline_frozen
        )
    )
    for user_id, currency, at in frozen.all():
        connection.execute(
            _RECORDS.insert().values(
                id=uuid7(),
                at=at,
                actor="system:migration",
                action="wallet_frozen",
                outcome="done",
                user_id=user_id,
                subject=currency,
            )
        )


def _create_tables() -> None:
    op.create_table(
        "approvals",
        sa.Column("approval_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("amount_in_cents", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("direction", sa.String(length=3), nullable=True),
        sa.Column("sale_transaction_id", sa.Uuid(), nullable=True),
        sa.Column("sale_left_in_cents", sa.BigInteger(), nullable=True),
        sa.Column("event_id", sa.String(length=40), nullable=True),
        sa.Column("stall_id", sa.String(length=40), nullable=True),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.Column("asked_by", sa.String(length=80), nullable=False),
        sa.Column("asked_at", _TIME, nullable=False),
        sa.Column("decided_by", sa.String(length=80), nullable=True),
        sa.Column("decided_at", _TIME, nullable=True),
        sa.Column("decision_reason", sa.String(length=200), nullable=True),
        sa.Column("device_id", sa.String(length=40), nullable=True),
        sa.Column("expires_at", _TIME, nullable=True),
        sa.Column("posted_transaction_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint(
            "kind IN ('refund', 'adjustment')", name=op.f("ck_approvals_kind_known")
        ),
        sa.CheckConstraint(
            "state IN ('waiting', 'granted', 'refused', 'used')",
            name=op.f("ck_approvals_state_known"),
        ),
        sa.CheckConstraint("amount_in_cents > 0", name=op.f("ck_approvals_amount_positive")),
        sa.CheckConstraint(
            "decided_by IS NULL OR decided_by <> asked_by", name=op.f("ck_approvals_two_people")
        ),
        sa.CheckConstraint(
            "state = 'waiting' OR decided_by IS NOT NULL",
            name=op.f("ck_approvals_decided_by_somebody"),
        ),
        sa.PrimaryKeyConstraint("approval_id", name=op.f("pk_approvals")),
    )
    op.create_index(
        "ix_approvals_sale",
        "approvals",
        ["user_id", "sale_transaction_id"],
        unique=False,
        sqlite_where=sa.text("sale_transaction_id IS NOT NULL"),
        postgresql_where=sa.text("sale_transaction_id IS NOT NULL"),
    )
    op.create_table(
        "audit_epochs",
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.Column("began_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("epoch", name=op.f("pk_audit_epochs")),
    )
    op.create_table(
        "audit_pending",
        sa.Column("pending_id", sa.Uuid(), nullable=False),
        sa.Column("records", sa.LargeBinary(), nullable=False),
        sa.Column("transactions", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("pending_id", name=op.f("pk_audit_pending")),
    )
    op.create_table(
        "console_users",
        sa.Column("user_name", sa.String(length=40), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("password_hash", sa.String(length=200), nullable=True),
        sa.Column("totp_secret", sa.LargeBinary(), nullable=True),
        sa.Column("totp_step", sa.BigInteger(), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("disabled_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("user_name", name=op.f("pk_console_users")),
        sa.UniqueConstraint("email", name=op.f("uq_console_users_email")),
    )
    op.create_table(
        "letters",
        sa.Column("letter_id", sa.Uuid(), nullable=False),
        sa.Column("to_address", sa.String(length=254), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("content", _JSON, nullable=True),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_try_at", _TIME, nullable=True),
        sa.Column("last_fault", sa.String(length=200), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.CheckConstraint(
            "state IN ('waiting', 'sent', 'given_up')", name=op.f("ck_letters_state_known")
        ),
        sa.PrimaryKeyConstraint("letter_id", name=op.f("pk_letters")),
    )
    op.create_index(
        "ix_letters_next_try_at",
        "letters",
        ["next_try_at"],
        unique=False,
        sqlite_where=sa.text("next_try_at IS NOT NULL"),
        postgresql_where=sa.text("next_try_at IS NOT NULL"),
    )
    op.create_table(
        "one_time_codes",
        sa.Column("code_id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("code_hash", sa.String(length=200), nullable=False),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("used_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("code_id", name=op.f("pk_one_time_codes")),
    )
    op.create_index(op.f("ix_one_time_codes_email"), "one_time_codes", ["email"], unique=False)
    op.create_table(
        "restores",
        sa.Column("restore_id", sa.Uuid(), nullable=False),
        sa.Column("backup_at", _TIME, nullable=False),
        sa.Column("restored_at", _TIME, nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("restore_id", name=op.f("pk_restores")),
    )
    op.create_table(
        "secret_tries",
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("subject", sa.String(length=254), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("locked_until", _TIME, nullable=True),
        sa.Column("last_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("kind", "subject", name=op.f("pk_secret_tries")),
    )
    op.create_table(
        "audit_checkpoints",
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("root", sa.LargeBinary(length=32), nullable=False),
        sa.Column("frontier", sa.LargeBinary(), nullable=False),
        sa.Column("jws", sa.Text(), nullable=False),
        sa.Column("signed_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["epoch"], ["audit_epochs.epoch"], name=op.f("fk_audit_checkpoints_epoch")
        ),
        sa.PrimaryKeyConstraint("epoch", "size", name=op.f("pk_audit_checkpoints")),
    )
    op.create_table(
        "audit_leaves",
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("record_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("leaf_hash", sa.LargeBinary(length=32), nullable=False),
        sa.CheckConstraint(
            "kind IN ('audit', 'transaction')", name=op.f("ck_audit_leaves_kind_known")
        ),
        sa.ForeignKeyConstraint(
            ["epoch"], ["audit_epochs.epoch"], name=op.f("fk_audit_leaves_epoch")
        ),
        sa.PrimaryKeyConstraint("epoch", "position", name=op.f("pk_audit_leaves")),
        sa.UniqueConstraint("record_id", name=op.f("uq_audit_leaves_record_id")),
    )
    op.create_table(
        "cash_outs",
        sa.Column("cash_out_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("asked_in_cents", sa.BigInteger(), nullable=True),
        sa.Column("amount_in_cents", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("idempotency_key", sa.String(length=64), nullable=False),
        sa.Column("transaction_id", sa.Uuid(), nullable=True),
        sa.Column("reversal_transaction_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("waits_until", _TIME, nullable=False),
        sa.Column("look_at", _TIME, nullable=True),
        sa.Column("ended_because", sa.String(length=16), nullable=True),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.CheckConstraint(
            "state IN ('waiting', 'posted', 'paid', 'reversed', 'withdrawn')",
            name=op.f("ck_cash_outs_state_known"),
        ),
        sa.CheckConstraint(
            "ended_because IN ('withdrawn', 'wallet_frozen', 'nothing_left')",
            name=op.f("ck_cash_outs_ended_because_known"),
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name=op.f("fk_cash_outs_user_id")),
        sa.PrimaryKeyConstraint("cash_out_id", name=op.f("pk_cash_outs")),
        sa.UniqueConstraint(
            "user_id", "idempotency_key", name=op.f("uq_cash_outs_user_id_idempotency_key")
        ),
    )
    op.create_index(
        "ix_cash_outs_look_at",
        "cash_outs",
        ["look_at"],
        unique=False,
        sqlite_where=sa.text("look_at IS NOT NULL"),
        postgresql_where=sa.text("look_at IS NOT NULL"),
    )
    op.create_index(
        "uq_cash_outs_open",
        "cash_outs",
        ["user_id", "currency"],
        unique=True,
        sqlite_where=sa.text("state IN ('waiting', 'posted')"),
        postgresql_where=sa.text("state IN ('waiting', 'posted')"),
    )
    op.create_table(
        "console_grants",
        sa.Column("grant_id", sa.Uuid(), nullable=False),
        sa.Column("user_name", sa.String(length=40), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("event_id", sa.String(length=40), nullable=True),
        sa.Column("stall_id", sa.String(length=40), nullable=True),
        sa.Column("granted_by", sa.String(length=80), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.CheckConstraint(
            "role IN ('supervisor', 'ops', 'finance', 'admin', 'stall_owner')",
            name=op.f("ck_console_grants_role_known"),
        ),
        sa.ForeignKeyConstraint(
            ["user_name"], ["console_users.user_name"], name=op.f("fk_console_grants_user_name")
        ),
        sa.PrimaryKeyConstraint("grant_id", name=op.f("pk_console_grants")),
    )
    op.create_index(
        op.f("ix_console_grants_user_name"), "console_grants", ["user_name"], unique=False
    )
    op.create_table(
        "console_links",
        sa.Column("hash", sa.String(length=43), nullable=False),
        sa.Column("user_name", sa.String(length=40), nullable=False),
        sa.Column("password_hash", sa.String(length=200), nullable=True),
        sa.Column("totp_secret", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("used_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["user_name"], ["console_users.user_name"], name=op.f("fk_console_links_user_name")
        ),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_console_links")),
    )
    op.create_table(
        "console_sessions",
        sa.Column("hash", sa.String(length=43), nullable=False),
        sa.Column("user_name", sa.String(length=40), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["user_name"], ["console_users.user_name"], name=op.f("fk_console_sessions_user_name")
        ),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_console_sessions")),
    )
    op.create_index(
        op.f("ix_console_sessions_user_name"), "console_sessions", ["user_name"], unique=False
    )
    op.create_table(
        "ticket_types",
        sa.Column("event_id", sa.String(length=40), nullable=False),
        sa.Column("ticket_type_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("price_in_cents", sa.BigInteger(), nullable=False),
        sa.Column("stock", sa.Integer(), nullable=False),
        sa.Column("taken", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("per_order_max", sa.Integer(), server_default=sa.text("10"), nullable=False),
        sa.Column("on_sale_from", _TIME, nullable=True),
        sa.Column("on_sale_until", _TIME, nullable=True),
        sa.CheckConstraint("price_in_cents >= 0", name=op.f("ck_ticket_types_price_not_negative")),
        sa.CheckConstraint(
            "taken >= 0 AND taken <= stock", name=op.f("ck_ticket_types_within_stock")
        ),
        sa.ForeignKeyConstraint(
            ["event_id"], ["events.event_id"], name=op.f("fk_ticket_types_event_id")
        ),
        sa.PrimaryKeyConstraint("event_id", "ticket_type_id", name=op.f("pk_ticket_types")),
    )
    op.create_table(
        "card_refunds",
        sa.Column("refund_id", sa.Uuid(), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("cash_out_id", sa.Uuid(), nullable=True),
        sa.Column("order_id", sa.Uuid(), nullable=True),
        sa.Column("amount_in_cents", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("reason", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("provider_reference", sa.String(length=200), nullable=True),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_try_at", _TIME, nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.CheckConstraint(
            "reason IN ('cash_out', 'closed_order', 'cancelled_order', 'dashboard')",
            name=op.f("ck_card_refunds_reason_known"),
        ),
        sa.CheckConstraint(
            "state IN ('asked', 'pending', 'done', 'failed')",
            name=op.f("ck_card_refunds_state_known"),
        ),
        sa.CheckConstraint("amount_in_cents > 0", name=op.f("ck_card_refunds_amount_positive")),
        sa.ForeignKeyConstraint(
            ["cash_out_id"], ["cash_outs.cash_out_id"], name=op.f("fk_card_refunds_cash_out_id")
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name=op.f("fk_card_refunds_payment_id")
        ),
        sa.PrimaryKeyConstraint("refund_id", name=op.f("pk_card_refunds")),
    )
    op.create_index(
        "ix_card_refunds_next_try_at",
        "card_refunds",
        ["next_try_at"],
        unique=False,
        sqlite_where=sa.text("next_try_at IS NOT NULL"),
        postgresql_where=sa.text("next_try_at IS NOT NULL"),
    )
    op.create_index(
        op.f("ix_card_refunds_payment_id"), "card_refunds", ["payment_id"], unique=False
    )
    op.create_index(
        "uq_card_refunds_order",
        "card_refunds",
        ["order_id", "reason"],
        unique=True,
        sqlite_where=sa.text("order_id IS NOT NULL"),
        postgresql_where=sa.text("order_id IS NOT NULL"),
    )
    op.create_table(
        "card_disputes",
        sa.Column("provider", sa.String(length=40), nullable=False),
        sa.Column("about", sa.String(length=200), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("amount_in_cents", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("state", sa.String(length=4), nullable=False),
        sa.Column("opened_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.CheckConstraint("state IN ('open', 'won')", name=op.f("ck_card_disputes_state_known")),
        sa.CheckConstraint("amount_in_cents > 0", name=op.f("ck_card_disputes_amount_positive")),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name=op.f("fk_card_disputes_payment_id")
        ),
        sa.PrimaryKeyConstraint("provider", "about", name=op.f("pk_card_disputes")),
    )
    op.create_index(
        op.f("ix_card_disputes_payment_id"), "card_disputes", ["payment_id"], unique=False
    )
    op.create_table(
        "orders",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("total_in_cents", sa.BigInteger(), nullable=False),
        sa.Column("credits_in_cents", sa.BigInteger(), nullable=False),
        sa.Column("card_in_cents", sa.BigInteger(), nullable=False),
        sa.Column("idempotency_key", sa.String(length=64), nullable=False),
        sa.Column("correlation_id", sa.String(length=64), nullable=False),
        sa.Column("transaction_id", sa.Uuid(), nullable=True),
        sa.Column("reversal_transaction_id", sa.Uuid(), nullable=True),
        sa.Column("payment_id", sa.Uuid(), nullable=True),
        sa.Column("close_reason", sa.String(length=20), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=True),
        sa.Column("paid_at", _TIME, nullable=True),
        sa.Column("closed_at", _TIME, nullable=True),
        sa.CheckConstraint(
            "state IN ('open', 'closing', 'paid', 'closed', 'cancelled')",
            name=op.f("ck_orders_state_known"),
        ),
        sa.CheckConstraint(
            "credits_in_cents >= 0 AND card_in_cents >= 0",
            name=op.f("ck_orders_parts_not_negative"),
        ),
        sa.CheckConstraint(
            "total_in_cents = credits_in_cents + card_in_cents", name=op.f("ck_orders_parts_add_up")
        ),
        sa.ForeignKeyConstraint(["event_id"], ["events.event_id"], name=op.f("fk_orders_event_id")),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name=op.f("fk_orders_payment_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name=op.f("fk_orders_user_id")),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_orders")),
        sa.UniqueConstraint(
            "user_id", "idempotency_key", name=op.f("uq_orders_user_id_idempotency_key")
        ),
    )
    op.create_index(
        "ix_orders_expires_at",
        "orders",
        ["expires_at"],
        unique=False,
        sqlite_where=sa.text("expires_at IS NOT NULL"),
        postgresql_where=sa.text("expires_at IS NOT NULL"),
    )
    op.create_table(
        "order_lines",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.String(length=40), nullable=False),
        sa.Column("ticket_type_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("unit_price_in_cents", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("quantity > 0", name=op.f("ck_order_lines_quantity_positive")),
        sa.ForeignKeyConstraint(
            ["event_id", "ticket_type_id"],
            ["ticket_types.event_id", "ticket_types.ticket_type_id"],
            name=op.f("fk_order_lines_event_id_ticket_type_id"),
        ),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.order_id"], name=op.f("fk_order_lines_order_id")
        ),
        sa.PrimaryKeyConstraint("order_id", "ticket_type_id", name=op.f("pk_order_lines")),
    )
    op.create_table(
        "tickets",
        sa.Column("ticket_id", sa.Uuid(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.String(length=40), nullable=False),
        sa.Column("ticket_type_id", sa.String(length=40), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=6), server_default="held", nullable=False),
        sa.Column("issued_at", _TIME, nullable=True),
        sa.Column("voided_at", _TIME, nullable=True),
        sa.CheckConstraint(
            "state IN ('held', 'valid', 'void')", name=op.f("ck_tickets_state_known")
        ),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.order_id"], name=op.f("fk_tickets_order_id")
        ),
        sa.PrimaryKeyConstraint("ticket_id", name=op.f("pk_tickets")),
    )
    op.create_index(op.f("ix_tickets_order_id"), "tickets", ["order_id"], unique=False)
