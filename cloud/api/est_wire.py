"""EST on the wire (RFC 7030, as RFC 8951 clarifies it): base64 bodies, certs-only, attributes."""

import base64
import binascii
from collections.abc import Iterable
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

PKCS10: Final = "application/pkcs10"
PKCS7: Final = "application/pkcs7-mime"
CERTS_ONLY: Final = "application/pkcs7-mime; smime-type=certs-only"
CSR_ATTRIBUTES: Final = "application/csrattrs"
ENCODED: Final = {"Content-Transfer-Encoding": "base64"}
"""RFC 8951 lets it go; clients written before that look for it."""

WANTED: Final = bytes.fromhex(
    # SEQUENCE of: id-ecPublicKey with prime256v1, ecdsa-with-SHA256, serialNumber.
    "3026"
    "3015" "06072a8648ce3d0201" "310a" "06082a8648ce3d030107"
    "06082a8648ce3d040302"
    "0603550405"
)  # fmt: skip
"""CsrAttrs (RFC 7030, 4.5.2): a P-256 key, signed with SHA-256, and the serial number."""


def from_base64(body: bytes) -> bytes | None:
    """What a body holds, however its lines were wrapped; None where it is not base64."""
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        return None


def to_base64(der: bytes) -> bytes:
    """In lines of 76 characters: `openssl base64 -d` reads no longer ones."""
    return base64.encodebytes(der)


def certs_only(certificates: Iterable[x509.Certificate]) -> bytes:
    """A CMS SignedData that signs nothing and carries these (RFC 5751, 3.7)."""
    return to_base64(pkcs7.serialize_certificates(list(certificates), Encoding.DER))
