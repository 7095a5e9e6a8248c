"""What a slip says of each reason the cloud may give, and what to do next: one sentence each."""

from collections.abc import Mapping
from typing import Final

from protocol.messages import Reason

_SHOW_A_FRESH_CODE: Final = "This code does not count. Let the phone show a fresh one."
_SIGN_IN_AGAIN: Final = "Whoever is signed in may not do this any more. Sign in again."
_CALL_OPS: Final = "This appliance may not do this now. Call whoever runs the event's appliances."

_SENTENCES: Final[Mapping[Reason, str]] = {
    Reason.INSUFFICIENT_FUNDS: "There are not enough Credits. Top up, then show a fresh code.",
    Reason.NOT_A_WALLET_QR: "This is no wallet's code. Let the phone show its wallet.",
    Reason.TOKEN_TOO_LONG: _SHOW_A_FRESH_CODE,
    Reason.TOKEN_WRONG_ALGORITHM: _SHOW_A_FRESH_CODE,
    Reason.TOKEN_MALFORMED: _SHOW_A_FRESH_CODE,
    Reason.TOKEN_UNKNOWN_KEY: _SHOW_A_FRESH_CODE,
    Reason.TOKEN_BAD_SIGNATURE: _SHOW_A_FRESH_CODE,
    Reason.TOKEN_LIFETIME: _SHOW_A_FRESH_CODE,
    Reason.TOKEN_EXPIRED: "This code has run out. Let the phone show a fresh one.",
    Reason.TOKEN_FROM_THE_FUTURE: _SHOW_A_FRESH_CODE,
    Reason.TOKEN_ALREADY_USED: "This code was used before. Let the phone show a fresh one.",
    Reason.TOKEN_OTHER_EVENT: "This wallet belongs to another event.",
    Reason.UNKNOWN_PAYER: "This wallet is not known. Send its owner to the help desk.",
    Reason.KEY_REUSED: "Nobody knows what became of this. Ask at the desk before you try again.",
    Reason.DEVICE_REVOKED: _CALL_OPS,
    Reason.DEVICE_QUARANTINED: _CALL_OPS,
    Reason.DEVICE_ELSEWHERE: "This appliance is meant for another stall. Call whoever runs it.",
    Reason.SESSION_UNKNOWN: _SIGN_IN_AGAIN,
    Reason.SESSION_ENDED: _SIGN_IN_AGAIN,
    Reason.SESSION_EXPIRED: _SIGN_IN_AGAIN,
    Reason.STAFF_NOT_ASSIGNED: "This badge's owner is not assigned to this stall.",
    Reason.AMOUNT_NOT_POSITIVE: "Nothing is not an amount. Key one, or # alone for all.",
    Reason.AMOUNT_OVER_LIMIT: "This is more than this stall may take at once.",
    Reason.WRONG_CURRENCY: "This sale was made in another currency.",
    Reason.LINES_DO_NOT_ADD_UP: "The price list has changed. Key the sale again.",
    Reason.POLICY_UNKNOWN: "The price list has changed. Wait a moment and try again.",
    Reason.POLICY_EXPIRED: _CALL_OPS,
    Reason.OFFLINE_NOT_ALLOWED: "This needs the cloud, and it cannot be reached. Try again later.",
    Reason.BADGE_INVALID: "This badge does not count. Show a supervisor's badge.",
    Reason.PIN_WRONG: "The PIN was wrong. Show the badge again, then key the PIN.",
    Reason.PIN_NOT_SET: "This badge has no PIN yet. Its owner signs in first, and chooses one.",
    Reason.PIN_NOT_ALLOWED: (
        "A PIN has 4 to 8 digits, not all the same and no run like 1234. Show the badge again."
    ),
    Reason.PIN_SET_ALREADY: (
        "This badge has a PIN by now. Show the badge, key that PIN. If you chose none, call ops."
    ),
    Reason.PIN_CHOICE_OVER: "Nobody chose a PIN for this badge in time. Ask for a new badge.",
    Reason.LOCKED_OUT: "Too many wrong PINs. Wait a while, or call another supervisor.",
    Reason.SIGN_IN_STALE: "That took too long. Show the badge again, then key the PIN.",
    Reason.SALE_UNKNOWN: (
        "This sale is not known yet. If it was taken offline, its appliance must upload it first; "
        "then try again."
    ),
    Reason.SALE_ELSEWHERE: "This sale is another stall's. It is given back where it was made.",
    Reason.SALE_UNDER_REVIEW: "A person is looking into this sale. Send the customer to the desk.",
    Reason.NOTHING_LEFT: "All of this sale was given back before.",
    Reason.OVER_WHAT_IS_LEFT: "This is more than is left of this sale. Key less, or # for all.",
    Reason.REFUND_DEADLINE_PASSED: "It is too late to give this sale back.",
    Reason.APPROVAL_NEEDED: (
        "A supervisor must agree: their badge before the camera, then their PIN and #."
    ),
    Reason.APPROVAL_UNKNOWN: "The approval was for something else. Scan the receipt again.",
    Reason.APPROVAL_USED: "The approval was used before. Scan the receipt again.",
    Reason.APPROVAL_EXPIRED: "The approval has run out. Scan the receipt again.",
    Reason.NOT_A_SUPERVISOR: "This badge's owner is no supervisor. Show a supervisor's badge.",
    Reason.SAME_PERSON: "Nobody approves what they ask for. Another supervisor must agree.",
    Reason.PROOF_NOT_OURS: _CALL_OPS,
    Reason.PROOF_IS_OF_ANOTHER: _CALL_OPS,
    Reason.NO_RECEIPT: "This appliance has sold nothing yet.",
    Reason.UNSUPPORTED_VERSION: _CALL_OPS,
    Reason.MALFORMED: _CALL_OPS,
}


def sentence_of(reason: Reason) -> str:
    """For staff, in plain words; the bare name where a newer cloud knows more than this table."""
    return _SENTENCES.get(reason, f"Refused: {reason.value}.")
