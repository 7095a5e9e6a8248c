"""Who this appliance is, and whom it believes: the folder that `railtix-ops ca issue` writes."""

import ssl
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from protocol.ids import DeviceId, is_slug
from protocol.policy import NamedKey
from protocol.signing import PrivateKey, thumbprint

FOLDER: Final = "identity"
KEY_FILE: Final = "key.pem"
CERTIFICATE_FILE: Final = "certificate.pem"
AUTHORITY_FILE: Final = "ca.pem"
TRUST_FILE: Final = "trust.json"


class CredentialsError(Exception):
    """The appliance cannot say who it is; the message names the file and what is wrong with it."""


class _Trust(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    policy_keys: Annotated[tuple[NamedKey, ...], msgspec.Meta(min_length=1)]


@dataclass(frozen=True)
class Credentials:
    """An appliance's identity, checked: the key belongs to the certificate, the name is a slug."""

    device_id: DeviceId
    key: PrivateKey = field(repr=False)
    thumbprint: str
    """`x5t#S256` of the certificate: what every request is signed under."""
    expires_at: datetime
    policy_keys: tuple[NamedKey, ...]
    """Whose policies are believed; every other key comes in a policy."""
    folder: Path

    def tls_context(self) -> ssl.SSLContext:
        """TLS 1.2 or later, our authority alone, our certificate. Raises CredentialsError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(self.folder / AUTHORITY_FILE)
            context.load_cert_chain(self.folder / CERTIFICATE_FILE, self.folder / KEY_FILE)
        except (OSError, ssl.SSLError) as error:
            raise CredentialsError(f"{self.folder}: {error}") from error
        return context


def load(state: Path) -> Credentials:
    """Read and check the identity under an appliance's state. Raises CredentialsError."""
    folder = state / FOLDER
    key = _key(folder / KEY_FILE)
    certificate = _certificate(folder / CERTIFICATE_FILE)
    if certificate.public_key() != key.public_key():
        raise CredentialsError(f"{folder / CERTIFICATE_FILE} is not for {KEY_FILE}")
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(names[0].value) if len(names) == 1 else ""
    if not is_slug(name):
        raise CredentialsError(f"{folder / CERTIFICATE_FILE} has no device id as its common name")
    if not (folder / AUTHORITY_FILE).is_file():
        raise CredentialsError(f"{folder / AUTHORITY_FILE} is missing")
    return Credentials(
        device_id=DeviceId(name),
        key=key,
        thumbprint=thumbprint(certificate.public_bytes(Encoding.DER)),
        expires_at=certificate.not_valid_after_utc,
        policy_keys=_trust(folder / TRUST_FILE).policy_keys,
        folder=folder,
    )


def _key(path: Path) -> PrivateKey:
    raw = _read(path)
    if path.stat().st_mode & 0o077:
        raise CredentialsError(f"{path} is open to others: chmod 600")
    try:
        key = load_pem_private_key(raw, None)
    except (ValueError, TypeError) as error:
        raise CredentialsError(f"{path} is no unencrypted PEM key") from error
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise CredentialsError(f"{path} is no P-256 key")


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_read(path))
    except ValueError as error:
        raise CredentialsError(f"{path} is no PEM certificate") from error


def _trust(path: Path) -> _Trust:
    try:
        return msgspec.json.decode(_read(path), type=_Trust)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise CredentialsError(f"{path}: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CredentialsError(f"{path}: {error.strerror}") from error
