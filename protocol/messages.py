"""Every request and reply: frozen, versioned, bounded; anything else is refused by name."""

import hashlib
from enum import StrEnum
from typing import Annotated, Final, Literal, TypeVar, get_args

import msgspec

from protocol.encoding import to_base64url
from protocol.ids import (
    CorrelationId,
    DeviceId,
    IdempotencyKey,
    SessionId,
)
from protocol.money import Cents, Currency, Money
from protocol.signing import SIGNED_BYTES_MAX

VERSION: Final = 1
LINES_MAX: Final = 40
SHIFT_PRODUCTS_MAX: Final = 200
PAYLOAD_BYTES_MAX: Final = SIGNED_BYTES_MAX * 3 // 4 - 512
"""What fits a signed message once it is base64url, with room for header and signature."""

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError)
"""What reading JSON from outside may raise; the last where brackets are nested by the thousand."""

Slug = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?\Z")]
Key = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{16,64}\Z")]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=2**50)]
"""Since 1970, UTC."""
Count = Annotated[int, msgspec.Meta(ge=0, le=2**50)]
Version = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Text = Annotated[str, msgspec.Meta(max_length=200)]
Jws = Annotated[str, msgspec.Meta(max_length=1024)]
ReplyJws = Annotated[str, msgspec.Meta(max_length=4096)]
ShortId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{0,22}\Z")]
"""An id out of a wallet QR; empty where there is none."""


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


class JournalPosition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the appliance's journal stands: what a gap, a fork or a clone is noticed by."""

    epoch: Key
    last: Count
    """The number of the newest entry."""
    settled_below: Count
    """Every entry below this number has its final answer."""
    head: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{43}\Z")]
    """SHA-256 chained over all entries up to `last`, base64url."""


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


class Heartbeat(_Request, frozen=True, kw_only=True, tag="heartbeat"):
    policy_version: Version
    """The highest policy this appliance has journaled: an acknowledgement (0: none yet)."""
    firmware: Text
    queue: Count
    """Messages that wait for a signed answer."""
    printer: Text
    resent_for: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """The `Resend.restore_id` it has sent its journal again for."""


Request = (
    SignIn
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


class _Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="outcome"):
    pass


class SignedIn(_Outcome, frozen=True, tag="signed_in"):
    """The staff session: the signed reply that carries it is the proof, kept in the journal."""

    session_id: Key
    staff_id: Slug
    initials: Annotated[str, msgspec.Meta(max_length=8)]
    event_id: Slug
    stall_id: Slug
    expires_at_ms: Milliseconds


class SignedOut(_Outcome, frozen=True, tag="signed_out"):
    session_id: Key


class BalanceShown(_Outcome, frozen=True, tag="balance_shown"):
    balance: Money


class Approved(_Outcome, frozen=True, tag="approved", omit_defaults=True):
    """Deducted, exactly once. `code` is what a person reads out from the receipt."""

    transaction_id: str
    amount: Money
    balance: Money
    code: Text
    at_ms: Milliseconds
    payer_id: ShortId = ""
    """Whose QR it was, and which: what a cloud that lost this sale posts it by again."""
    token_id: ShortId = ""


class PostedOffline(_Outcome, frozen=True, tag="posted_offline", omit_defaults=True):
    """Posted in full after the fact. `short_in_cents`: what the wallet could not cover."""

    transaction_id: str
    amount: Money
    short_in_cents: Count
    token_seen_before: bool
    at_ms: Milliseconds
    payer_id: ShortId = ""
    token_id: ShortId = ""


class Cancelled(_Outcome, frozen=True, tag="cancelled"):
    """Nothing is deducted under this key, now or ever. `reversed`: what was given back."""

    reversed: Money | None


class UnderReview(_Outcome, frozen=True, tag="under_review"):
    """A person decides; the appliance has done its part."""

    review_id: str


class Declined(_Outcome, frozen=True, tag="declined"):
    """Nothing was deducted. `balance` where funds were short and staff may say so."""

    reason: Reason
    balance: Money | None = None


class Refunded(_Outcome, frozen=True, tag="refunded"):
    """Given back to the wallet, exactly once. `code` names the refund on its slip."""

    transaction_id: str
    amount: Money
    left_in_cents: Count
    """What of the sale may still be given back."""
    balance: Money
    code: Text
    at_ms: Milliseconds


class ApprovalGranted(_Outcome, frozen=True, tag="approval_granted"):
    """Counts once, for this appliance, this sale and this amount."""

    approval_id: Key
    amount: Money
    expires_at_ms: Milliseconds


class LastReceipt(_Outcome, frozen=True, tag="last_receipt"):
    """The newest sale of this appliance at its stall, as its receipt said; not who paid it."""

    sale: SaleName
    code: Text
    amount: Money
    left_in_cents: Count
    """What of it was not given back."""
    lines: Lines
    at_ms: Milliseconds
    balance: Money | None
    """After this sale, as its receipt said; None where it was taken offline."""


class ProductSold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    product: Annotated[int, msgspec.Meta(ge=1, le=9999)]
    quantity: Count
    total_in_cents: Count


class ShiftReport(_Outcome, frozen=True, tag="shift_report"):
    """One session at one appliance, as far as the cloud knows it."""

    currency: Currency
    since_ms: Milliseconds
    sales: Count
    sales_in_cents: Count
    offline: Count
    """How many of the sales were taken offline."""
    offline_in_cents: Count
    refunds: Count
    """What was given back at this appliance in this session, cancelled sales included."""
    refunds_in_cents: Count
    net_in_cents: Cents
    products: Annotated[tuple[ProductSold, ...], msgspec.Meta(max_length=SHIFT_PRODUCTS_MAX)]
    """Of the sales that were not given back whole; those with the most money, by number."""


class Resend(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The cloud came back from a backup: say again what it may have lost."""

    restore_id: Key
    from_entry: Count
    """What is settled before this entry of the journal was in the backup."""


class HeartbeatAnswered(_Outcome, frozen=True, tag="heartbeat_answered", omit_defaults=True):
    cloud_time_ms: Milliseconds
    policy_version: Version
    """The newest policy for this appliance: behind it, wait for the retained message."""
    checkpoint: Jws | None = None
    """The audit log's newest (`checkpoint.Checkpoint`), so that it leaves the cloud's hands."""
    resend: Resend | None = None


Outcome = (
    SignedIn
    | SignedOut
    | BalanceShown
    | Approved
    | PostedOffline
    | Cancelled
    | UnderReview
    | Declined
    | Refunded
    | ApprovalGranted
    | LastReceipt
    | ShiftReport
    | HeartbeatAnswered
)


class Reply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The cloud's word on one request, bound to it by key, kind and hash."""

    v: Literal[1] = VERSION
    device_id: Slug
    key: Key
    answers: Annotated[str, msgspec.Meta(max_length=32)]
    """The kind of the request."""
    request_hash: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{43}\Z")]
    """`signing.fingerprint` of the request as it arrived."""
    answered_at_ms: Milliseconds
    cloud_us: Count = 0
    """Microseconds from arrival to signature, for the till's own account of a sale."""
    outcome: Outcome


_Message = TypeVar("_Message")


class MessageRefusal(msgspec.Struct, frozen=True):
    """A payload that is no message of ours, and what is wrong with it."""

    reason: Reason
    detail: str


class _Envelope(msgspec.Struct, frozen=True):
    v: int


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_REQUEST: Final[msgspec.json.Decoder[Request]] = msgspec.json.Decoder(Request)
_REPLY: Final = msgspec.json.Decoder(Reply)
_OUTCOME: Final[msgspec.json.Decoder[Outcome]] = msgspec.json.Decoder(Outcome)
_ENCODER: Final = msgspec.json.Encoder()
_KINDS: Final = {message: str(message.__struct_config__.tag) for message in get_args(Request)}


def kind_of(request: Request) -> str:
    return _KINDS[type(request)]


def encode(message: Request | Reply) -> bytes:
    """JSON; bounded, so that no broker on the way refuses it."""
    payload = _ENCODER.encode(message)
    assert len(payload) <= PAYLOAD_BYTES_MAX, "a message outgrew its bound"
    return payload


def decode_request(payload: bytes) -> Request | MessageRefusal:
    return _decode(_REQUEST, payload)


def decode_reply(payload: bytes) -> Reply | MessageRefusal:
    return _decode(_REPLY, payload)


def _decode(decoder: msgspec.json.Decoder[_Message], payload: bytes) -> _Message | MessageRefusal:
    if len(payload) > PAYLOAD_BYTES_MAX:
        return MessageRefusal(Reason.MALFORMED, f"longer than {PAYLOAD_BYTES_MAX} bytes")
    try:
        # First, and by a reader that has no default: who says no version has not said ours.
        version = _ENVELOPE.decode(payload).v
        if version == VERSION:
            return decoder.decode(payload)
    except UNREADABLE as error:
        return MessageRefusal(Reason.MALFORMED, str(error))
    return MessageRefusal(
        Reason.UNSUPPORTED_VERSION, f"version {version}; this side speaks {VERSION}"
    )


def encode_outcome(outcome: Outcome) -> bytes:
    """For the outcome's row: the same answer for the same request, word for word."""
    return _ENCODER.encode(outcome)


def decode_outcome(stored: bytes) -> Outcome:
    """Raises msgspec.DecodeError where the stored bytes are not what `encode_outcome` wrote."""
    return _OUTCOME.decode(stored)
