"""The attendee's QR: a short-lived signed token, drawn as digits so that cameras read it."""

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from protocol.encoding import from_base64url
from protocol.ids import PayerId, TokenId
from protocol.signing import PrivateKey, Profile, PublicKey, SignatureRefusal, sign, verify

TOKEN_CHARS_MAX: Final = 1024
LIFETIME_MIN_S: Final = 60
LIFETIME_MAX_S: Final = 120
EARLY_S: Final = 30
"""How far a token's `iat` may lie ahead of its arrival."""
LATE_S: Final = 10
"""How long after its `exp` a token still counts: the time on the wire."""
OFFLINE_ALLOWANCE_MAX_IN_CENTS: Final = 10_000_000

_Id = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{11,22}\Z")]
_Seconds = Annotated[int, msgspec.Meta(ge=0, le=2**40)]
_FIRST: Final = ord("-")
_TENS: Final = bytes(ord("0") + max(0, byte - _FIRST) // 10 for byte in range(256))
_ONES: Final = bytes(ord("0") + max(0, byte - _FIRST) % 10 for byte in range(256))
_DIGITS: Final = re.compile(r"[0-9]+")
_JWS: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


class QrRefusal(StrEnum):
    """Why a code before the camera is no payment."""

    NOT_A_WALLET_QR = "not_a_wallet_qr"
    TOO_LONG = "token_too_long"
    WRONG_ALGORITHM = "token_wrong_algorithm"
    MALFORMED = "token_malformed"
    UNKNOWN_KEY = "token_unknown_key"
    BAD_SIGNATURE = "token_bad_signature"
    LIFETIME = "token_lifetime"
    EXPIRED = "token_expired"
    FROM_THE_FUTURE = "token_from_the_future"


class WalletToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The claims. Times are whole seconds since 1970 (RFC 7519 NumericDate)."""

    sub: _Id
    jti: _Id
    nonce: _Id
    iat: _Seconds
    exp: _Seconds
    oal: Annotated[int, msgspec.Meta(ge=0, le=OFFLINE_ALLOWANCE_MAX_IN_CENTS)] = 0
    """The offline allowance in cents, where the event's policy allows offline sales."""

    @property
    def payer_id(self) -> PayerId:
        return PayerId(self.sub)

    @property
    def token_id(self) -> TokenId:
        return TokenId(self.jti)


class SignedQr(msgspec.Struct, frozen=True):
    """A token whose signature is right, and the name of the key that made it."""

    token: WalletToken
    key_id: str


_CLAIMS: Final = msgspec.json.Decoder(WalletToken)


def issue(token: WalletToken, key: PrivateKey, key_id: str) -> str:
    """The JWS that the phone shows; draw it with `to_digits`."""
    assert LIFETIME_MIN_S <= token.exp - token.iat <= LIFETIME_MAX_S, "a QR lives 60 to 120 s"
    return sign(Profile.WALLET, msgspec.json.encode(token), key, key_id)


def to_digits(jws: str) -> str:
    """The same characters as digit pairs, `ord(c) - 45`, for the QR's numeric mode.

    As SMART Health Cards do; it saves a QR version at the same content (docs/facts.md).
    """
    raw = jws.encode("ascii")
    digits = bytearray(2 * len(raw))
    digits[::2], digits[1::2] = raw.translate(_TENS), raw.translate(_ONES)
    return digits.decode("ascii")


def read(text: str) -> str | QrRefusal:
    """The JWS in a decoded QR: digit pairs or plain. Anything else is some other code."""
    if len(text) > 2 * TOKEN_CHARS_MAX:
        return QrRefusal.TOO_LONG
    if text.isascii() and _DIGITS.fullmatch(text) is not None and len(text) % 2 == 0:
        pairs = (int(text[at : at + 2]) for at in range(0, len(text), 2))
        text = "".join(chr(_FIRST + pair) for pair in pairs)
    if _JWS.fullmatch(text) is None:
        return QrRefusal.NOT_A_WALLET_QR
    if len(text) > TOKEN_CHARS_MAX:
        return QrRefusal.TOO_LONG
    return text


def check_signature(jws: str, find_key: Callable[[str], PublicKey | None]) -> SignedQr | QrRefusal:
    """The token, signed by the key of ours it names and made of exactly our claims."""
    if len(jws) > TOKEN_CHARS_MAX:
        return QrRefusal.TOO_LONG
    match verify(Profile.WALLET, jws.encode(), find_key):
        case SignatureRefusal() as refusal:
            return _REFUSALS[refusal]
        case verified:
            token = _decode(verified.payload)
    if token is None:
        return QrRefusal.MALFORMED
    if not LIFETIME_MIN_S <= token.exp - token.iat <= LIFETIME_MAX_S:
        return QrRefusal.LIFETIME
    return SignedQr(token, verified.key_id)


def check_time(token: WalletToken, arrival_s: float) -> QrRefusal | None:
    """Whether the token counts at `arrival_s` (seconds since 1970, by the cloud's clock)."""
    if arrival_s < token.iat - EARLY_S:
        return QrRefusal.FROM_THE_FUTURE
    if arrival_s > token.exp + LATE_S:
        return QrRefusal.EXPIRED
    return None


def peek(jws: str) -> WalletToken | None:
    """The claims without any check: to compare contents, and for nothing that decides."""
    parts = jws.encode().split(b".")
    payload = from_base64url(parts[1]) if len(parts) == 3 else None
    return None if payload is None else _decode(payload)


def _decode(payload: bytes) -> WalletToken | None:
    try:
        return _CLAIMS.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


_REFUSALS: Final = {
    SignatureRefusal.TOO_LONG: QrRefusal.TOO_LONG,
    SignatureRefusal.NOT_A_TOKEN: QrRefusal.MALFORMED,
    SignatureRefusal.WRONG_ALGORITHM: QrRefusal.WRONG_ALGORITHM,
    # A wallet QR has no `typ`: a token that brings one was made for something else.
    SignatureRefusal.WRONG_TYPE: QrRefusal.MALFORMED,
    SignatureRefusal.UNKNOWN_KEY: QrRefusal.UNKNOWN_KEY,
    SignatureRefusal.BAD_SIGNATURE: QrRefusal.BAD_SIGNATURE,
}
