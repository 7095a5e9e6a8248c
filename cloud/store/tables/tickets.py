"""Tickets: what is on sale, what was ordered, what lets somebody in."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from cloud.store.tables.columns import CURRENCY, KEY, SLUG, metadata, moment, one_of

ticket_types = Table(
    "ticket_types",
    metadata,
    Column("event_id", SLUG, ForeignKey("events.event_id"), nullable=False),
    Column("ticket_type_id", SLUG, nullable=False),
    Column("name", String(100), nullable=False),
    Column("price_in_cents", BigInteger, nullable=False),
    Column("stock", Integer, nullable=False),
    # Sold or held for an open order. The row is locked first: the last ticket is sold once.
    Column("taken", Integer, nullable=False, server_default=text("0")),
    Column("per_order_max", Integer, nullable=False, server_default=text("10")),
    moment("on_sale_from", nullable=True),
    moment("on_sale_until", nullable=True),
    PrimaryKeyConstraint("event_id", "ticket_type_id"),
    CheckConstraint("price_in_cents >= 0", name="price_not_negative"),
    CheckConstraint("taken >= 0 AND taken <= stock", name="within_stock"),
)

orders = Table(
    "orders",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("user_id", Uuid, ForeignKey("users.user_id"), nullable=False),
    Column("event_id", SLUG, ForeignKey("events.event_id"), nullable=False),
    Column("state", String(10), nullable=False),
    Column("currency", CURRENCY, nullable=False),
    Column("total_in_cents", BigInteger, nullable=False),
    Column("credits_in_cents", BigInteger, nullable=False),
    Column("card_in_cents", BigInteger, nullable=False),
    Column("idempotency_key", KEY, nullable=False),
    Column("correlation_id", KEY, nullable=False),
    # The Credits part's `Deduct`, and what gave it back.
    Column("transaction_id", Uuid),
    Column("reversal_transaction_id", Uuid),
    Column("payment_id", Uuid, ForeignKey("payments.id")),
    # Why it is no longer open, where it was not paid.
    Column("close_reason", String(20)),
    moment("created_at"),
    # When the card part is given up; while `closing`, when the provider is asked again. None:
    # nothing is waited for.
    moment("expires_at", nullable=True),
    moment("paid_at", nullable=True),
    moment("closed_at", nullable=True),
    UniqueConstraint("user_id", "idempotency_key"),
    CheckConstraint("total_in_cents = credits_in_cents + card_in_cents", name="parts_add_up"),
    CheckConstraint("credits_in_cents >= 0 AND card_in_cents >= 0", name="parts_not_negative"),
    # `closing`: the provider is being asked to let go of the payment.
    one_of("state", "open", "closing", "paid", "closed", "cancelled"),
)

Index(
    "ix_orders_expires_at",
    orders.c.expires_at,
    sqlite_where=orders.c.expires_at.is_not(None),
    postgresql_where=orders.c.expires_at.is_not(None),
)

order_lines = Table(
    "order_lines",
    metadata,
    Column("order_id", Uuid, ForeignKey("orders.order_id"), nullable=False),
    Column("event_id", SLUG, nullable=False),
    Column("ticket_type_id", SLUG, nullable=False),
    # As it was when it was ordered.
    Column("name", String(100), nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("unit_price_in_cents", BigInteger, nullable=False),
    PrimaryKeyConstraint("order_id", "ticket_type_id"),
    ForeignKeyConstraint(
        ["event_id", "ticket_type_id"], ["ticket_types.event_id", "ticket_types.ticket_type_id"]
    ),
    CheckConstraint("quantity > 0", name="quantity_positive"),
)

tickets = Table(
    "tickets",
    metadata,
    Column("ticket_id", Uuid, primary_key=True),
    Column("order_id", Uuid, ForeignKey("orders.order_id"), nullable=False, index=True),
    Column("event_id", SLUG, nullable=False),
    Column("ticket_type_id", SLUG, nullable=False),
    # What its QR says (JWS).
    Column("code", Text, nullable=False),
    # `held`: its order is not paid yet; the code is signed and shown to nobody.
    Column("state", String(6), nullable=False, server_default="held"),
    moment("issued_at", nullable=True),
    moment("voided_at", nullable=True),
    one_of("state", "held", "valid", "void"),
)
