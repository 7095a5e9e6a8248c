"""Card payments and what providers say of them."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
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

payments = Table(
    "payments",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("user_id", Uuid, ForeignKey("users.user_id"), nullable=False),
    Column("amount_in_cents", BigInteger, nullable=False),
    Column("currency", CURRENCY, nullable=False),
    Column("provider", String(40), nullable=False),
    # Known once the provider was called; the row is committed before that.
    Column("provider_reference", String(200)),
    # What it calls the money itself, known once it was paid: refunds and disputes may name no more.
    Column("provider_charge", String(200)),
    # Where the provider's own page takes the card, and where that sends the attendee afterwards.
    Column("checkout_url", Text),
    Column("return_url", Text),
    Column("state", String(12), nullable=False),
    Column("idempotency_key", KEY, nullable=False),
    Column("transaction_id", Uuid),
    # What it pays: Credits, or an order's card part.
    Column("purpose", String(8), nullable=False, server_default="top_up"),
    Column("event_id", SLUG),
    Column("order_id", Uuid),
    # What went back to the card, or was taken back by its bank.
    Column("refunded_in_cents", BigInteger, nullable=False, server_default=text("0")),
    Column("disputed_in_cents", BigInteger, nullable=False, server_default=text("0")),
    # When the provider is asked, should it not tell by itself; none: no more.
    moment("poll_at", nullable=True),
    Column("polls", Integer, nullable=False, server_default=text("0")),
    moment("expires_at", nullable=True),
    moment("created_at"),
    moment("updated_at"),
    UniqueConstraint("user_id", "idempotency_key"),
    UniqueConstraint("provider", "provider_reference"),
    CheckConstraint("amount_in_cents > 0", name="amount_positive"),
    CheckConstraint(
        "refunded_in_cents >= 0 AND refunded_in_cents <= amount_in_cents",
        name="refunded_within_amount",
    ),
    one_of("purpose", "top_up", "order"),
    one_of("state", "created", "pending", "succeeded", "failed", "expired", "refunded"),
)

webhook_events = Table(
    "webhook_events",
    metadata,
    Column("provider", String(40), nullable=False),
    Column("event_id", String(200), nullable=False),
    Column("type", String(80), nullable=False),
    Column("payment_id", Uuid),
    moment("received_at"),
    PrimaryKeyConstraint("provider", "event_id"),
)

Index(
    "ix_payments_poll_at",
    payments.c.poll_at,
    sqlite_where=payments.c.poll_at.is_not(None),
    postgresql_where=payments.c.poll_at.is_not(None),
)

Index("uq_payments_provider_charge", payments.c.provider, payments.c.provider_charge, unique=True)

# Money on its way back to a card: a row before the provider is called, its id the provider's key.
card_refunds = Table(
    "card_refunds",
    metadata,
    Column("refund_id", Uuid, primary_key=True),
    Column("payment_id", Uuid, ForeignKey("payments.id"), nullable=False, index=True),
    Column("cash_out_id", Uuid, ForeignKey("cash_outs.cash_out_id")),
    Column("order_id", Uuid),
    Column("amount_in_cents", BigInteger, nullable=False),
    Column("currency", CURRENCY, nullable=False),
    Column("reason", String(20), nullable=False),
    Column("state", String(8), nullable=False),
    Column("provider_reference", String(200)),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    # None: nothing more to do.
    moment("next_try_at", nullable=True),
    moment("created_at"),
    moment("updated_at"),
    CheckConstraint("amount_in_cents > 0", name="amount_positive"),
    one_of("reason", "cash_out", "closed_order", "cancelled_order", "dashboard"),
    one_of("state", "asked", "pending", "done", "failed"),
)

Index(
    "ix_card_refunds_next_try_at",
    card_refunds.c.next_try_at,
    sqlite_where=card_refunds.c.next_try_at.is_not(None),
    postgresql_where=card_refunds.c.next_try_at.is_not(None),
)

# A closed order's payment is given back once, whatever is told again.
Index(
    "uq_card_refunds_order",
    card_refunds.c.order_id,
    card_refunds.c.reason,
    unique=True,
    sqlite_where=card_refunds.c.order_id.is_not(None),
    postgresql_where=card_refunds.c.order_id.is_not(None),
)

# Money that a card's bank took back (a chargeback): each counts once, and may be won.
card_disputes = Table(
    "card_disputes",
    metadata,
    Column("provider", String(40), nullable=False),
    # The provider's name for it.
    Column("about", String(200), nullable=False),
    Column("payment_id", Uuid, ForeignKey("payments.id"), nullable=False, index=True),
    Column("amount_in_cents", BigInteger, nullable=False),
    Column("currency", CURRENCY, nullable=False),
    Column("state", String(4), nullable=False),
    moment("opened_at"),
    moment("ended_at", nullable=True),
    PrimaryKeyConstraint("provider", "about"),
    CheckConstraint("amount_in_cents > 0", name="amount_positive"),
    one_of("state", "open", "won"),
)

# Unspent Credits on their way back to the cards they came from.
cash_outs = Table(
    "cash_outs",
    metadata,
    Column("cash_out_id", Uuid, primary_key=True),
    Column("user_id", Uuid, ForeignKey("users.user_id"), nullable=False),
    Column("currency", CURRENCY, nullable=False),
    # None: all there is.
    Column("asked_in_cents", BigInteger),
    # Once posted.
    Column("amount_in_cents", BigInteger),
    Column("state", String(10), nullable=False),
    Column("idempotency_key", KEY, nullable=False),
    # The `Deduct`, and what gave it back where the provider said no.
    Column("transaction_id", Uuid),
    Column("reversal_transaction_id", Uuid),
    moment("created_at"),
    # From then on no appliance need have proved its queue empty.
    moment("waits_until"),
    # When it is looked at again; none: it waits for nothing.
    moment("look_at", nullable=True),
    # Where nothing was posted: why not.
    Column("ended_because", String(16)),
    moment("ended_at", nullable=True),
    UniqueConstraint("user_id", "idempotency_key"),
    one_of("state", "waiting", "posted", "paid", "reversed", "withdrawn"),
    one_of("ended_because", "withdrawn", "wallet_frozen", "nothing_left"),
)

Index(
    "ix_cash_outs_look_at",
    cash_outs.c.look_at,
    sqlite_where=cash_outs.c.look_at.is_not(None),
    postgresql_where=cash_outs.c.look_at.is_not(None),
)

# One at a time: two would promise the same Credits twice.
Index(
    "uq_cash_outs_open",
    cash_outs.c.user_id,
    cash_outs.c.currency,
    unique=True,
    sqlite_where=cash_outs.c.state.in_(("waiting", "posted")),
    postgresql_where=cash_outs.c.state.in_(("waiting", "posted")),
)
