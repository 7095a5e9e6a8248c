"""EST (RFC 7030) as an appliance speaks it: the root that a claim names, enrolling, renewing."""

import base64
import binascii
import hashlib
import ssl
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import NameOID

from device.enrolling.happenings import Trouble
from device.identity.exchange import Address, Answer, Failure, believing_nobody, exchange
from protocol.claim_qr import ClaimQr
from protocol.ids import DeviceId, is_slug
from protocol.named_key import NamedKey
from protocol.signing import PrivateKey

BASE: Final = "/.well-known/est"
CERTIFICATES_MAX: Final = 8
_CODES: Final = {
    each.value: each
    for each in (
        *(Trouble.CLAIM_WRONG, Trouble.CLAIM_EXPIRED, Trouble.CLAIM_USED, Trouble.CLAIM_LOCKED),
        *(Trouble.CLAIM_WITHDRAWN, Trouble.SERIAL_WRONG, Trouble.DEVICE_REVOKED),
        *(Trouble.KEY_ON_ANOTHER_DEVICE, Trouble.CSR_NOT_USABLE, Trouble.ENROLMENT_CLOSED),
    )
}
"""What the cloud's problem documents say; our own troubles are not its to tell."""


@dataclass(frozen=True)
class Issued:
    """What the cloud made of a request: the appliance's certificate, and who issued it."""

    device_id: DeviceId
    chain: tuple[x509.Certificate, ...]
    """The appliance's own first, without the root."""

    @property
    def pem(self) -> bytes:
        return b"".join(each.public_bytes(Encoding.PEM) for each in self.chain)


class BrokerAddress(msgspec.Struct, frozen=True):
    host: Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Connection(msgspec.Struct, frozen=True):
    """`GET /v1/pos/connection`: what an enrolled appliance needs besides its certificate."""

    device_id: str
    broker: BrokerAddress
    policy_keys: Annotated[tuple[NamedKey, ...], msgspec.Meta(min_length=1, max_length=8)]
    event_name: str | None = None
    stall_name: str | None = None


class _Problem(msgspec.Struct, frozen=True):
    code: str = ""


def find_root(claim: ClaimQr) -> str | Failure:
    """The root certificate (PEM) whose fingerprint the claim names, asked of whoever answers.

    RFC 7030 section 4.1.1: until then nobody is believed, so nothing is told.
    """
    address = Address(claim.host, claim.port)
    answer = exchange(address, believing_nobody(), "GET", f"{BASE}/cacerts")
    certificates = _certificates(answer, address)
    if isinstance(certificates, Failure):
        return certificates
    for each in certificates:
        der = each.public_bytes(Encoding.DER)
        if hashlib.sha256(der).digest() == claim.fingerprint:
            return each.public_bytes(Encoding.PEM).decode("ascii")
    return Failure(Trouble.WRONG_FINGERPRINT, str(address))


def request_for(key: PrivateKey, *, serial: str = "", name: str = "") -> bytes:
    """A PKCS #10 request (DER) that proves possession of the key.

    The cloud decides the name; `name` is the one that this appliance cannot do without.
    """
    named = [
        *([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []),
        *([x509.NameAttribute(NameOID.SERIAL_NUMBER, serial)] if serial else []),
    ]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(named))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


class Est:
    """The cloud's endpoints for appliances, over TLS that is verified."""

    def __init__(self, address: Address, context: ssl.SSLContext, root_pem: str) -> None:
        self.address = address
        self._context = context
        self._root = x509.load_pem_x509_certificate(root_pem.encode("ascii"))

    def enrol(self, request: bytes, claim: ClaimQr, key: PrivateKey) -> Issued | Failure:
        """`simpleenroll`: the claim's id and secret by HTTP Basic (RFC 7030 section 3.2.3)."""
        said = base64.b64encode(f"{claim.claim_id}:{claim.secret}".encode("ascii")).decode("ascii")
        return self._ask_for(request, "simpleenroll", {"Authorization": f"Basic {said}"}, key)

    def renew(self, request: bytes, key: PrivateKey) -> Issued | Failure:
        """`simplereenroll`: the certificate that is in use speaks for it (section 4.2.2)."""
        return self._ask_for(request, "simplereenroll", {}, key)

    def connection(self) -> Connection | Failure:
        """With the new certificate: where the broker is, and whose policies count."""
        answer = exchange(self.address, self._context, "GET", "/v1/pos/connection")
        if isinstance(answer, Failure) or answer.status != 200:
            return _refused(answer, self.address)
        try:
            return msgspec.json.decode(answer.body, type=Connection)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
            return Failure(Trouble.CLOUD_STRANGE, f"{self.address}: no account of the connection")

    def deliver(self, token: bytes, key: str) -> bytes | Failure:
        """A signed request over HTTPS; the signed reply, whatever it says."""
        headers = {"Content-Type": "application/jose", "Idempotency-Key": key}
        answer = exchange(
            self.address, self._context, "POST", "/v1/pos/requests", headers=headers, body=token
        )
        if isinstance(answer, Failure) or answer.status != 200:
            return _refused(answer, self.address)
        return answer.body

    def _ask_for(
        self, request: bytes, path: str, headers: dict[str, str], key: PrivateKey
    ) -> Issued | Failure:
        answer = exchange(
            self.address,
            self._context,
            "POST",
            f"{BASE}/{path}",
            headers={
                "Content-Type": "application/pkcs10",
                "Content-Transfer-Encoding": "base64",
                "Accept": "application/pkcs7-mime",
                **headers,
            },
            body=base64.encodebytes(request),
        )
        certificates = _certificates(answer, self.address)
        if isinstance(certificates, Failure):
            return certificates
        return self._issued(certificates, key)

    def _issued(
        self, certificates: tuple[x509.Certificate, ...], key: PrivateKey
    ) -> Issued | Failure:
        """Ours by its key, issued by the root that we believe, and a device's by its name."""
        other = Failure(Trouble.OTHER_CERTIFICATE, str(self.address))
        try:
            leaf = next((c for c in certificates if c.public_key() == key.public_key()), None)
        except (ValueError, UnsupportedAlgorithm):
            return other
        if leaf is None:
            return other
        names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        name = str(names[0].value) if len(names) == 1 else ""
        issuer = next((each for each in certificates if issued(each, leaf)), None)
        chain = (leaf,) if issuer is None else (leaf, issuer)
        if not is_slug(name) or not issued(self._root, chain[-1]):
            return other
        return Issued(DeviceId(name), chain)


def issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return issuer is not certificate


def _certificates(
    answer: Answer | Failure, address: Address
) -> tuple[x509.Certificate, ...] | Failure:
    """A certs-only PKCS #7 in base64 (RFC 7030 sections 4.1.3 and 4.2.3)."""
    if isinstance(answer, Failure) or answer.status != 200:
        return _refused(answer, address)
    strange = Failure(Trouble.CLOUD_STRANGE, f"{address}: no certificates")
    try:
        der = base64.b64decode(answer.body.translate(None, b"\r\n\t "), validate=True)
        found = pkcs7.load_der_pkcs7_certificates(der)
    except (binascii.Error, ValueError, TypeError, UnsupportedAlgorithm):
        return strange
    return tuple(found) if 0 < len(found) <= CERTIFICATES_MAX else strange


def _refused(answer: Answer | Failure, address: Address) -> Failure:
    if isinstance(answer, Failure):
        return answer
    try:
        code = msgspec.json.decode(answer.body, type=_Problem).code
    except (msgspec.DecodeError, UnicodeDecodeError):
        code = ""
    said = f"{address}: {answer.status}"
    if code in _CODES:
        return Failure(_CODES[code])
    if answer.status == 401:
        return Failure(Trouble.CLAIM_WRONG)
    if answer.status in {202, 429} or answer.status >= 500:
        return Failure(Trouble.CLOUD_BUSY, said)
    return Failure(Trouble.CLOUD_STRANGE, said)
