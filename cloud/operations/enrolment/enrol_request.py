"""A PKCS #10 request as enrolment reads it: its key and serial number, and nothing else."""

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from cloud.operations.refusals import Code, Refusal
from protocol.encoding import public_key_to_text

CSR_BYTES_MAX: Final = 4096
SERIAL_CHARS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Requested:
    """What an appliance asks to be certified; who it is, the cloud decides."""

    key: ec.EllipticCurvePublicKey
    spki: str
    serial: str | None
    """What it says is written on it: the subject's serialNumber (2.5.4.5)."""


def read_request(der: bytes) -> Requested | Refusal:
    """The request, where its key is P-256 and its signature proves that the private half is there.

    Its subject, its names and the extensions it asks for decide nothing.
    """
    if len(der) > CSR_BYTES_MAX:
        return _not_usable(f"It is longer than {CSR_BYTES_MAX} bytes.")
    try:
        request = x509.load_der_x509_csr(der)
        key = request.public_key()
        serials = request.subject.get_attributes_for_oid(x509.NameOID.SERIAL_NUMBER)
        is_curve_ours = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(
            key.curve, ec.SECP256R1
        )
        is_proven = is_curve_ours and request.is_signature_valid
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm):
        return _not_usable("It is no PKCS #10 request (DER, base64).")
    if not (is_curve_ours and isinstance(key, ec.EllipticCurvePublicKey)):
        return _not_usable("Its key is not P-256.")
    if not is_proven:
        return _not_usable("Its signature does not fit its key.")
    said = [serial.value for serial in serials]
    if len(said) > 1 or not all(_is_serial(each) for each in said):
        return _not_usable("It has more than one serial number, or one that is none.")
    return Requested(key, public_key_to_text(key), str(said[0]) if said else None)


def _is_serial(said: str | bytes) -> bool:
    return isinstance(said, str) and said.isprintable() and 1 <= len(said) <= SERIAL_CHARS_MAX


def _not_usable(why: str) -> Refusal:
    return Refusal(
        Code.CSR_NOT_USABLE,
        f"The certificate request cannot be used. {why}",
        "Ask /.well-known/est/csrattrs what one needs, and make it anew.",
    )
