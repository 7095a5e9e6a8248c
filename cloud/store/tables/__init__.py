"""Every table of the cloud, for SQLite and PostgreSQL alike; the migrations create them.

A sale inserts into `credit_transactions`, `outcomes`, `spent_tokens`, `audit_records` and
`audit_pending` and updates its own wallet: these carry no foreign key to a row that other stalls
share (PostgreSQL would lock that row once a sale) and no index that no sale needs.
"""

from cloud.store.tables.audit import (
    audit_checkpoints,
    audit_epochs,
    audit_leaves,
    audit_pending,
    audit_records,
)
from cloud.store.tables.cards import (
    card_disputes,
    card_refunds,
    cash_outs,
    payments,
    webhook_events,
)
from cloud.store.tables.claims import claims
from cloud.store.tables.columns import UtcTime, metadata
from cloud.store.tables.devices import (
    broker_watch,
    certificate_alarms,
    device_certificates,
    device_presence,
    devices,
    policies,
    restores,
)
from cloud.store.tables.events import (
    badges,
    event_versions,
    events,
    products,
    sign_in_failures,
    staff,
    staff_assignments,
    staff_sessions,
    stalls,
)
from cloud.store.tables.ledger import (
    approvals,
    credit_transactions,
    credit_wallets,
    denied_wallets,
    deny_lists,
    http_outcomes,
    outcomes,
    review_entries,
    spent_tokens,
)
from cloud.store.tables.people import (
    access_tokens,
    attendee_sessions,
    console_grants,
    console_links,
    console_sessions,
    console_users,
    login_links,
    one_time_codes,
    secret_tries,
    users,
)
from cloud.store.tables.post import letters
from cloud.store.tables.tickets import order_lines, orders, ticket_types, tickets
from cloud.store.tables.updates import bundles, device_updates, releases

__all__ = [
    "UtcTime",
    "access_tokens",
    "approvals",
    "attendee_sessions",
    "audit_checkpoints",
    "audit_epochs",
    "audit_leaves",
    "audit_pending",
    "audit_records",
    "badges",
    "broker_watch",
    "bundles",
    "card_disputes",
    "card_refunds",
    "cash_outs",
    "certificate_alarms",
    "claims",
    "console_grants",
    "console_links",
    "console_sessions",
    "console_users",
    "credit_transactions",
    "credit_wallets",
    "denied_wallets",
    "deny_lists",
    "device_certificates",
    "device_presence",
    "device_updates",
    "devices",
    "event_versions",
    "events",
    "http_outcomes",
    "letters",
    "login_links",
    "metadata",
    "one_time_codes",
    "order_lines",
    "orders",
    "outcomes",
    "payments",
    "policies",
    "products",
    "releases",
    "restores",
    "review_entries",
    "secret_tries",
    "sign_in_failures",
    "spent_tokens",
    "staff",
    "staff_assignments",
    "staff_sessions",
    "stalls",
    "ticket_types",
    "tickets",
    "users",
    "webhook_events",
]
