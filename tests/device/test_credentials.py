from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from device.credentials import FOLDER, CredentialsError, load
from protocol.signing import thumbprint
from tests.device.stage import DEVICE
from venue.servers import Credentials


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def self_signed(key: ec.EllipticCurvePrivateKey, *names: str) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each) for each in names])
    begins = datetime(2026, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=90))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM)


def test_an_enrolled_appliance_knows_who_it_is_and_whom_it_believes(
    state: Path, device: Credentials
) -> None:
    credentials = load(state)
    certificate = x509.load_pem_x509_certificate(device.certificate.read_bytes())
    assert credentials.device_id == DEVICE
    assert credentials.thumbprint == thumbprint(certificate.public_bytes(Encoding.DER))
    assert credentials.expires_at == certificate.not_valid_after_utc
    assert [each.kid for each in credentials.policy_keys] == ["policy-1"]
    assert credentials.tls_context().get_ca_certs()
    assert "key=" not in repr(credentials)


@pytest.mark.parametrize("name", ["key.pem", "certificate.pem", "ca.pem", "trust.json"])
def test_a_missing_file_is_named(state: Path, name: str) -> None:
    (state / FOLDER / name).unlink()
    with pytest.raises(CredentialsError, match=name):
        load(state)


@pytest.mark.parametrize("name", ["key.pem", "certificate.pem", "trust.json"])
def test_a_file_of_nonsense_is_named(state: Path, name: str) -> None:
    (state / FOLDER / name).write_bytes(b"nonsense")
    with pytest.raises(CredentialsError, match=name):
        load(state)


def test_an_authority_of_nonsense_is_named(state: Path) -> None:
    (state / FOLDER / "ca.pem").write_bytes(b"nonsense")
    with pytest.raises(CredentialsError, match=FOLDER):
        load(state).tls_context()


@pytest.mark.parametrize(
    "key",
    [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())],
    ids=["RSA", "P-384"],
)
def test_only_a_p256_key_will_do(
    state: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
) -> None:
    (state / FOLDER / "key.pem").write_bytes(pem(key))
    with pytest.raises(CredentialsError, match="no P-256 key"):
        load(state)


def test_a_key_that_others_may_read_is_refused(state: Path) -> None:
    (state / FOLDER / "key.pem").chmod(0o640)
    with pytest.raises(CredentialsError, match="chmod 600"):
        load(state)


def test_another_appliances_certificate_is_refused(state: Path) -> None:
    other = self_signed(ec.generate_private_key(ec.SECP256R1()), DEVICE)
    (state / FOLDER / "certificate.pem").write_bytes(other)
    with pytest.raises(CredentialsError, match=r"is not for key\.pem"):
        load(state)


@pytest.mark.parametrize("names", [(), ("Not a slug",), ("till-1", "till-2"), ("../etc",)])
def test_a_certificate_without_one_good_name_is_refused(state: Path, names: tuple[str]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (state / FOLDER / "key.pem").write_bytes(pem(key))
    (state / FOLDER / "certificate.pem").write_bytes(self_signed(key, *names))
    with pytest.raises(CredentialsError, match="no device id"):
        load(state)


@pytest.mark.parametrize(
    "trust", ['{"policy_keys": []}', '{"policy_keys": [{"kid": "a", "spki": "AAAA"}]}', "{}"]
)
def test_a_trust_file_must_hold_keys(state: Path, trust: str) -> None:
    (state / FOLDER / "trust.json").write_text(trust)
    with pytest.raises(CredentialsError, match=r"trust\.json"):
        load(state)
