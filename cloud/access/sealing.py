"""What a stolen database must not give away: sealed, or hashed, with a key it does not hold."""

import hashlib
import hmac
import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol.encoding import to_base64url

_NONCE_BYTES: Final = 12


def seal(key: bytes, secret: str, whose: str) -> bytes:
    """Nonce and ciphertext (AES-256-GCM); moved to somebody else's row it does not open."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed = AESGCM(_derived(key, b"second factors")).encrypt(
        nonce, secret.encode(), whose.encode()
    )
    return nonce + sealed


def unseal(key: bytes, sealed: bytes, whose: str) -> str | None:
    """None: sealed by another key, for somebody else, or changed."""
    nonce, ciphertext = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        opened = AESGCM(_derived(key, b"second factors")).decrypt(nonce, ciphertext, whose.encode())
    except (InvalidTag, ValueError):
        return None
    return opened.decode()


def hash_code(key: bytes, code: str, whose: str) -> str:
    """HMAC-SHA256, base64url: six digits alone are found in no time, whatever their hash costs."""
    said = whose.encode() + b"\n" + code.encode()
    return to_base64url(hmac.digest(_derived(key, b"one-time codes"), said, hashlib.sha256))


def _derived(key: bytes, purpose: bytes) -> bytes:
    info = b"railtix console " + purpose
    return HKDF(SHA256(), length=32, salt=None, info=info).derive(key)
