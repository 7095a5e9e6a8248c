"""Appliances, their certificates, their policies."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    Uuid,
    false,
    text,
)

from cloud.store.tables.columns import HASH, JSON_VALUE, KEY, SLUG, metadata, moment, one_of

devices = Table(
    "devices",
    metadata,
    Column("device_id", SLUG, primary_key=True),
    # Where it is assigned; none: nowhere yet.
    Column("event_id", SLUG),
    Column("stall_id", SLUG),
    Column("status", String(16), nullable=False, server_default="active"),
    moment("revoked_at", nullable=True),
    # Why it was revoked or decommissioned, and which appliance stands in its place.
    Column("retired_reason", String(200)),
    Column("replaced_by", SLUG),
    # When the warden ended its session at the broker, and when it looked a second time: one that
    # connected just before the revocation list was read is ended by that.
    moment("session_ended_at", nullable=True),
    moment("session_ended_again_at", nullable=True),
    # Since when and why the cloud does not believe its journal; none: it does. The status stays,
    # so that it goes on getting policies: once released it sells on.
    moment("quarantined_at", nullable=True),
    Column("quarantine_cause", String(40)),
    # The newest release and how many there were: what was noticed before it counts no more.
    moment("released_at", nullable=True),
    Column("releases", Integer, nullable=False, server_default=text("0")),
    # The newest policy issued for it, and the newest it has acknowledged.
    Column("policy_version", Integer, nullable=False, server_default=text("0")),
    Column("policy_acked", Integer, nullable=False, server_default=text("0")),
    moment("policy_acked_at", nullable=True),
    # Its journal as of the newest heartbeat: what a gap, a fork or a clone is noticed by.
    Column("journal_epoch", KEY),
    Column("journal_last", BigInteger),
    Column("journal_settled_below", BigInteger),
    Column("journal_head", HASH),
    # The firmware that counted what is settled: another may count otherwise.
    Column("journal_settled_by", String(200)),
    # The epochs before that one, the newest last.
    Column("journal_left", JSON_VALUE),
    # Ops just released it: whatever it says next is where its journal stands.
    Column("journal_anew", Boolean, nullable=False, server_default=false()),
    Column("firmware", String(200)),
    Column("printer", String(200)),
    Column("queue", BigInteger),
    # What of it was sold offline, in the currency it sold in.
    Column("queue_in_cents", BigInteger),
    Column("temperature_c", Integer),
    # Who it has its time from; none: its firmware does not say.
    Column("clock", String(8)),
    moment("last_sale_at", nullable=True),
    Column("uptime_s", BigInteger),
    # Of its image, by its newest heartbeat: none where its system is none of ours.
    Column("image", String(64)),
    Column("compatible", String(64)),
    Column("slot", String(1)),
    # The newest version it took up; how far it came is in `device_updates`.
    Column("update_version", String(64)),
    # Whose releases it is to have, and what its newest policy announces of them.
    Column("channel", String(16), nullable=False, server_default="stable"),
    Column("announced_version", String(64)),
    Column("announced_downgrade", Boolean, nullable=False, server_default=false()),
    # The restore after which it has to say its journal again, and from where: as of the backup.
    Column("resend_for", Uuid),
    Column("resend_epoch", KEY),
    Column("resend_from", BigInteger),
    moment("last_seen_at", nullable=True),
    moment("created_at"),
    ForeignKeyConstraint(["event_id", "stall_id"], ["stalls.event_id", "stalls.stall_id"]),
    one_of("status", "active", "revoked", "decommissioned"),
    postgresql_with={"fillfactor": "70"},
)

# The broker's word for it, which no sale waits for: in a table of its own, so that whoever writes
# it holds no appliance's lock (docs/decisions/0031).
device_presence = Table(
    "device_presence",
    metadata,
    Column("device_id", SLUG, ForeignKey("devices.device_id"), primary_key=True),
    Column("is_online", Boolean, nullable=False),
    # Since when it is so.
    moment("since"),
)

# When a worker last listened to the broker: past half a minute nobody knows who is online.
broker_watch = Table(
    "broker_watch",
    metadata,
    Column("watch_id", Integer, primary_key=True, autoincrement=False),
    moment("heard_at"),
)

_IS_LEAVING = (devices.c.status != "active") & devices.c.session_ended_again_at.is_(None)
Index(
    "ix_devices_leaving",
    devices.c.device_id,
    sqlite_where=_IS_LEAVING,
    postgresql_where=_IS_LEAVING,
)

device_certificates = Table(
    "device_certificates",
    metadata,
    # `x5t#S256` of the certificate.
    Column("thumbprint", HASH, primary_key=True),
    Column("device_id", SLUG, ForeignKey("devices.device_id"), nullable=False, index=True),
    # As the authority's register spells it; none: entered before it was kept.
    Column("serial", String(64)),
    # SubjectPublicKeyInfo, DER, base64url: a key is one appliance's for ever.
    Column("spki", String(200), nullable=False, index=True),
    moment("not_before"),
    moment("not_after"),
    # The first request that was signed under it.
    moment("first_used_at", nullable=True),
    moment("revoked_at", nullable=True),
    Column("revocation_reason", String(24)),
    # When the revocation list that the broker was handed had it; none: the warden has to.
    moment("revocation_listed_at", nullable=True),
)

Index(
    "ix_device_certificates_to_list",
    device_certificates.c.device_id,
    sqlite_where=device_certificates.c.revoked_at.is_not(None)
    & device_certificates.c.revocation_listed_at.is_(None),
    postgresql_where=device_certificates.c.revoked_at.is_not(None)
    & device_certificates.c.revocation_listed_at.is_(None),
)

# Which certificate was said to expire soon, once a threshold: appliances', workers', servers'.
certificate_alarms = Table(
    "certificate_alarms",
    metadata,
    Column("thumbprint", HASH, nullable=False),
    Column("within_days", Integer, nullable=False),
    moment("raised_at"),
    PrimaryKeyConstraint("thumbprint", "within_days"),
)

policies = Table(
    "policies",
    metadata,
    Column("device_id", SLUG, ForeignKey("devices.device_id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("jws", Text, nullable=False),
    moment("issued_at"),
    moment("expires_at"),
    # The event's version it was made from; none: before versions were kept.
    Column("event_version", Integer),
    # None: a worker still has to publish it.
    moment("published_at", nullable=True),
    PrimaryKeyConstraint("device_id", "version"),
)

Index(
    "ix_policies_unpublished",
    policies.c.device_id,
    sqlite_where=policies.c.published_at.is_(None),
    postgresql_where=policies.c.published_at.is_(None),
)

# Each time the database came back from a backup: what appliances sent since, they send again.
restores = Table(
    "restores",
    metadata,
    Column("restore_id", Uuid, primary_key=True),
    # What is older than this was in the backup.
    moment("backup_at"),
    moment("restored_at"),
    Column("reason", String(200), nullable=False),
)
