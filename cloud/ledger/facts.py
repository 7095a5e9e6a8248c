"""What a decision is made from: facts read under the locks, and requests whose signature holds."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

import msgspec

from cloud.ledger.postings import Wallet
from protocol.ids import (
    DeviceId,
    EventId,
    IdempotencyKey,
    PayerId,
    SessionId,
    StaffId,
    StallId,
    TokenId,
    TransactionId,
    UserId,
)
from protocol.messages import (
    BalanceRequest,
    Cancel,
    Deduct,
    DeniedChanges,
    Heartbeat,
    JournalPosition,
    OfflineAcceptance,
    Outcome,
    Reason,
    Refund,
    SignOut,
)
from protocol.money import Money
from protocol.named_key import NamedKey
from protocol.policy import OfflineRules
from protocol.wallet_qr import QrRefusal, WalletToken

BatchRequest = SignOut | BalanceRequest | Deduct | OfflineAcceptance | Cancel | Refund | Heartbeat
"""Everything but what is slow, on purpose (a PIN) or by its nature (a report), and runs alone."""

DeviceKey = tuple[DeviceId, IdempotencyKey]
JournalEntry = tuple[DeviceId, str, int]
"""One entry of one journal: the appliance, the epoch, the number."""


class KeyState(StrEnum):
    """What became of an idempotency key (docs/rules.md, keys and outcomes)."""

    APPROVED = "approved"
    DECLINED = "declined"
    CANCELLED = "cancelled"
    POSTED_OFFLINE = "posted_offline"
    REVIEW = "review"
    """Unseen until a request that a person has to judge."""
    ANSWERED = "answered"
    """A sign-in, a refund or an approval: no sale can come under it any more."""


class PostedSale(msgspec.Struct, frozen=True):
    """A sale in the ledger, and what of it is not reversed yet."""

    transaction_id: TransactionId
    user_id: UserId
    amount: Money
    left_in_cents: int
    event_id: EventId | None
    stall_id: StallId | None
    staff_id: StaffId | None
    sold_at: datetime
    """By the cloud's clock; of a sale taken offline, when the till says that it took it."""


class PostedRefund(msgspec.Struct, frozen=True):
    transaction_id: TransactionId
    user_id: UserId


class KnownKey(msgspec.Struct, frozen=True):
    state: KeyState
    digest: str | None
    """Of the content; None for a sign-in, and where only a cancel was seen under this key."""
    answer: Outcome
    sale: PostedSale | None = None
    refund: PostedRefund | None = None


class Appliance(msgspec.Struct, frozen=True):
    device_id: DeviceId
    revoked: bool
    event_id: EventId | None
    stall_id: StallId | None
    policy_version: int
    """The newest issued for it."""
    journal: JournalPosition | None = None
    """As of its newest heartbeat."""
    resend: "Resending | None" = None
    """What it has to say again since the database was restored."""
    quarantined: bool = False
    """Its journal is not believed, so nothing new of it is posted until ops release it."""
    releases: int = 0
    """How often they did."""
    journal_anew: bool = False
    """They just did: whatever its next heartbeat says is where its journal stands."""
    journal_left: tuple[str, ...] = ()
    """Epochs before `journal`'s, the newest last."""
    settled_by: str | None = None
    """The firmware that counted `journal.settled_below`."""

    def why_shut_out(self, *, certificate_revoked: bool) -> Reason | None:
        """Why nothing new of it is posted."""
        if self.revoked or certificate_revoked:
            return Reason.DEVICE_REVOKED
        return Reason.DEVICE_QUARANTINED if self.quarantined else None


class Resending(msgspec.Struct, frozen=True):
    restore_id: str
    epoch: str | None
    """The journal that the backup knew; of another one all is said again."""
    from_entry: int


class EventTerms(msgspec.Struct, frozen=True):
    event_id: EventId
    currency: str
    sale_max_in_cents: int


class RefundTerms(msgspec.Struct, frozen=True):
    """Until when and how much an event gives back, and to whom it leaves that."""

    window_s: int
    staff_limit_in_cents: int
    deadline: datetime | None
    ends_at: datetime | None


class ApprovalState(StrEnum):
    WAITING = "waiting"
    GRANTED = "granted"
    """At an appliance, which may use it once, for a few minutes."""
    REFUSED = "refused"
    USED = "used"
    """What it allowed is posted."""


class Approval(msgspec.Struct, frozen=True):
    """A second person's word on one refund."""

    approval_id: str
    state: ApprovalState
    sale_transaction_id: TransactionId | None
    amount: Money
    device_id: DeviceId | None
    """Where it was granted."""
    decided_by: str | None
    expires_at: datetime | None


class AskedApproval(msgspec.Struct, frozen=True):
    """What waits for a second person already, so that nobody is asked twice."""

    sale_transaction_id: TransactionId
    amount_in_cents: int
    asked_by: str


class RefundFacts(msgspec.Struct, frozen=True):
    """What only refunds are decided from; empty for a batch without one."""

    terms: Mapping[EventId, RefundTerms] = msgspec.field(default_factory=dict[EventId, RefundTerms])
    approvals: Mapping[str, Approval] = msgspec.field(default_factory=dict[str, Approval])
    waiting: frozenset[AskedApproval] = frozenset()
    under_review: frozenset[DeviceKey] = frozenset()
    """Sales that a person has to judge and has not yet."""


class StaffSession(msgspec.Struct, frozen=True):
    session_id: SessionId
    device_id: DeviceId
    staff_id: StaffId
    event_id: EventId
    stall_id: StallId
    expires_at: datetime
    ended: bool
    staff_assigned: bool
    """Whether the member of staff is still assigned to this event and stall."""


class PolicyTerms(msgspec.Struct, frozen=True):
    """What one signed policy said; it never changes once it is issued."""

    expires_at_ms: int
    event_id: EventId
    stall_id: StallId
    sale_max_in_cents: int
    offline: OfflineRules
    wallet_kids: frozenset[str] = frozenset()
    """The names of the keys whose QRs it lets the till believe."""


class CheckedQr(msgspec.Struct, frozen=True):
    """A wallet QR whose signature is right, and the event its key belongs to."""

    token: WalletToken
    event_id: EventId


class Presented(msgspec.Struct, frozen=True):
    """A request whose signature, certificate and topic are right; nothing else is judged yet."""

    request: BatchRequest
    request_hash: str
    thumbprint: str
    """Of the certificate whose key signed it."""
    arrived_at: datetime
    fresh_id: str
    """A new UUIDv7, for the transaction or the review entry that may come of it."""
    qr: CheckedQr | QrRefusal | None = None
    digest: str | None = None
    """`content().digest()` of a deduct, an offline acceptance or a refund."""


class ToldInPassing(msgspec.Struct, frozen=True):
    """What an appliance needs for deciding alone."""

    denied: DeniedChanges | None = None
    wallet_keys: tuple[NamedKey, ...] = ()


class Facts(msgspec.Struct, frozen=True):
    """All that a batch needs to know, read under its locks. What is absent does not exist."""

    appliances: Mapping[DeviceId, Appliance]
    revoked_certificates: frozenset[str]
    keys: Mapping[DeviceKey, KnownKey]
    reviews: Mapping[DeviceKey, str]
    """The review entry of a key that has one."""
    sessions: Mapping[SessionId, StaffSession]
    events: Mapping[EventId, EventTerms]
    policies: Mapping[tuple[DeviceId, int], PolicyTerms]
    payers: Mapping[PayerId, UserId]
    wallets: Mapping[tuple[UserId, str], Wallet]
    spent: frozenset[tuple[UserId, TokenId]]
    refunds: RefundFacts = RefundFacts()
    entries: Mapping[JournalEntry, frozenset[IdempotencyKey]] = msgspec.field(
        default_factory=dict[JournalEntry, frozenset[IdempotencyKey]]
    )
    """Whose entries they are, by what was answered since the appliance was last released."""
    told: Mapping[IdempotencyKey, ToldInPassing] = msgspec.field(
        default_factory=dict[IdempotencyKey, ToldInPassing]
    )
    """What a heartbeat's answer brings besides; by the heartbeat's own key."""
    unused_certificates: frozenset[str] = frozenset()
    """Under which no request was ever answered: these are the first."""
