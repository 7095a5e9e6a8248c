"""What the console is told where a refund, an approval or a review entry cannot be as asked."""

from typing import Final

from cloud.operations.refusals import Code, Refusal
from protocol.messages import Reason

UNKNOWN_SALE: Final = Refusal(
    Code.SALE_UNKNOWN,
    "No such sale at a stall is posted.",
    "Compare the code on the receipt; one taken offline may still be on its way.",
)
SALE_UNDER_REVIEW: Final = Refusal(
    Code.SALE_UNDER_REVIEW,
    "A person has to judge this sale first.",
    "End its entry on the review list.",
)
UNKNOWN_APPROVAL: Final = Refusal(
    Code.APPROVAL_UNKNOWN, "There is no such approval.", "Look at the list of those that wait."
)
SAME_PERSON: Final = Refusal(
    Code.SAME_PERSON,
    "Nobody approves or refuses what they asked for themselves.",
    "Ask somebody else to decide.",
)
OUTDATED_APPROVAL: Final = Refusal(
    Code.APPROVAL_OUTDATED,
    "Part of this sale was given back since this was asked.",
    "Refuse it, and ask anew for what is still owed.",
)
UNKNOWN_REVIEW: Final = Refusal(
    Code.REVIEW_UNKNOWN, "There is no such review entry.", "Look at the review list."
)
NOTHING_TO_REVERSE: Final = Refusal(
    Code.NOTHING_TO_REVERSE,
    "Nothing is posted under this key, or all of it was given back.",
    "Post the sale, or write it off.",
)

_EXPLAINED: Final = {
    Reason.WRONG_CURRENCY: Refusal(
        Code.WRONG_CURRENCY, "The sale was in another currency.", "Use the sale's own."
    ),
    Reason.NOTHING_LEFT: Refusal(
        Code.NOTHING_LEFT, "All of this sale was given back before.", "There is nothing to do."
    ),
    Reason.OVER_WHAT_IS_LEFT: Refusal(
        Code.OVER_WHAT_IS_LEFT,
        "That is more than is left of the sale.",
        "Leave the amount out to give back all that is left.",
    ),
    Reason.REFUND_DEADLINE_PASSED: Refusal(
        Code.REFUND_DEADLINE_PASSED,
        "The event gives nothing back any more.",
        "Finance may make an adjustment, with a reason.",
    ),
    Reason.AMOUNT_NOT_POSITIVE: Refusal(
        Code.AMOUNT_OUT_OF_RANGE, "The amount is not positive.", "Name one of at least a cent."
    ),
}


def explain(reason: Reason) -> Refusal:
    """A refund's reason in the console's words."""
    return _EXPLAINED[reason]


def ended_approval(state: str) -> Refusal:
    return Refusal(
        Code.APPROVAL_ENDED,
        f"This approval is {state} already.",
        "Look at the list of those that wait.",
    )


def ended_review(state: str) -> Refusal:
    return Refusal(
        Code.REVIEW_ENDED,
        f"This entry is {state.replace('_', ' ')} already, and ends once.",
        "Look at the review list.",
    )


def nothing_to_post(why: str) -> Refusal:
    return Refusal(Code.NOTHING_TO_POST, why, "Reverse what stands, or write it off.")
