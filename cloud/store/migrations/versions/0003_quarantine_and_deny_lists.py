"""Appliances whose journal is not believed, and the wallets that no till may take offline."""

import secrets
from typing import Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"

_TIME: Final = sa.DateTime(timezone=True)
_JSON: Final = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("devices", sa.Column("quarantined_at", _TIME, nullable=True))
    op.add_column("devices", sa.Column("quarantine_cause", sa.String(length=40), nullable=True))
    op.add_column("devices", sa.Column("released_at", _TIME, nullable=True))
    op.add_column(
        "devices",
        sa.Column("releases", sa.Integer(), server_default=sa.text("0"), nullable=False),
    )
    op.add_column("devices", sa.Column("journal_settled_by", sa.String(length=200), nullable=True))
    op.add_column("devices", sa.Column("journal_left", _JSON, nullable=True))
    op.add_column(
        "devices",
        sa.Column("journal_anew", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.create_index("ix_outcomes_entry", "outcomes", ["device_id", "epoch", "entry"], unique=False)
    lists = op.create_table(
        "deny_lists",
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("tag", sa.Integer(), nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("currency", name=op.f("pk_deny_lists")),
    )
    denied = op.create_table(
        "denied_wallets",
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.Column("is_denied", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.user_id"], name=op.f("fk_denied_wallets_user_id")
        ),
        sa.PrimaryKeyConstraint("currency", "user_id", name=op.f("pk_denied_wallets")),
        sa.UniqueConstraint("currency", "serial", name=op.f("uq_denied_wallets_currency_serial")),
    )
    _deny_frozen_wallets(lists, denied)


def _deny_frozen_wallets(lists: sa.Table, denied: sa.Table) -> None:
    """Those that are frozen already are the first on their currency's list."""
    wallets = sa.table(
        "credit_wallets",
        sa.column("user_id", sa.Uuid()),
        sa.column("currency", sa.String()),
        sa.column("offline_frozen", sa.Boolean()),
    )
    connection = op.get_bind()
    serials: dict[str, int] = {}
    frozen = sa.select(wallets.c.user_id, wallets.c.currency).where(wallets.c.offline_frozen)
    for row in connection.execute(frozen).all():
        serials[row.currency] = serials.get(row.currency, 0) + 1
        connection.execute(
            denied.insert().values(
                currency=row.currency,
                user_id=row.user_id,
                serial=serials[row.currency],
                is_denied=True,
            )
        )
    for currency, serial in serials.items():
        tag = 1 + secrets.randbelow(2**16 - 1)
        connection.execute(lists.insert().values(currency=currency, tag=tag, serial=serial))
