"""Every request of an appliance: frozen, versioned, bounded."""

import hashlib
from typing import Annotated, Final, Literal

import msgspec

from protocol.encoding import to_base64url
from protocol.fields import Count, Jws, Key, Milliseconds, ReplyJws, Slug, Text, Version
from protocol.ids import (
    CorrelationId,
    DeviceId,
    IdempotencyKey,
    SessionId,
)
from protocol.money import Money
from protocol.updates import System

VERSION: Final = 1
LINES_MAX: Final = 40


class JournalPosition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the appliance's journal stands: what a gap, a fork or a clone is noticed by."""

    epoch: Key
    last: Count
    """The number of the newest entry."""
    settled_below: Count
    """Every entry below this number has its final answer."""
    head: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{43}\Z")]
    """SHA-256 chained over all entries up to `last`, base64url."""


class JournalKnown(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far the cloud knows an appliance's journal.

    Whoever was told this and then says less has not just been late: they hold an older copy.
    """

    epoch: Key
    last: Count
    releases: Count
    """How often ops have released the appliance: what was known before says nothing after."""


class SaleLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many of one product, at the price list's price."""

    product: Annotated[int, msgspec.Meta(ge=1, le=9999)]
    quantity: Annotated[int, msgspec.Meta(ge=1, le=999)]
    unit_price_in_cents: Annotated[int, msgspec.Meta(ge=0, le=100_000_000)]

    @property
    def total_in_cents(self) -> int:
        return self.quantity * self.unit_price_in_cents


Lines = Annotated[tuple[SaleLine, ...], msgspec.Meta(max_length=LINES_MAX)]


class SaleContent(msgspec.Struct, frozen=True):
    """What makes two messages under one key the same sale (docs/rules.md, keys and outcomes)."""

    event_id: str
    stall_id: str
    amount: Money
    lines: tuple[SaleLine, ...]
    token: str
    """The QR's `jti`; for text that holds none, the SHA-256 of that text."""

    def digest(self) -> str:
        return to_base64url(hashlib.sha256(msgspec.json.encode(self)).digest())


class SaleName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sale as its receipt names it: by the appliance and the key it was made under.

    An offline sale has this name before the cloud ever hears of it.
    """

    device_id: Slug
    key: Key

    @property
    def device(self) -> DeviceId:
        return DeviceId(self.device_id)

    @property
    def idempotency_key(self) -> IdempotencyKey:
        return IdempotencyKey(self.key)


class RefundContent(msgspec.Struct, frozen=True):
    """What makes two messages under one key the same refund."""

    event_id: str
    stall_id: str
    sale: SaleName
    amount: Money | None
    approval_id: str | None
    kind: Literal["refund"] = "refund"

    def digest(self) -> str:
        return to_base64url(hashlib.sha256(msgspec.json.encode(self)).digest())


class ApprovalContent(msgspec.Struct, frozen=True):
    """What makes two messages under one key the same question to a supervisor."""

    event_id: str
    stall_id: str
    sale: SaleName
    amount: Money | None
    kind: Literal["approve"] = "approve"

    def digest(self) -> str:
        return to_base64url(hashlib.sha256(msgspec.json.encode(self)).digest())


class _Request(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"
):
    v: Literal[1] = VERSION
    device_id: Slug
    key: Key
    """The idempotency key; a cancel and an offline acceptance carry their sale's."""
    journal: JournalPosition
    sent_at_ms: Milliseconds
    """By the appliance's clock: for the record, and for the freshness of a sign-in."""

    @property
    def device(self) -> DeviceId:
        return DeviceId(self.device_id)

    @property
    def idempotency_key(self) -> IdempotencyKey:
        return IdempotencyKey(self.key)


class SignIn(_Request, frozen=True, kw_only=True, tag="sign_in"):
    badge: Jws
    sealed_pin: Annotated[str, msgspec.Meta(max_length=256)]

    def __repr__(self) -> str:
        return f"SignIn(device_id={self.device_id!r}, key={self.key!r})"


class ChoosePin(_Request, frozen=True, kw_only=True, tag="choose_pin"):
    """A badge that has no PIN yet gets this one, and its holder is signed in with it.

    Only once the same PIN was keyed twice; as fresh as a sign-in.
    """

    badge: Jws
    sealed_pin: Annotated[str, msgspec.Meta(max_length=256)]

    def __repr__(self) -> str:
        return f"ChoosePin(device_id={self.device_id!r}, key={self.key!r})"


class SignOut(_Request, frozen=True, kw_only=True, tag="sign_out"):
    session_id: Key


class BalanceRequest(_Request, frozen=True, kw_only=True, tag="balance"):
    """What is in this wallet? Consumes nothing, not even the QR."""

    session_id: Key
    wallet_qr: Jws


class _Sale(_Request, frozen=True, kw_only=True):
    session_id: Key
    event_id: Slug
    stall_id: Slug
    policy_version: Version
    entry: Count
    """The number of the sale's own journal entry."""
    correlation_id: Key
    """One for a customer's purchase, kept when a refused QR makes the till try a new key."""
    amount: Money
    lines: Lines = ()
    wallet_qr: Jws
    scanned_at_ms: Milliseconds

    def content(self, token: str) -> SaleContent:
        return SaleContent(self.event_id, self.stall_id, self.amount, self.lines, token)

    @property
    def correlation(self) -> CorrelationId:
        return CorrelationId(self.correlation_id)

    @property
    def session(self) -> SessionId:
        return SessionId(self.session_id)


class Deduct(_Sale, frozen=True, kw_only=True, tag="deduct"):
    """Deduct now, online."""


class OfflineAcceptance(_Sale, frozen=True, kw_only=True, tag="offline_acceptance"):
    """The goods are gone: the till accepted this sale by its signed policy, without the cloud."""

    accepted_at_ms: Milliseconds


class Cancel(_Request, frozen=True, kw_only=True, tag="cancel"):
    """Whatever became of this key: in the end nothing is deducted. Only the key decides."""

    session_id: Key
    event_id: Slug
    stall_id: Slug
    policy_version: Version
    entry: Count
    correlation_id: Key


class Resubmission(_Request, frozen=True, kw_only=True, tag="resubmission"):
    """A settled sale, said again to a cloud that was restored from a backup.

    The cloud's own signed reply proves it: what that says is posted, if it is not there already.
    """

    session_id: Key
    event_id: Slug
    stall_id: Slug
    policy_version: Version
    entry: Count
    correlation_id: Key
    lines: Lines = ()
    reply: ReplyJws

    @property
    def correlation(self) -> CorrelationId:
        return CorrelationId(self.correlation_id)


class Refund(_Request, frozen=True, kw_only=True, tag="refund"):
    """Give back, to the wallet it came from, a sale or a part of it: online, now."""

    session_id: Key
    event_id: Slug
    stall_id: Slug
    policy_version: Version
    entry: Count
    """The number of the refund's own journal entry."""
    correlation_id: Key
    sale: SaleName
    amount: Money | None = None
    """None: all that is left of the sale."""
    approval_id: Key | None = None
    """From `ApprovalGranted`, where one was needed."""

    def content(self) -> RefundContent:
        return RefundContent(self.event_id, self.stall_id, self.sale, self.amount, self.approval_id)

    @property
    def correlation(self) -> CorrelationId:
        return CorrelationId(self.correlation_id)


class Approve(_Request, frozen=True, kw_only=True, tag="approve"):
    """A supervisor's badge and PIN for a refund of exactly this sale and amount.

    Asked in the session of whoever will refund; fresh as a sign-in is.
    """

    session_id: Key
    event_id: Slug
    stall_id: Slug
    sale: SaleName
    amount: Money | None = None
    """None: all that is left of the sale now."""
    badge: Jws
    sealed_pin: Annotated[str, msgspec.Meta(max_length=256)]

    def content(self) -> ApprovalContent:
        return ApprovalContent(self.event_id, self.stall_id, self.sale, self.amount)

    def __repr__(self) -> str:
        return f"Approve(device_id={self.device_id!r}, key={self.key!r}, sale={self.sale!r})"


class LastReceiptRequest(_Request, frozen=True, kw_only=True, tag="last_receipt"):
    """What did this appliance sell last, here? To print it again."""

    session_id: Key


class ShiftReportRequest(_Request, frozen=True, kw_only=True, tag="shift_report"):
    """What did this session sell and give back so far?"""

    session_id: Key


ClockTrust = Literal["network", "cloud", "unset"]
"""Who an appliance has its time from: NTP, the cloud's signed word, or nobody since it started."""

TemperatureC = Annotated[int, msgspec.Meta(ge=-100, le=200)]


class Heartbeat(_Request, frozen=True, kw_only=True, tag="heartbeat"):
    policy_version: Version
    """The highest policy this appliance has journaled: an acknowledgement (0: none yet)."""
    firmware: Text
    queue: Count
    """Messages that wait for a signed answer."""
    printer: Text
    resent_for: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """The `Resend.restore_id` it has sent its journal again for."""
    denied_version: Count = 0
    """The deny list it holds (`DeniedChanges.version`); 0: none."""
    journal_told: JournalKnown | None = None
    """The newest `HeartbeatAnswered.journal_known` since it started, said again as it was."""
    session_id: Key | None = None
    """Of whoever is signed in there, as far as the appliance knows."""
    temperature_c: TemperatureC | None = None
    """The hottest of its sensors; None: it has none, or its firmware does not say."""
    clock: ClockTrust | None = None
    last_sale_ms: Milliseconds | None = None
    """By trusted time: the newest sale it approved, online or alone."""
    queue_in_cents: Count | None = None
    """What it sold offline and has no signed answer for, as its sales' own currency has it."""
    uptime_s: Count | None = None
    """Since its program started."""
    system: System | msgspec.UnsetType = msgspec.UNSET
    """Of the image it runs, and of its update; unset where it runs none of ours, so that an older
    cloud reads that heartbeat too."""


Request = (
    SignIn
    | ChoosePin
    | SignOut
    | BalanceRequest
    | Deduct
    | OfflineAcceptance
    | Cancel
    | Resubmission
    | Refund
    | Approve
    | LastReceiptRequest
    | ShiftReportRequest
    | Heartbeat
)
