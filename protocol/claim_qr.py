"""The claim QR: where an appliance enrols, whom it believes there, and its one-time secret.

Made of the characters of QR's alphanumeric mode alone, which spends 5.5 bits on each: the code
stays small enough for a terminal, and for a camera that was focused on phones.
"""

import re
from base64 import b32decode, b32encode
from dataclasses import dataclass, field
from typing import Final

CLAIM_ID_CHARS: Final = 10
SECRET_CHARS: Final = 32
"""Base32: 160 bits, which nobody guesses in a claim's five tries, or ever."""
FINGERPRINT_BYTES: Final = 32
TEXT_CHARS_MAX: Final = 400

_MARK: Final = "RAILTIX1:"
_HOST: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9.-]*[a-z0-9])?\Z")
_IPV6: Final = re.compile(r"(?=.{2,45}\Z)[0-9a-f:.]*:[0-9a-f:.]*\Z")
_CLAIM_ID: Final = re.compile(rf"[A-Z2-7]{{{CLAIM_ID_CHARS}}}\Z")
_SECRET: Final = re.compile(rf"[A-Z2-7]{{{SECRET_CHARS}}}\Z")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}\Z")


@dataclass(frozen=True, kw_only=True)
class ClaimQr:
    """What a claim says. Raises ValueError for what the QR cannot hold."""

    host: str
    """A name or an address, in small letters: the certificate there must be for it."""
    port: int
    fingerprint: bytes
    """SHA-256 of the root certificate (DER): the one authority this appliance will believe."""
    claim_id: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        if _HOST.match(self.host) is None and _IPV6.match(self.host) is None:
            raise ValueError(f"a claim cannot name the host {self.host!r}")
        if not 1 <= self.port <= 65535:
            raise ValueError(f"there is no port {self.port}")
        if len(self.fingerprint) != FINGERPRINT_BYTES:
            raise ValueError("a fingerprint is a SHA-256")
        if _CLAIM_ID.match(self.claim_id) is None:
            raise ValueError(f"a claim's id is {CLAIM_ID_CHARS} characters of base32")
        if _SECRET.match(self.secret) is None:
            raise ValueError(f"a claim's secret is {SECRET_CHARS} characters of base32")


def claim_qr_text(claim: ClaimQr) -> str:
    """What the QR holds; whoever sees it can enrol in this claim's place until it expires."""
    fingerprint = b32encode(claim.fingerprint).decode("ascii").rstrip("=")
    parts = (claim.host.upper(), str(claim.port), fingerprint, claim.claim_id, claim.secret)
    return _MARK + "/".join(parts)


def read_claim_qr(text: str) -> ClaimQr | None:
    """The claim in a scanned text, or None unless this is its one spelling."""
    if not text.startswith(_MARK) or len(text) > TEXT_CHARS_MAX:
        return None
    parts = text.removeprefix(_MARK).split("/")
    if len(parts) != 5 or _PORT.match(parts[1]) is None:
        return None
    host, port, fingerprint, claim_id, secret = parts
    try:
        claim = ClaimQr(
            host=host.lower(),
            port=int(port),
            fingerprint=b32decode(fingerprint + "=" * (-len(fingerprint) % 8)),
            claim_id=claim_id,
            secret=secret,
        )
    except ValueError:
        return None
    return claim if claim_qr_text(claim) == text else None
