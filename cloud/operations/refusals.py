"""Why an operation of the HTTP edge says no: a stable code, a sentence, and what to do next."""

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """Stable names: programs compare these, and never the sentences."""

    NOT_SIGNED_IN = "not_signed_in"
    NOT_ALLOWED = "not_allowed"
    LINK_NOT_USABLE = "link_not_usable"
    CODE_NOT_USABLE = "code_not_usable"
    SIGN_IN_REFUSED = "sign_in_refused"
    TOO_MANY_TRIES = "too_many_tries"
    TOO_MANY_REQUESTS = "too_many_requests"
    EMAIL_TAKEN = "email_taken"
    EMAIL_NEEDED = "email_needed"
    PERSON_UNKNOWN = "person_unknown"
    PERSON_KNOWN = "person_known"
    PERSON_DISABLED = "person_disabled"
    PASSWORD_NOT_ALLOWED = "password_not_allowed"  # noqa: S105  # a refusal's name
    GRANT_UNKNOWN = "grant_unknown"
    GRANT_NOT_ALLOWED = "grant_not_allowed"
    LAST_ADMIN = "last_admin"
    KEY_MISSING = "key_missing"
    KEY_REUSED = "key_reused"
    CURSOR_UNKNOWN = "cursor_unknown"
    AMOUNT_OUT_OF_RANGE = "amount_out_of_range"
    CURRENCY_NOT_SOLD = "currency_not_sold"
    CURRENCY_FIXED = "currency_fixed"
    EVENT_UNKNOWN = "event_unknown"
    EVENT_CLOSED = "event_closed"
    STALL_UNKNOWN = "stall_unknown"
    STALL_IN_USE = "stall_in_use"
    TICKETS_SOLD = "tickets_sold"
    TICKET_TYPE_UNKNOWN = "ticket_type_unknown"
    NOT_ON_SALE = "not_on_sale"
    SOLD_OUT = "sold_out"
    TOO_MANY_TICKETS = "too_many_tickets"
    INSUFFICIENT_CREDITS = "insufficient_credits"
    CREDITS_ABOVE_TOTAL = "credits_above_total"
    CARD_PART_TOO_SMALL = "card_part_too_small"
    ORDER_UNKNOWN = "order_unknown"
    ORDER_CLOSED = "order_closed"
    ORDER_PAID = "order_paid"
    ORDER_NOT_PAID = "order_not_paid"
    STAFF_UNKNOWN = "staff_unknown"
    STAFF_NOT_ASSIGNED = "staff_not_assigned"
    PIN_NOT_ALLOWED = "pin_not_allowed"
    DEVICE_UNKNOWN = "device_unknown"
    DEVICE_REVOKED = "device_revoked"
    CERTIFICATE_NOT_USABLE = "certificate_not_usable"
    POLICY_UNKNOWN = "policy_unknown"
    KEY_UNKNOWN = "key_unknown"
    KEY_NOT_PREPARED = "key_not_prepared"
    KEY_NOT_KNOWN_YET = "key_not_known_yet"
    NO_CHECKPOINT = "no_checkpoint"
    NOT_PROVEN = "not_proven"
    TRANSACTION_UNKNOWN = "transaction_unknown"
    PAYMENT_UNKNOWN = "payment_unknown"
    PAYMENT_REFUSED = "payment_refused"
    CASH_OUT_NOT_ALLOWED = "cash_out_not_allowed"
    CASH_OUT_OPEN = "cash_out_open"
    CASH_OUT_UNKNOWN = "cash_out_unknown"
    CASH_OUT_POSTED = "cash_out_posted"
    NOTHING_TO_CASH_OUT = "nothing_to_cash_out"
    WALLET_FROZEN = "wallet_frozen"
    AMOUNT_DIFFERS = "amount_differs"
    CAME_TOO_EARLY = "came_too_early"
    PAYMENTS_OFF = "payments_off"
    PROVIDER_UNREACHABLE = "provider_unreachable"


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an operation answers instead of a result."""

    code: Code
    detail: str
    next_step: str
    retry_after_s: int | None = None
    """When the same may be asked again, where that is known."""

    def __str__(self) -> str:
        return f"{self.detail} {self.next_step}"
