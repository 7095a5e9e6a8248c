"""Why an operation of the HTTP edge says no: a stable code, a sentence, and what to do next."""

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """Stable names: programs compare these, and never the sentences."""

    NOT_SIGNED_IN = "not_signed_in"
    NOT_ALLOWED = "not_allowed"
    LINK_NOT_USABLE = "link_not_usable"
    KEY_MISSING = "key_missing"
    KEY_REUSED = "key_reused"
    AMOUNT_OUT_OF_RANGE = "amount_out_of_range"
    CURRENCY_NOT_SOLD = "currency_not_sold"
    CURRENCY_FIXED = "currency_fixed"
    EVENT_UNKNOWN = "event_unknown"
    EVENT_CLOSED = "event_closed"
    STALL_UNKNOWN = "stall_unknown"
    STALL_IN_USE = "stall_in_use"
    TICKETS_SOLD = "tickets_sold"
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
    PAYMENT_UNKNOWN = "payment_unknown"
    PAYMENT_REFUSED = "payment_refused"
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

    def __str__(self) -> str:
        return f"{self.detail} {self.next_step}"
