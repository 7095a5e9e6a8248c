"""Requests and replies as they cross the wire, read and written in one place or refused by name."""

from typing import Annotated, Final, Literal, TypeVar, get_args

import msgspec

from protocol.fields import (
    Count,
    Jws,
    Key,
    Milliseconds,
    ReplyJws,
    ShortId,
    Slug,
    Text,
    Version,
)
from protocol.outcomes import (
    DENIED_CHANGES_MAX,
    SHIFT_PRODUCTS_MAX,
    ApprovalGranted,
    Approved,
    BalanceShown,
    Cancelled,
    Declined,
    DeniedChanges,
    HeartbeatAnswered,
    LastReceipt,
    Outcome,
    PostedOffline,
    ProductSold,
    Refunded,
    Resend,
    ShiftReport,
    SignedIn,
    SignedOut,
    UnderReview,
)
from protocol.reasons import (
    Reason,
)
from protocol.requests import (
    LINES_MAX,
    VERSION,
    ApprovalContent,
    Approve,
    BalanceRequest,
    Cancel,
    ChoosePin,
    ClockTrust,
    Deduct,
    Heartbeat,
    JournalKnown,
    JournalPosition,
    LastReceiptRequest,
    Lines,
    OfflineAcceptance,
    Refund,
    RefundContent,
    Request,
    Resubmission,
    SaleContent,
    SaleLine,
    SaleName,
    ShiftReportRequest,
    SignIn,
    SignOut,
)
from protocol.signing import SIGNED_BYTES_MAX

__all__ = [
    "DENIED_CHANGES_MAX",
    "LINES_MAX",
    "PAYLOAD_BYTES_MAX",
    "SHIFT_PRODUCTS_MAX",
    "UNREADABLE",
    "VERSION",
    "ApprovalContent",
    "ApprovalGranted",
    "Approve",
    "Approved",
    "BalanceRequest",
    "BalanceShown",
    "Cancel",
    "Cancelled",
    "ChoosePin",
    "ClockTrust",
    "Count",
    "Declined",
    "Deduct",
    "DeniedChanges",
    "Heartbeat",
    "HeartbeatAnswered",
    "JournalKnown",
    "JournalPosition",
    "Jws",
    "Key",
    "LastReceipt",
    "LastReceiptRequest",
    "Lines",
    "MessageRefusal",
    "Milliseconds",
    "OfflineAcceptance",
    "Outcome",
    "PostedOffline",
    "ProductSold",
    "Reason",
    "Refund",
    "RefundContent",
    "Refunded",
    "Reply",
    "ReplyJws",
    "Request",
    "Resend",
    "Resubmission",
    "SaleContent",
    "SaleLine",
    "SaleName",
    "ShiftReport",
    "ShiftReportRequest",
    "ShortId",
    "SignIn",
    "SignOut",
    "SignedIn",
    "SignedOut",
    "Slug",
    "Text",
    "UnderReview",
    "Version",
    "decode_outcome",
    "decode_reply",
    "decode_request",
    "encode",
    "encode_outcome",
    "kind_of",
]

PAYLOAD_BYTES_MAX: Final = SIGNED_BYTES_MAX * 3 // 4 - 512
"""What fits a signed message once it is base64url, with room for header and signature."""

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError)
"""What reading JSON from outside may raise; the last where brackets are nested by the thousand."""


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
