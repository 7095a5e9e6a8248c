"""A public key and its name: whose signature counts, as policies and heartbeat replies say it."""

from typing import Annotated, Final

import msgspec

from protocol.encoding import public_key_from_text
from protocol.signing import PublicKey

KEYS_MAX: Final = 8


class NamedKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A public P-256 key and the `kid` that names it."""

    kid: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,43}\Z")]
    spki: Annotated[str, msgspec.Meta(max_length=200)]
    """SubjectPublicKeyInfo, DER, base64url."""

    def __post_init__(self) -> None:
        if public_key_from_text(self.spki) is None:
            raise ValueError(f"key {self.kid} is not a P-256 public key")

    @property
    def public_key(self) -> PublicKey:
        key = public_key_from_text(self.spki)
        assert key is not None, "checked when it was built"
        return key
