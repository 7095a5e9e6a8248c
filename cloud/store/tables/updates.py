"""Images that appliances are to run: bundles, their releases to a channel, who tried which."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
    false,
)

from cloud.store.tables.columns import SLUG, metadata, moment

SHA256 = String(64)
"""In hexadecimal, as a bundle's file is named."""
VERSION = String(64)
CHANNEL = String(16)

bundles = Table(
    "bundles",
    metadata,
    Column("sha256", SHA256, primary_key=True),
    Column("version", VERSION, nullable=False),
    # Which appliances it is for, as RAUC compares it.
    Column("compatible", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    moment("created_at"),
    # A version is one bundle: what was tried under a name is what everybody gets by it.
    UniqueConstraint("version", "compatible"),
)

# A bundle in a channel; released there again it is the channel's newest once more.
releases = Table(
    "releases",
    metadata,
    Column("sha256", SHA256, ForeignKey("bundles.sha256"), nullable=False),
    Column("channel", CHANNEL, nullable=False),
    Column("rollout_percent", Integer, nullable=False),
    Column("allow_downgrade", Boolean, nullable=False, server_default=false()),
    Column("notes", String(2000), nullable=False, server_default=""),
    moment("released_at"),
    Column("released_by", String(200), nullable=False),
    # None: it is announced.
    moment("paused_at", nullable=True),
    Column("paused_why", String(400)),
    # Somebody looked and went on: only what rolls back after this pauses it again by itself.
    moment("resumed_at", nullable=True),
    PrimaryKeyConstraint("sha256", "channel"),
    CheckConstraint("rollout_percent BETWEEN 0 AND 100", name="rollout_percent_known"),
)

# How far each appliance came with each version it took up, as its heartbeats said.
device_updates = Table(
    "device_updates",
    metadata,
    Column("device_id", SLUG, ForeignKey("devices.device_id"), nullable=False),
    Column("version", VERSION, nullable=False),
    Column("state", String(16), nullable=False),
    Column("percent", Integer, nullable=False),
    Column("why", String(200), nullable=False),
    # Since when it is in that state.
    moment("since"),
    PrimaryKeyConstraint("device_id", "version"),
)
