"""Updates: bundles, releases to a channel, how far each appliance came, what it is told."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_TIME: Final = sa.DateTime(timezone=True)


def upgrade() -> None:
    _bundles()
    _releases()
    _devices()


def _bundles() -> None:
    op.create_table(
        "bundles",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("compatible", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_bundles")),
        sa.UniqueConstraint("version", "compatible", name=op.f("uq_bundles_version_compatible")),
    )


def _releases() -> None:
    op.create_table(
        "releases",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("channel", sa.String(length=16), nullable=False),
        sa.Column("rollout_percent", sa.Integer(), nullable=False),
        sa.Column("allow_downgrade", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("notes", sa.String(length=2000), server_default="", nullable=False),
        sa.Column("released_at", _TIME, nullable=False),
        sa.Column("released_by", sa.String(length=200), nullable=False),
        sa.Column("paused_at", _TIME, nullable=True),
        sa.Column("paused_why", sa.String(length=400), nullable=True),
        sa.Column("resumed_at", _TIME, nullable=True),
        sa.CheckConstraint(
            "rollout_percent BETWEEN 0 AND 100", name=op.f("ck_releases_rollout_percent_known")
        ),
        sa.ForeignKeyConstraint(["sha256"], ["bundles.sha256"], name=op.f("fk_releases_sha256")),
        sa.PrimaryKeyConstraint("sha256", "channel", name=op.f("pk_releases")),
    )


def _devices() -> None:
    for name, length in (
        ("image", 64),
        ("compatible", 64),
        ("slot", 1),
        ("update_version", 64),
        ("announced_version", 64),
    ):
        op.add_column("devices", sa.Column(name, sa.String(length=length), nullable=True))
    op.add_column(
        "devices",
        sa.Column("channel", sa.String(length=16), server_default="stable", nullable=False),
    )
    op.add_column(
        "devices",
        sa.Column("announced_downgrade", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.create_table(
        "device_updates",
        sa.Column("device_id", sa.String(length=40), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("why", sa.String(length=200), nullable=False),
        sa.Column("since", _TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.device_id"], name=op.f("fk_device_updates_device_id")
        ),
        sa.PrimaryKeyConstraint("device_id", "version", name=op.f("pk_device_updates")),
    )
