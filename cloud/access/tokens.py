"""Tokens that open doors: 256 random bits, shown once, kept as a hash."""

import hashlib
import secrets
from enum import StrEnum
from typing import Final

from protocol.encoding import to_base64url

_RANDOM_BYTES: Final = 32


class TokenKind(StrEnum):
    """What a token opens, as its first letters: a scanner for leaked secrets knows them too."""

    SIGN_IN_LINK = "rxl_"
    ATTENDEE_SESSION = "rxa_"
    OPS_ACCESS = "rxo_"
    """Of a program, or of `railtix-ops`; its roles stand with it."""
    CONSOLE_SESSION = "rxc_"
    CONSOLE_LINK = "rxi_"
    """An invitation to the console."""


def draw_token(kind: TokenKind) -> str:
    """A new secret; hand it over once and store only its `hash_token`."""
    return f"{kind.value}{to_base64url(secrets.token_bytes(_RANDOM_BYTES))}"


def hash_token(token: str) -> str:
    """SHA-256, base64url. No salt and no stretching: there is no dictionary of 256 random bits."""
    return to_base64url(hashlib.sha256(token.encode()).digest())


def is_of_kind(token: str, kind: TokenKind) -> bool:
    """Whether it is worth looking up at all."""
    return token.startswith(kind.value) and len(token) == len(kind.value) + 43
