"""What the journal remembers: one frozen entry a fact, never changed once written."""

from enum import StrEnum
from typing import Final

import msgspec

from protocol.messages import DeniedChanges, Outcome, SaleName, SignedIn
from protocol.money import Money
from protocol.policy import NamedKey


class CancelReason(StrEnum):
    """Why a sale was cancelled before the cloud's word counted."""

    NO_REPLY = "no_reply"
    STAFF = "staff"
    NO_DECISION_AT_START = "no_decision_at_start"
    NOT_HANDED_OVER = "not_handed_over"
    JOURNAL_FAULT = "journal_fault"
    KEY_REUSED = "key_reused"
    NOT_READ = "not_read"
    """The cloud could not read the request; it may have read the same bytes before."""


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="entry"):
    pass


class EpochBegan(_Entry, frozen=True, tag="epoch_began"):
    """The first entry of a journal; `after` says what became of the one before."""

    epoch: str
    at_ms: int
    after: str = ""


class PolicyTaken(_Entry, frozen=True, tag="policy_taken"):
    """From here on no policy below this version is taken."""

    version: int
    token: str
    """The signed policy, as it came."""


class SessionBegan(_Entry, frozen=True, tag="session_began"):
    session: SignedIn
    token: str
    """The signed reply: the proof of the session."""


class SessionEnded(_Entry, frozen=True, tag="session_ended"):
    session_id: str
    key: str | None
    """The sign-out's key, or None where the cloud itself said that the session is over."""


class KeyedLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line as it stood on the price list when it was keyed."""

    product: int
    name: str
    quantity: int
    unit_price_in_cents: int


class SaleOpened(_Entry, frozen=True, kw_only=True, tag="sale_opened"):
    """Written before scanning begins: whatever happens next, this key is accounted for."""

    key: str
    correlation_id: str
    session_id: str
    initials: str
    event_id: str
    stall_id: str
    policy_version: int
    amount: Money
    lines: tuple[KeyedLine, ...]
    at_ms: int


class SaleAnswered(_Entry, frozen=True, tag="sale_answered"):
    """The decision, where the cloud's signed reply made it."""

    key: str
    outcome: Outcome
    token: str


class SaleCancelled(_Entry, frozen=True, tag="sale_cancelled"):
    """The decision that in the end nothing is deducted; open until the cloud has answered it."""

    key: str
    why: CancelReason


class SaleAcceptedOffline(_Entry, frozen=True, kw_only=True, tag="sale_accepted_offline"):
    """The decision, where the till made it by its signed policy; open until its signed answer.

    With the sale's own entry it holds all of what is uploaded, word for word, however late.
    """

    key: str
    wallet_qr: str
    payer_id: str
    token_id: str
    token_expires_s: int
    amount: Money
    scanned_at_ms: int
    accepted_at_ms: int
    """By trusted time, as is `scanned_at_ms`."""

    def __repr__(self) -> str:
        return f"SaleAcceptedOffline(key={self.key!r}, accepted_at_ms={self.accepted_at_ms})"


class SaleAbandoned(_Entry, frozen=True, tag="sale_abandoned"):
    """Nothing was ever published under this key."""

    key: str


class LightShown(_Entry, frozen=True, tag="light_shown"):
    """Staff have seen the approval."""

    key: str


class SaleKept(_Entry, frozen=True, tag="sale_kept"):
    """After a power cut staff said: the goods of this approved sale were handed over."""

    key: str


class RefundOpened(_Entry, frozen=True, kw_only=True, tag="refund_opened"):
    """Written before it is asked for: from here on it is asked again until it has its answer."""

    key: str
    correlation_id: str
    session_id: str
    initials: str
    event_id: str
    stall_id: str
    policy_version: int
    sale: SaleName
    amount: Money | None
    """None: all that is left of the sale."""
    approval_id: str | None
    at_ms: int


class RefundAnswered(_Entry, frozen=True, tag="refund_answered"):
    """The cloud's signed word on a refund: given back, or not, and for good."""

    key: str
    outcome: Outcome
    token: str


class RefundShown(_Entry, frozen=True, tag="refund_shown"):
    """Staff have the refund's answer: its slip was given to the printer."""

    key: str


class RefundAbandoned(_Entry, frozen=True, tag="refund_abandoned"):
    """The journal failed before this refund was asked for: nothing was published under its key."""

    key: str


class MessageClosed(_Entry, frozen=True, tag="message_closed"):
    """The cloud's signed answer to a cancel, a sign-out or an offline acceptance."""

    key: str
    kind: str
    token: str
    is_posting: bool = False
    """The answer says that an offline acceptance is posted: it proves that to a restored cloud."""


class Synced(_Entry, frozen=True, tag="synced"):
    """The last signed answer to a heartbeat, and when the deny list was last whole and newest."""

    at_ms: int
    denied_at_ms: int | None


class SyncRefused(_Entry, frozen=True, tag="sync_refused"):
    """The cloud said that this appliance is revoked or quarantined: it sells nothing alone."""

    at_ms: int


class DeniedTaken(_Entry, frozen=True, tag="denied_taken"):
    """What changed on the list of payers that no till may take offline."""

    changes: DeniedChanges
    at_ms: int


class WalletKeysTaken(_Entry, frozen=True, tag="wallet_keys_taken"):
    """Keys of wallet QRs that are newer than this version of the policy."""

    policy_version: int
    keys: tuple[NamedKey, ...]


class Resent(_Entry, frozen=True, tag="resent"):
    """After this restore of the cloud's database everything it may have lost was said again."""

    restore_id: str


Entry = (
    EpochBegan
    | PolicyTaken
    | SessionBegan
    | SessionEnded
    | SaleOpened
    | SaleAnswered
    | SaleCancelled
    | SaleAcceptedOffline
    | SaleAbandoned
    | LightShown
    | SaleKept
    | RefundOpened
    | RefundAnswered
    | RefundShown
    | RefundAbandoned
    | MessageClosed
    | Synced
    | SyncRefused
    | DeniedTaken
    | WalletKeysTaken
    | Resent
)

_DECODER: Final[msgspec.json.Decoder[Entry]] = msgspec.json.Decoder(Entry)
_ENCODER: Final = msgspec.json.Encoder()


def encode(entry: Entry) -> bytes:
    return _ENCODER.encode(entry)


def decode(body: bytes) -> Entry:
    """Raises msgspec.DecodeError where the bytes are no entry of ours."""
    return _DECODER.decode(body)


def kind_of(entry: Entry) -> str:
    return str(entry.__struct_config__.tag)


def key_of(entry: Entry) -> str:
    """The idempotency key an entry is about; empty where there is none."""
    match entry:
        case EpochBegan() | PolicyTaken() | SessionBegan() | Resent():
            return ""
        case Synced() | SyncRefused() | DeniedTaken() | WalletKeysTaken():
            return ""
        case SessionEnded(key=key):
            return key or ""
        case _:
            return entry.key
