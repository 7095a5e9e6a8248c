"""The fleet: claims, certificates that follow one another, what appliances say of themselves."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_TIME: Final = sa.DateTime(timezone=True)


def upgrade() -> None:
    _retirement()


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
