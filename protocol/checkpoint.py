"""What the audit log's tree looked like, signed: kept elsewhere, it shows a roll-back."""

from typing import Annotated, Literal

import msgspec

from protocol.encoding import from_base64url
from protocol.messages import UNREADABLE, Count, Milliseconds
from protocol.signing import KeyFinder, PrivateKey, Profile, SignatureRefusal, sign, verify

Hash = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{43}\Z")]


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tree of one epoch at one size."""

    v: Literal[1] = 1
    origin: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f-]{36}\Z")]
    """The id of the epoch's first record: tells this log from every other."""
    epoch: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    size: Annotated[int, msgspec.Meta(ge=1, le=2**50)]
    root: Hash
    """RFC 6962 section 2.1, base64url."""
    at_ms: Milliseconds

    @property
    def order(self) -> tuple[int, Count]:
        """A later checkpoint of the same log has a greater one."""
        return self.epoch, self.size

    @property
    def root_hash(self) -> bytes:
        raw = from_base64url(self.root.encode())
        assert raw is not None, "43 characters of base64url"
        return raw


_CHECKPOINT = msgspec.json.Decoder(Checkpoint)


def sign_checkpoint(checkpoint: Checkpoint, key: PrivateKey, key_id: str) -> str:
    return sign(Profile.CHECKPOINT, msgspec.json.encode(checkpoint), key, key_id)


def open_checkpoint(token: str, find_key: KeyFinder) -> Checkpoint | SignatureRefusal:
    """The checkpoint, or what is wrong with it."""
    try:
        raw = token.encode("ascii")
    except UnicodeEncodeError:
        return SignatureRefusal.NOT_A_TOKEN
    verified = verify(Profile.CHECKPOINT, raw, find_key)
    if isinstance(verified, SignatureRefusal):
        return verified
    return _read(verified.payload) or SignatureRefusal.NOT_A_TOKEN


def read_checkpoint(token: str) -> Checkpoint | None:
    """What a checkpoint says, its signature unread: for whoever keeps it and does not judge it."""
    parts = token.split(".")
    payload = from_base64url(parts[1].encode()) if len(parts) == 3 else None
    return None if payload is None else _read(payload)


def _read(payload: bytes) -> Checkpoint | None:
    try:
        found = _CHECKPOINT.decode(payload)
    except UNREADABLE:
        return None
    return found if from_base64url(found.root.encode()) is not None else None
