"""The fleet: claims, certificates that follow one another, what appliances say of themselves."""

from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from cloud.store.migrations.first_event_versions import first_documents

revision = "0004"
down_revision = "0003"

_TIME: Final = sa.DateTime(timezone=True)
_JSON: Final = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    _claims()
    _event_versions()
    _retirement()
    _health()
    _pins()


def _pins() -> None:
    with op.batch_alter_table("badges") as badges:
        badges.alter_column("pin_hash", existing_type=sa.String(length=200), nullable=True)
        badges.add_column(sa.Column("choose_until", _TIME, nullable=True))


def _retirement() -> None:
    op.add_column("devices", sa.Column("retired_reason", sa.String(length=200), nullable=True))
    op.add_column("devices", sa.Column("replaced_by", sa.String(length=40), nullable=True))
    op.add_column("devices", sa.Column("session_ended_at", _TIME, nullable=True))
    op.add_column("devices", sa.Column("session_ended_again_at", _TIME, nullable=True))
    leaving = sa.text("status != 'active' AND session_ended_again_at IS NULL")
    op.create_index(
        "ix_devices_leaving",
        "devices",
        ["device_id"],
        unique=False,
        sqlite_where=leaving,
        postgresql_where=leaving,
    )
    op.add_column("device_certificates", sa.Column("revocation_listed_at", _TIME, nullable=True))
    to_list = sa.text("revoked_at IS NOT NULL AND revocation_listed_at IS NULL")
    op.create_index(
        "ix_device_certificates_to_list",
        "device_certificates",
        ["device_id"],
        unique=False,
        sqlite_where=to_list,
        postgresql_where=to_list,
    )
    op.create_table(
        "certificate_alarms",
        sa.Column("thumbprint", sa.String(length=43), nullable=False),
        sa.Column("within_days", sa.Integer(), nullable=False),
        sa.Column("raised_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("thumbprint", "within_days", name=op.f("pk_certificate_alarms")),
    )


def _claims() -> None:
    op.create_table(
        "claims",
        sa.Column("claim_id", sa.String(length=10), nullable=False),
        sa.Column("secret_hash", sa.String(length=43), nullable=False),
        sa.Column("event_id", sa.String(length=40), nullable=False),
        sa.Column("stall_id", sa.String(length=40), nullable=False),
        sa.Column("device_id", sa.String(length=40), nullable=False),
        sa.Column("serial", sa.String(length=64), nullable=True),
        sa.Column("replaces", sa.String(length=40), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("used_at", _TIME, nullable=True),
        sa.Column("used_spki", sa.String(length=200), nullable=True),
        sa.Column("certificate_pem", sa.Text(), nullable=True),
        sa.Column("withdrawn_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("claim_id", name=op.f("pk_claims")),
    )
    is_open = sa.text("used_at IS NULL AND withdrawn_at IS NULL")
    op.create_index(
        "ix_claims_open",
        "claims",
        ["device_id"],
        unique=False,
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
    op.add_column("device_certificates", sa.Column("serial", sa.String(length=64), nullable=True))
    op.add_column("device_certificates", sa.Column("first_used_at", _TIME, nullable=True))
    op.add_column(
        "device_certificates", sa.Column("revocation_reason", sa.String(length=24), nullable=True)
    )
    op.create_index(
        op.f("ix_device_certificates_spki"), "device_certificates", ["spki"], unique=False
    )


def _event_versions() -> None:
    op.add_column("policies", sa.Column("event_version", sa.Integer(), nullable=True))
    op.add_column("devices", sa.Column("policy_acked_at", _TIME, nullable=True))
    versions = op.create_table(
        "event_versions",
        sa.Column("event_id", sa.String(length=40), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", _JSON, nullable=False),
        sa.Column("applied_at", _TIME, nullable=False),
        sa.Column("applied_by", sa.String(length=80), nullable=True),
        sa.Column("rolled_back_to", sa.Integer(), nullable=True),
        sa.Column("reason", sa.String(length=200), nullable=True),
        sa.ForeignKeyConstraint(
            ["event_id"], ["events.event_id"], name=op.f("fk_event_versions_event_id")
        ),
        sa.PrimaryKeyConstraint("event_id", "version", name=op.f("pk_event_versions")),
    )
    now = datetime.now(UTC)  # noqa: TID251  # a migration is an edge
    for event_id, document in first_documents(op.get_bind()).items():
        first = {"event_id": event_id, "version": 1, "document": document, "applied_at": now}
        op.bulk_insert(versions, [first])


def _health() -> None:
    op.add_column("devices", sa.Column("queue_in_cents", sa.BigInteger(), nullable=True))
    op.add_column("devices", sa.Column("temperature_c", sa.Integer(), nullable=True))
    op.add_column("devices", sa.Column("clock", sa.String(length=8), nullable=True))
    op.add_column("devices", sa.Column("last_sale_at", _TIME, nullable=True))
    op.add_column("devices", sa.Column("uptime_s", sa.BigInteger(), nullable=True))
    op.create_table(
        "device_presence",
        sa.Column("device_id", sa.String(length=40), nullable=False),
        sa.Column("is_online", sa.Boolean(), nullable=False),
        sa.Column("since", _TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.device_id"], name=op.f("fk_device_presence_device_id")
        ),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_device_presence")),
    )
    op.create_table(
        "broker_watch",
        sa.Column("watch_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("heard_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("watch_id", name=op.f("pk_broker_watch")),
    )
    is_deed = sa.text(
        "device_id IS NOT NULL AND (request_hash IS NULL OR action = 'device_quarantined')"
    )
    op.create_index(
        "ix_audit_records_deeds",
        "audit_records",
        ["device_id", "id"],
        unique=False,
        sqlite_where=is_deed,
        postgresql_where=is_deed,
    )
