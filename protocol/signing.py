"""The JWS profiles: ES256 compact tokens whose type, key and spelling are all pinned."""

import hashlib
from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from protocol.encoding import from_base64url, to_base64url

SIGNED_BYTES_MAX: Final = 32 * 1024
"""No signed message is longer, not even a policy with the longest price list; the broker's
`max_packet_size` is above it."""

HEADER_CHARS_MAX: Final = 256
"""Twice what our longest header takes. Headers are remembered: strangers' must not fill memory."""

PublicKey = ec.EllipticCurvePublicKey
PrivateKey = ec.EllipticCurvePrivateKey
KeyFinder = Callable[[str], PublicKey | None]
"""Our own map from a key's name to the key; a token never brings its key along."""

_ES256: Final = ECAlgorithm(ECAlgorithm.SHA256, ec.SECP256R1)


class Profile(StrEnum):
    """What a signature is for: the `typ` header, so that no token passes for another kind."""

    REQUEST = "railtix-request+jwt"
    REPLY = "railtix-reply+jwt"
    POLICY = "railtix-policy+jwt"
    BADGE = "railtix-badge+jwt"
    CHECKPOINT = "railtix-checkpoint+jwt"
    TICKET = "railtix-ticket+jwt"
    WALLET = ""
    """The wallet QR has no `typ`: its key signs nothing else, and every character costs."""


class SignatureRefusal(StrEnum):
    """Why a token was not taken."""

    TOO_LONG = "too_long"
    NOT_A_TOKEN = "not_a_token"  # noqa: S105  # the name of a refusal
    WRONG_ALGORITHM = "wrong_algorithm"
    WRONG_TYPE = "wrong_type"
    UNKNOWN_KEY = "unknown_key"
    BAD_SIGNATURE = "bad_signature"


class Verified(msgspec.Struct, frozen=True):
    """A token whose signature, type and key are right; what it says is still to be judged."""

    payload: bytes
    key_id: str


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """RFC 7515 section 4.1; anything but these members is refused, `crit`, `jku`, `jwk` too."""

    alg: str
    kid: str = ""
    typ: str = ""
    thumbprint: str = msgspec.field(name="x5t#S256", default="")


_HEADER: Final = msgspec.json.Decoder(_Header)


def sign(profile: Profile, payload: bytes, key: PrivateKey, key_id: str) -> str:
    """A JWS in compact form (RFC 7515 section 7.1).

    A request names its certificate (`x5t#S256`, RFC 7515 section 4.1.8), all else a `kid`.
    """
    signing_input = f"{_encoded_header(profile, key_id)}.{to_base64url(payload)}"
    signature = _ES256.sign(signing_input.encode("ascii"), key)
    token = f"{signing_input}.{to_base64url(signature)}"
    assert len(token) <= SIGNED_BYTES_MAX, "a signed message outgrew its bound"
    return token


def verify(profile: Profile, token: bytes, find_key: KeyFinder) -> Verified | SignatureRefusal:
    """The payload, or the name of what is wrong. ES256 alone, whatever the header says."""
    if len(token) > SIGNED_BYTES_MAX:
        return SignatureRefusal.TOO_LONG
    parts = token.split(b".")
    if len(parts) != 3:
        return SignatureRefusal.NOT_A_TOKEN
    header = _decoded_header(parts[0]) if len(parts[0]) <= HEADER_CHARS_MAX else None
    payload = from_base64url(parts[1])
    signature = from_base64url(parts[2])
    if header is None or payload is None or signature is None:
        return SignatureRefusal.NOT_A_TOKEN
    if header.alg != "ES256":
        return SignatureRefusal.WRONG_ALGORITHM
    if header.typ != profile.value:
        return SignatureRefusal.WRONG_TYPE
    key_id = header.thumbprint if profile is Profile.REQUEST else header.kid
    key = find_key(key_id)
    if key is None:
        return SignatureRefusal.UNKNOWN_KEY
    if not _ES256.verify(parts[0] + b"." + parts[1], key, signature):
        return SignatureRefusal.BAD_SIGNATURE
    return Verified(payload, key_id)


def fingerprint(token: bytes) -> str:
    """SHA-256 of a signed message as sent, base64url: what a reply names as its request."""
    return to_base64url(hashlib.sha256(token).digest())


def thumbprint(certificate_der: bytes) -> str:
    """`x5t#S256`: SHA-256 of a certificate's DER, base64url (RFC 7515 section 4.1.8)."""
    return to_base64url(hashlib.sha256(certificate_der).digest())


@lru_cache(maxsize=256)
def _encoded_header(profile: Profile, key_id: str) -> str:
    if profile is Profile.REQUEST:
        header = _Header(alg="ES256", typ=profile.value, thumbprint=key_id)
    else:
        header = _Header(alg="ES256", typ=profile.value, kid=key_id)
    return to_base64url(msgspec.json.encode(header))


@lru_cache(maxsize=4096)
def _decoded_header(encoded: bytes) -> _Header | None:
    raw = from_base64url(encoded)
    if raw is None:
        return None
    try:
        return _HEADER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
