"""A ticket's code: what its QR says, signed, so that a door knows it from a drawn one."""

from typing import Annotated, Literal

import msgspec

from protocol.signing import (
    KeyFinder,
    PrivateKey,
    Profile,
    SignatureRefusal,
    sign,
    verify,
)

_Slug = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?\Z")]
_Id = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{22}\Z")]


class TicketClaims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Short names: a code's length decides how well it scans. No person stands in it."""

    v: Literal[1]
    ticket_id: _Id = msgspec.field(name="jti")
    """16 bytes, base64url; the order's too."""
    event_id: _Slug = msgspec.field(name="evt")
    ticket_type_id: _Slug = msgspec.field(name="cat")
    order_id: _Id = msgspec.field(name="ord")


_CLAIMS = msgspec.json.Decoder(TicketClaims)


def sign_ticket(claims: TicketClaims, key: PrivateKey, key_id: str) -> str:
    return sign(Profile.TICKET, msgspec.json.encode(claims), key, key_id)


def open_ticket(code: bytes, find_key: KeyFinder) -> TicketClaims | SignatureRefusal:
    """What it says, where the signature is ours; whether it still counts only the cloud knows."""
    verified = verify(Profile.TICKET, code, find_key)
    if isinstance(verified, SignatureRefusal):
        return verified
    try:
        return _CLAIMS.decode(verified.payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return SignatureRefusal.NOT_A_TOKEN
