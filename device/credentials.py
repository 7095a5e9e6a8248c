"""Who this appliance is, and whom it believes: the folder that `railtix-ops ca issue` writes.

Its own key is a file in that folder which nobody else may read, or a systemd credential, sealed to
this machine and unsealed by systemd into memory for this program alone (systemd-creds(1)).
"""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, assert_never

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from device.settings import KeySettings
from protocol.ids import DeviceId, is_slug
from protocol.policy import NamedKey
from protocol.signing import PrivateKey, thumbprint

FOLDER: Final = "identity"
KEY_FILE: Final = "key.pem"
CERTIFICATE_FILE: Final = "certificate.pem"
AUTHORITY_FILE: Final = "ca.pem"
TRUST_FILE: Final = "trust.json"

CREDENTIAL: Final = "railtix-key"
"""The name under which the key is sealed; systemd refuses to unseal it under another."""
CREDENTIALS_OF_SERVICE: Final = Path("/run/credentials/railtix-pos.service")
"""Where root finds it while the service runs; the service itself is told in its environment."""

_IN_A_FILE: Final = KeySettings()
_NOT_ENROLLED: Final = (
    ": show a claim's code to its camera, or copy the folder of `railtix-ops ca issue device` here"
)
_NOT_SEALED: Final = (
    f": the unit needs LoadCredentialEncrypted={CREDENTIAL} (docs/appliance.md has the drop-in)"
)


class CredentialsError(Exception):
    """The appliance cannot say who it is; the message names the file, what is wrong with it, and
    what to do next."""


class NotEnrolledError(CredentialsError):
    """There is no identity at all, or what a reset that was cut off left of one."""


class _Trust(msgspec.Struct, frozen=True):
    """What a later release adds is passed over."""

    policy_keys: Annotated[tuple[NamedKey, ...], msgspec.Meta(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What everybody may know of an appliance: enough to read what it was sent."""

    device_id: DeviceId
    thumbprint: str
    """`x5t#S256` of the certificate: what every request is signed under."""
    expires_at: datetime
    begins_at: datetime | None = None
    """When its certificate's life began."""
    policy_keys: tuple[NamedKey, ...]
    """Whose policies are believed; every other key comes in a policy."""
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Credentials(Identity):
    """An identity with its key, checked: the key belongs to the certificate, the name is a slug."""

    key: PrivateKey = field(repr=False)
    key_path: Path | None = None
    """Where TLS reads it again; None: beside the certificate."""

    def tls_context(self) -> ssl.SSLContext:
        """TLS 1.2 or later, our authority alone, our certificate. Raises CredentialsError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(self.folder / AUTHORITY_FILE)
            # OpenSSL reads keys from files alone: a credential's is in memory already.
            context.load_cert_chain(
                self.folder / CERTIFICATE_FILE, self.key_path or self.folder / KEY_FILE
            )
        except (OSError, ssl.SSLError) as error:
            raise CredentialsError(f"{self.folder}: {error}") from error
        return context


def load(
    state: Path,
    keys: KeySettings = _IN_A_FILE,
    environment: Mapping[str, str] = os.environ,
) -> Credentials:
    """Read and check the identity under an appliance's state. Raises CredentialsError."""
    folder = state / FOLDER
    key_path = find_key(state, keys, environment)
    key = _key(key_path)
    certificate = _certificate(folder / CERTIFICATE_FILE)
    if certificate.public_key() != key.public_key():
        raise CredentialsError(
            f"{folder / CERTIFICATE_FILE} is not for {key_path.name}: "
            "copy both from one `railtix-ops ca issue`"
        )
    identity = _identity(folder, certificate)
    return Credentials(
        device_id=identity.device_id,
        thumbprint=identity.thumbprint,
        expires_at=identity.expires_at,
        begins_at=identity.begins_at,
        policy_keys=identity.policy_keys,
        folder=folder,
        key=key,
        key_path=key_path,
    )


def load_identity(state: Path) -> Identity:
    """The same without the key, which only the running program may have. Raises
    CredentialsError."""
    folder = state / FOLDER
    return _identity(folder, _certificate(folder / CERTIFICATE_FILE))


def sealed_key(keys: KeySettings, environment: Mapping[str, str]) -> tuple[PrivateKey, Path] | None:
    """The key that was sealed before there was a certificate for it, and where it is unsealed.

    None: the key is a file, to be made. Raises CredentialsError.
    """
    if keys.kind == "file":
        return None
    path = find_key(Path(), keys, environment)
    return _key(path), path


def find_key(state: Path, keys: KeySettings, environment: Mapping[str, str]) -> Path:
    """The file that holds the key, seen to be this appliance's alone. Raises CredentialsError."""
    match keys.kind:
        case "file":
            path = state / FOLDER / KEY_FILE
            if _mode(path) & 0o077:
                raise CredentialsError(f"{path} is open to others: chmod 600")
            return path
        case "credential":
            given = environment.get("CREDENTIALS_DIRECTORY")
            path = (Path(given) if given else CREDENTIALS_OF_SERVICE) / CREDENTIAL
            # Whom it is open to is systemd's to say: it grants this user by an access list.
            if not given and not path.exists():
                raise CredentialsError(
                    f"{path} is not there, and no $CREDENTIALS_DIRECTORY: a sealed key is unsealed "
                    "by systemd alone (docs/appliance.md has the command)"
                )
            return path
        case _:
            assert_never(keys.kind)


def _identity(folder: Path, certificate: x509.Certificate) -> Identity:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(names[0].value) if len(names) == 1 else ""
    if not is_slug(name):
        raise CredentialsError(
            f"{folder / CERTIFICATE_FILE} has no device id as its common name: "
            "is it one of `railtix-ops ca issue device`?"
        )
    if not (folder / AUTHORITY_FILE).is_file():
        raise CredentialsError(f"{folder / AUTHORITY_FILE} is missing{_NOT_ENROLLED}")
    return Identity(
        device_id=DeviceId(name),
        thumbprint=thumbprint(certificate.public_bytes(Encoding.DER)),
        expires_at=certificate.not_valid_after_utc,
        begins_at=certificate.not_valid_before_utc,
        policy_keys=_trust(folder / TRUST_FILE).policy_keys,
        folder=folder,
    )


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except FileNotFoundError as error:
        raise NotEnrolledError(f"{path}: {error.strerror}{_NOT_ENROLLED}") from error
    except OSError as error:
        raise CredentialsError(f"{path}: {error.strerror}") from error


def _key(path: Path) -> PrivateKey:
    try:
        key = load_pem_private_key(_read(path), None)
    except (ValueError, TypeError) as error:
        raise CredentialsError(
            f"{path} is no unencrypted PEM key: seal or copy the key.pem of `railtix-ops ca issue`"
        ) from error
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
    except FileNotFoundError as error:
        if path.name == CREDENTIAL:
            raise CredentialsError(f"{path}: {error.strerror}{_NOT_SEALED}") from error
        raise NotEnrolledError(f"{path}: {error.strerror}{_NOT_ENROLLED}") from error
    except OSError as error:
        raise CredentialsError(f"{path}: {error.strerror}") from error
