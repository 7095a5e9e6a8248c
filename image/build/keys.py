"""Development keys for bundles: an authority of this checkout's own, never for a release."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# An appliance's clock may stand at its image's build time: the certificates are older than any.
_FROM = datetime(2024, 1, 1, tzinfo=UTC)
_TO = datetime(2049, 12, 31, tzinfo=UTC)


@dataclass(frozen=True)
class SigningKeys:
    """Files, or a PKCS#11 URI for the key; `keyring` is what an image believes."""

    key: str
    certificate: str
    keyring: Path


def development(folder: Path) -> SigningKeys:
    """The keys in this folder, made where they are not there yet."""
    keys = SigningKeys(
        str(folder / "signing.key.pem"), str(folder / "signing.cert.pem"), folder / "keyring.pem"
    )
    if not keys.keyring.exists():
        _make(folder, keys)
    return keys


def _make(folder: Path, keys: SigningKeys) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    signing_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = _name("RailTix bundles, development authority")
    authority = (
        _certificate(authority_name, authority_name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    certificate = (
        _certificate(
            _name("RailTix bundles, development signer"), authority_name, signing_key.public_key()
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(signing_key.public_key()), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )
    _write(folder / "authority.key.pem", _pem(authority_key), secret=True)
    _write(Path(keys.key), _pem(signing_key), secret=True)
    _write(Path(keys.certificate), certificate.public_bytes(serialization.Encoding.PEM))
    # Last: where it is there, everything is.
    _write(keys.keyring, authority.public_bytes(serialization.Encoding.PEM))


def _certificate(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FROM)
        .not_valid_after(_TO)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes, *, secret: bool = False) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600 if secret else 0o644)
    unfinished.write_bytes(content)
    unfinished.rename(path)
