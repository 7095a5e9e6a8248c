"""Why a request was declined: the names that cross the wire."""

from enum import StrEnum


class Reason(StrEnum):
    """Why a request was declined. A wallet QR's reasons are those of `wallet_qr.QrRefusal`."""

    INSUFFICIENT_FUNDS = "insufficient_funds"
    NOT_A_WALLET_QR = "not_a_wallet_qr"
    TOKEN_TOO_LONG = "token_too_long"  # noqa: S105  # the name of a refusal, as are those below
    TOKEN_WRONG_ALGORITHM = "token_wrong_algorithm"  # noqa: S105
    TOKEN_MALFORMED = "token_malformed"  # noqa: S105
    TOKEN_UNKNOWN_KEY = "token_unknown_key"  # noqa: S105
    TOKEN_BAD_SIGNATURE = "token_bad_signature"  # noqa: S105
    TOKEN_LIFETIME = "token_lifetime"  # noqa: S105
    TOKEN_EXPIRED = "token_expired"  # noqa: S105
    TOKEN_FROM_THE_FUTURE = "token_from_the_future"  # noqa: S105
    TOKEN_ALREADY_USED = "token_already_used"  # noqa: S105
    TOKEN_OTHER_EVENT = "token_other_event"  # noqa: S105
    UNKNOWN_PAYER = "unknown_payer"
    KEY_REUSED = "key_reused"
    DEVICE_REVOKED = "device_revoked"
    DEVICE_QUARANTINED = "device_quarantined"
    """Its journal is not what the cloud was told before: ops look at it before it sells again."""
    DEVICE_ELSEWHERE = "device_elsewhere"
    """The appliance is not assigned to the event and stall that the request names."""
    SESSION_UNKNOWN = "session_unknown"
    SESSION_ENDED = "session_ended"
    SESSION_EXPIRED = "session_expired"
    STAFF_NOT_ASSIGNED = "staff_not_assigned"
    AMOUNT_NOT_POSITIVE = "amount_not_positive"
    AMOUNT_OVER_LIMIT = "amount_over_limit"
    WRONG_CURRENCY = "wrong_currency"
    LINES_DO_NOT_ADD_UP = "lines_do_not_add_up"
    POLICY_UNKNOWN = "policy_unknown"
    POLICY_EXPIRED = "policy_expired"
    OFFLINE_NOT_ALLOWED = "offline_not_allowed"
    BADGE_INVALID = "badge_invalid"
    PIN_WRONG = "pin_wrong"
    PIN_NOT_SET = "pin_not_set"
    """Of a badge without a PIN: its holder chooses one, by keying the same one a second time."""
    PIN_NOT_ALLOWED = "pin_not_allowed"
    """Of a PIN that is to be chosen: too short, too long, or what everybody tries first."""
    PIN_SET_ALREADY = "pin_set_already"
    """Of a PIN that is to be chosen: the badge has one, perhaps since a moment ago."""
    PIN_CHOICE_OVER = "pin_choice_over"
    """The badge lay about too long without a PIN: whoever holds it now chooses none."""
    LOCKED_OUT = "locked_out"
    SIGN_IN_STALE = "sign_in_stale"
    """Of a sign-in or an approval: it was not made just now."""
    SALE_UNKNOWN = "sale_unknown"
    """Nothing is posted under this sale's name; one taken offline may still be on its way."""
    SALE_ELSEWHERE = "sale_elsewhere"
    """Another stall's, or another event's."""
    SALE_UNDER_REVIEW = "sale_under_review"
    NOTHING_LEFT = "nothing_left"
    """All of the sale was given back before."""
    OVER_WHAT_IS_LEFT = "over_what_is_left"
    REFUND_DEADLINE_PASSED = "refund_deadline_passed"
    APPROVAL_NEEDED = "approval_needed"
    """Too late or too much for one person: a supervisor approves, here or in the console."""
    APPROVAL_UNKNOWN = "approval_unknown"
    """No such approval for this sale, this amount and this appliance."""
    APPROVAL_USED = "approval_used"
    APPROVAL_EXPIRED = "approval_expired"
    NOT_A_SUPERVISOR = "not_a_supervisor"
    SAME_PERSON = "same_person"
    """Nobody approves what they ask for themselves."""
    PROOF_NOT_OURS = "proof_not_ours"
    """The reply that was sent along is not signed by this cloud."""
    PROOF_IS_OF_ANOTHER = "proof_is_of_another"
    """The reply that was sent along says nothing of this sale."""
    NO_RECEIPT = "no_receipt"
    """This appliance has sold nothing yet at this event and stall."""
    UNSUPPORTED_VERSION = "unsupported_version"
    MALFORMED = "malformed"
