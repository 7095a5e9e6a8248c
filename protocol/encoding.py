"""Strict base64url and key encodings: one spelling for every value, or none."""

import binascii
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
# What base64 proper would take besides is made into what it refuses.
_FROM_URL: Final = bytes.maketrans(b"-_+/=", b"+/!!!")
# The last character's lowest bits stand for nothing, and are 0: two bits of a missing one, four of
# two missing ones.
_LAST: Final = {1: b"AEIMQUYcgkosw048", 2: b"AQgw"}


def to_base64url(raw: bytes) -> str:
    """RFC 4648 section 5, without padding."""
    return binascii.b2a_base64(raw, newline=False).translate(_TO_URL, b"=").decode("ascii")


def from_base64url(text: bytes) -> bytes | None:
    """The bytes, or None unless `text` is their one canonical unpadded spelling.

    The standard library skips foreign characters and ignores stray trailing bits, so a mutated
    text could still decode; here it does not.
    """
    missing = -len(text) % 4
    if missing == 3 or (missing and text[-1] not in _LAST[missing]):
        return None
    try:
        return binascii.a2b_base64(text.translate(_FROM_URL) + b"=" * missing, strict_mode=True)
    except binascii.Error:
        return None


def public_key_to_text(key: ec.EllipticCurvePublicKey) -> str:
    """SubjectPublicKeyInfo (RFC 5280), DER, base64url."""
    return to_base64url(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def public_key_from_text(text: str) -> ec.EllipticCurvePublicKey | None:
    """The P-256 key, or None where the text holds anything else."""
    raw = from_base64url(text.encode())
    if raw is None:
        return None
    try:
        key = load_der_public_key(raw)
    except (ValueError, UnsupportedAlgorithm):
        return None
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    return None
