import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from device.credentials import CREDENTIAL, FOLDER, CredentialsError, load, load_identity
from device.settings import KeySettings
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


SEALED = KeySettings(kind="credential")


def systemd_creds(tmp_path: Path, *arguments: str | Path) -> bytes:
    """The real one, sealing to a secret of this test's instead of this machine's."""
    ended = subprocess.run(
        ["systemd-creds", *map(str, arguments)],
        env={"PATH": "/usr/bin:/bin", "SYSTEMD_CREDENTIAL_SECRET": str(tmp_path / "host.secret")},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr.decode()
    return ended.stdout


@pytest.fixture
def unsealed(state: Path, tmp_path: Path) -> Path:
    """What systemd does: the key sealed by systemd-creds, and unsealed into a folder of its own.

    The key is then nowhere else.
    """
    key = state / FOLDER / "key.pem"
    sealed = tmp_path / CREDENTIAL
    name = f"--name={CREDENTIAL}"
    systemd_creds(tmp_path, "encrypt", "--with-key=host", name, key, sealed)
    assert b"PRIVATE KEY" not in sealed.read_bytes()
    key.unlink()
    folder = tmp_path / "credentials"
    folder.mkdir(mode=0o700)
    # As systemd does it: root's file, and an access list that shows as the group's right to read.
    (folder / CREDENTIAL).write_bytes(systemd_creds(tmp_path, "decrypt", name, sealed, "-"))
    (folder / CREDENTIAL).chmod(0o440)
    return folder


def test_a_sealed_key_signs_and_connects_and_is_copied_nowhere(
    state: Path, device: Credentials, unsealed: Path
) -> None:
    credentials = load(state, SEALED, {"CREDENTIALS_DIRECTORY": str(unsealed)})
    certificate = x509.load_pem_x509_certificate(device.certificate.read_bytes())
    assert credentials.key.public_key() == certificate.public_key()
    assert credentials.tls_context().get_ca_certs()
    files = [path for path in state.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if b"PRIVATE" in path.read_bytes()] == []


def test_a_credential_sealed_under_another_name_is_not_unsealed(
    state: Path, tmp_path: Path
) -> None:
    key, sealed = state / FOLDER / "key.pem", tmp_path / "other"
    systemd_creds(tmp_path, "encrypt", "--with-key=host", "--name=other", key, sealed)
    with pytest.raises(AssertionError, match="name"):
        systemd_creds(tmp_path, "decrypt", f"--name={CREDENTIAL}", sealed, "-")


def test_without_its_key_an_appliance_still_says_who_it_is(state: Path, unsealed: Path) -> None:
    assert load_identity(state).device_id == DEVICE
    assert (
        load_identity(state).thumbprint
        == load(state, SEALED, {"CREDENTIALS_DIRECTORY": str(unsealed)}).thumbprint
    )


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (None, r"railtix-key is not there, and no \$CREDENTIALS_DIRECTORY: .* by systemd alone"),
        ("empty", r"railtix-key: No such file.*needs LoadCredentialEncrypted=railtix-key"),
    ],
)
def test_a_missing_credential_says_what_to_do_next(
    state: Path, tmp_path: Path, named: str | None, said: str
) -> None:
    environment = {} if named is None else {"CREDENTIALS_DIRECTORY": str(tmp_path / named)}
    with pytest.raises(CredentialsError, match=said):
        load(state, SEALED, environment)


def test_a_credential_of_nonsense_says_what_to_do_next(state: Path, unsealed: Path) -> None:
    (unsealed / CREDENTIAL).chmod(0o600)
    (unsealed / CREDENTIAL).write_bytes(b"nonsense")
    with pytest.raises(CredentialsError, match="railtix-key is no unencrypted PEM key: seal"):
        load(state, SEALED, {"CREDENTIALS_DIRECTORY": str(unsealed)})


def test_an_appliance_that_was_never_enrolled_says_what_to_do_next(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match=r"key\.pem: No such file.*copy the folder"):
        load(tmp_path)
