"""Strict base64url and key encodings: one spelling for every value, or none."""

import base64
import re
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

_ALPHABET: Final = re.compile(rb"[A-Za-z0-9_-]*")


def to_base64url(raw: bytes) -> str:
    """RFC 4648 section 5, without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def from_base64url(text: bytes) -> bytes | None:
    """The bytes, or None unless `text` is their one canonical unpadded spelling.

    The standard library skips foreign characters and ignores stray trailing bits, so a mutated
    text could still decode; here it does not.
    """
    if _ALPHABET.fullmatch(text) is None or len(text) % 4 == 1:
        return None
    raw = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != text:
        return None
    return raw


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
