"""What is to be stored and answered once a request is decided: values, not deeds."""

from datetime import datetime
from enum import StrEnum

import msgspec

from cloud.ledger.facts import DeviceKey, KnownKey, PostedSale
from cloud.ledger.postings import Posting
from protocol.ids import EventId, SessionId, StaffId, TokenId, UserId
from protocol.messages import ClockTrust, Declined, JournalPosition, Outcome, Reason
from protocol.money import Money
from protocol.updates import System


class Flag(StrEnum):
    """What a person who reads the audit log should notice."""

    SAME_ANSWER = "same_answer"
    """The request was answered before; nothing was done now."""
    SHORT = "short"
    """Posted in full though the wallet could not cover it."""
    TOKEN_SEEN_BEFORE = "token_seen_before"  # noqa: S105  # a flag's name
    DECLINED_BEFORE = "declined_before"
    """Accepted offline although this very sale had been declined online."""
    JOURNAL_NEW_EPOCH = "journal_new_epoch"
    JOURNAL_BEHIND = "journal_behind"
    """A heartbeat says less of its journal than is known: it is late, or its journal is old."""


class QuarantineCause(StrEnum):
    """What no honest appliance can have said (docs/decisions/0022-*.md)."""

    WENT_BACK = "journal_went_back"
    """It had been told how far its journal goes, or what is settled in it, and says less."""
    FORKED = "journal_forked"
    """Two journals of one epoch have other contents up to the same entry."""
    RETURNED = "journal_returned"
    """It had left this journal for another, was told so, and goes on in the old one."""
    ENTRY_TWICE = "journal_entry_twice"
    """Two sales say that they stand at the same entry."""
    ENTRY_UNSEEN = "journal_entry_unseen"
    """A sale from before what was said to be settled, which the cloud never saw."""


class ReviewCause(StrEnum):
    """Why a person has to judge, where no refusal's name says it."""

    CANCELLED_BEFORE = "cancelled_before"
    """The till cancelled this very key, and now says that it sold."""
    UPLOAD_TOO_OLD = "upload_too_old"
    NEVER_SETTLED = "never_settled"
    """Approved, and a day later the appliance still has not said that it knows."""
    JOURNAL_NEW_EPOCH = "journal_new_epoch"
    """Approved, and the appliance has begun another journal without saying that it knew."""


class SpentToken(msgspec.Struct, frozen=True):
    user_id: UserId
    token_id: TokenId
    expires_at_s: int
    """The token's `exp`, seconds since 1970."""


class Review(msgspec.Struct, frozen=True):
    """What a person has to judge."""

    review_id: str
    reason: Reason | ReviewCause
    user_id: UserId | None = None
    amount: Money | None = None
    event_id: EventId | None = None


class ApprovalCause(StrEnum):
    """Why one person is not enough for a refund."""

    WINDOW_OVER = "refund_window_over"
    OVER_STAFF_LIMIT = "over_staff_limit"


class WantedApproval(msgspec.Struct, frozen=True):
    """What a second person is asked."""

    approval_id: str
    cause: ApprovalCause
    sale: PostedSale
    amount: Money
    asked_by: str


class Reversed(msgspec.Struct, frozen=True):
    """The sale that a refund gave back, by its key, and what is left of it."""

    key: DeviceKey
    left_in_cents: int


class Seen(msgspec.Struct, frozen=True):
    """What a heartbeat said of its appliance."""

    at: datetime
    journal: JournalPosition | None
    """What is known of its journal from now on; None: as before."""
    policy_acked: int | None
    """None: as before, for it is not believed."""
    firmware: str
    printer: str
    queue: int
    has_resent: bool = False
    """It has said its journal again since the database was restored."""
    journal_left: tuple[str, ...] = ()
    """The epochs before `journal`'s."""
    settled_by: str | None = None
    """The firmware that counted `journal`'s `settled_below`."""
    temperature_c: int | None = None
    clock: ClockTrust | None = None
    last_sale_ms: int | None = None
    queue_in_cents: int | None = None
    uptime_s: int | None = None
    system: System | None = None
    """Of its image; None: its system is none of ours."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The answer, and what has to stand in the database before it may be sent."""

    answer: Outcome
    key: KnownKey | None = None
    """What the request's key now stands for, where that changed."""
    posting: Posting | None = None
    spent: SpentToken | None = None
    review: Review | None = None
    ended: SessionId | None = None
    seen: Seen | None = None
    reversed: Reversed | None = None
    wanted: WantedApproval | None = None
    approval_used: str | None = None
    about: DeviceKey | None = None
    """The sale that a refund names, for the audit record."""
    freezes: bool = False
    """The wallet that `posting` moves has no offline allowance from now on."""
    left: JournalPosition | None = None
    """The journal that the appliance has left for another: what was not settled in it."""
    quarantine: QuarantineCause | None = None
    """From this request on the appliance is not believed."""
    flags: tuple[Flag, ...] = ()
    user_id: UserId | None = None
    staff_id: StaffId | None = None

    @property
    def outcome_name(self) -> str:
        """For the audit record: the outcome, or the name of the refusal."""
        if isinstance(self.answer, Declined):
            return self.answer.reason.value
        return str(self.answer.__struct_config__.tag)


def same_answer(known: KnownKey) -> Decision:
    """What was answered before; nothing is done now."""
    of = known.sale or known.refund
    return Decision(
        answer=known.answer,
        flags=(Flag.SAME_ANSWER,),
        user_id=None if of is None else of.user_id,
    )
