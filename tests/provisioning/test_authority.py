import ipaddress
import itertools
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from provisioning.authority.certificates import (
    Constraints,
    Device,
    Holder,
    Server,
    Worker,
    thumbprint,
)
from provisioning.authority.credentials import Credentials, requested_key
from provisioning.authority.folder import Authority, Issued, found, new_key, read_register
from provisioning.authority.passphrase import (
    Passphrase,
    find_passphrase,
    given_passphrase,
)
from provisioning.authority.refusals import (
    AlreadyFounded,
    AlreadyRevoked,
    IssuerExpired,
    NameNotAllowed,
    NotFounded,
    PassphraseExposed,
    PassphraseMissing,
    PassphraseTooShort,
    RequestNotUsable,
    UnknownCertificate,
    WrongPassphrase,
)
from provisioning.authority.register import Reason, Register

NOW = datetime.now(UTC)  # noqa: TID251 - openssl judges by the real clock
PASSPHRASE = Passphrase("a passphrase for tests")
LOOPBACK = Server(("localhost",), (ipaddress.ip_address("127.0.0.1"),))


def founded(folder: Path, constraints: Constraints | None = None) -> Authority:
    authority = found(folder, PASSPHRASE, constraints or Constraints(), NOW)
    assert isinstance(authority, Authority)
    return authority


@pytest.fixture
def own(tmp_path: Path) -> Authority:
    return founded(tmp_path / "ca")


def issued_to(authority: Authority, holder: Holder, now: datetime = NOW) -> Issued:
    issued = authority.issue(holder, new_key().public_key(), now)
    assert isinstance(issued, Issued)
    return issued


def verdict(authority: Authority, issued: Issued, purpose: str, *more: str) -> str:
    """What `openssl verify` says, the revocation list included."""
    leaf = authority.folder / "leaf.pem"
    leaf.write_bytes(issued.chain_pem)
    verified = subprocess.run(
        [
            *("openssl", "verify", "-x509_strict", "-crl_check", "-purpose", purpose, *more),
            *("-CAfile", authority.root_path, "-untrusted", authority.folder / "issuing.pem"),
            *("-CRLfile", authority.crl_path, leaf),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return verified.stdout + verified.stderr


def test_openssl_accepts_every_kind_of_certificate_for_its_purpose_alone(own: Authority) -> None:
    device = issued_to(own, Device("bar-1"))
    worker = issued_to(own, Worker("1"))
    server = issued_to(own, LOOPBACK)
    assert verdict(own, device, "sslclient").endswith("leaf.pem: OK\n")
    assert verdict(own, worker, "sslclient").endswith("leaf.pem: OK\n")
    assert verdict(own, server, "sslserver", "-verify_hostname", "localhost").endswith("OK\n")
    assert verdict(own, server, "sslserver", "-verify_ip", "127.0.0.1").endswith("OK\n")
    assert "hostname mismatch" in verdict(own, server, "sslserver", "-verify_hostname", "bar")
    for issued, wrong in ((device, "sslserver"), (worker, "sslserver"), (server, "sslclient")):
        assert "unsupported certificate purpose" in verdict(own, issued, wrong).lower() or (
            "unsuitable certificate purpose" in verdict(own, issued, wrong).lower()
        )


def test_openssl_refuses_a_revoked_certificate_and_still_accepts_its_successor(
    own: Authority,
) -> None:
    lost = issued_to(own, Device("bar-1"))
    assert isinstance(own.revoke("bar-1", Reason.KEY_COMPROMISE, NOW), Register)
    successor = issued_to(own, Device("bar-1"))
    assert "certificate revoked" in verdict(own, lost, "sslclient")
    assert verdict(own, successor, "sslclient").endswith("OK\n")


def test_openssl_refuses_an_expired_certificate_and_an_expired_list(own: Authority) -> None:
    old = issued_to(own, Device("bar-1"), NOW - timedelta(days=91))
    assert "certificate has expired" in verdict(own, old, "sslclient")
    own.publish_crl(NOW - timedelta(days=7, seconds=1))
    assert "CRL has expired" in verdict(own, issued_to(own, Device("bar-2")), "sslclient")


def test_openssl_refuses_a_certificate_of_another_authority(own: Authority, tmp_path: Path) -> None:
    foreign = founded(tmp_path / "foreign")
    said = verdict(own, issued_to(foreign, Device("bar-1")), "sslclient")
    assert "verification failed" in said


def test_openssl_refuses_what_an_appliance_would_certify_with_its_own_key(own: Authority) -> None:
    key = new_key()
    issued = own.issue(Device("bar-1"), key.public_key(), NOW)
    assert isinstance(issued, Issued)
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "RailTix Credits"),
            x509.NameAttribute(NameOID.COMMON_NAME, "cloud-worker-1"),
        ]
    )
    forged = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issued.certificate.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(hours=1))
        .not_valid_after(NOW + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = forged.public_bytes(serialization.Encoding.PEM)
    chain = own.folder / "chain-of-the-forger.pem"
    chain.write_bytes(issued.chain_pem)
    said = verdict(own, Issued(forged, pem, issued.root_pem), "sslclient", "-untrusted", str(chain))
    assert "verification failed" in said


def test_certificates_last_as_long_as_they_should_and_start_early(own: Authority) -> None:
    device = issued_to(own, Device("bar-1")).certificate
    server = issued_to(own, LOOPBACK).certificate
    whole = NOW.replace(microsecond=0)
    assert device.not_valid_after_utc == whole + timedelta(days=90)
    assert server.not_valid_after_utc == whole + timedelta(days=365)
    assert device.not_valid_before_utc == whole - timedelta(hours=1)


def test_no_certificate_outlives_its_issuer(own: Authority) -> None:
    ending = x509.load_pem_x509_certificate((own.folder / "issuing.pem").read_bytes())
    last = ending.not_valid_after_utc
    late = issued_to(own, Device("bar-1"), last - timedelta(days=1))
    assert late.certificate.not_valid_after_utc == last
    refused = own.issue(Device("bar-1"), new_key().public_key(), last)
    assert refused == IssuerExpired(last.isoformat())


def test_the_issuing_certificate_signs_leaves_of_our_organisation_only(own: Authority) -> None:
    issuing = x509.load_pem_x509_certificate((own.folder / "issuing.pem").read_bytes())
    extensions = issuing.extensions
    basic = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    names = extensions.get_extension_for_class(x509.NameConstraints)
    assert (basic.critical, basic.value.path_length) == (True, 0)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert not usage.value.digital_signature
    assert names.critical
    assert [str(name.value) for name in names.value.permitted_subtrees or []] == [
        "<Name(O=RailTix Credits)>"
    ]


def test_a_server_outside_the_permitted_names_is_refused(tmp_path: Path) -> None:
    permitted = Constraints(("railtix.example",), (ipaddress.ip_network("10.0.0.0/8"),))
    own = founded(tmp_path / "ca", permitted)
    inside = Server(("mq.railtix.example",), (ipaddress.ip_address("10.1.2.3"),))
    assert verdict(own, issued_to(own, inside), "sslserver").endswith("OK\n")
    for outside in (
        Server(("mq.evilrailtix.example",)),
        Server(("localhost",)),
        Server((), (ipaddress.ip_address("11.0.0.1"),)),
        Server((), (ipaddress.ip_address("::1"),)),
    ):
        assert isinstance(own.issue(outside, new_key().public_key(), NOW), NameNotAllowed)
    assert verdict(own, issued_to(own, Device("bar-1")), "sslclient").endswith("OK\n")


@pytest.mark.parametrize(
    "holder",
    [
        Device("cloud-worker-1"),
        Device(""),
        Device("Bar"),
        Device("bar/1"),
        Device("+"),
        Device("bar\n"),
        Device("b" * 41),
        Worker(""),
        Worker("a/b"),
        Worker("w" * 40),
        Server(),
        Server(("UPPER",)),
        Server(("localhost", "two words")),
        Server(("*.railtix.example",)),
    ],
)
def test_a_name_that_could_mean_something_else_is_never_certified(
    own: Authority, holder: Holder
) -> None:
    assert isinstance(own.issue(holder, new_key().public_key(), NOW), NameNotAllowed)
    assert read_register(own.folder).entries == ()


def test_only_p256_keys_are_certified(own: Authority) -> None:
    other = ec.generate_private_key(ec.SECP384R1()).public_key()
    assert isinstance(own.issue(Device("bar-1"), other, NOW), RequestNotUsable)


def test_the_register_knows_every_certificate_by_serial_and_thumbprint(own: Authority) -> None:
    issued = issued_to(own, Device("bar-1"))
    (entry,) = read_register(own.folder).entries
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-serial"],
        input=issued.chain_pem,
        capture_output=True,
        check=True,
    )
    assert shown.stdout.decode().strip() == f"serial={entry.serial}"
    assert entry.common_name == "bar-1"
    assert entry.thumbprint == thumbprint(issued.certificate)
    assert len(entry.thumbprint) == 43


def test_certificates_issued_at_once_are_all_remembered(own: Authority) -> None:
    devices = [Device(f"bar-{number}") for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        issued = list(pool.map(issued_to, itertools.repeat(own), devices))
    remembered = {int(entry.serial, 16) for entry in read_register(own.folder).entries}
    assert remembered == {one.certificate.serial_number for one in issued}
    assert len(remembered) == 24


def test_revoking_is_refused_for_the_unknown_and_the_already_revoked(own: Authority) -> None:
    issued_to(own, Device("bar-1"))
    assert own.revoke("bar-2", Reason.UNSPECIFIED, NOW) == UnknownCertificate("bar-2")
    assert isinstance(own.revoke("bar-1", Reason.UNSPECIFIED, NOW), Register)
    assert own.revoke("bar-1", Reason.UNSPECIFIED, NOW) == AlreadyRevoked("bar-1")


def test_one_of_two_certificates_can_be_revoked_by_its_serial(own: Authority) -> None:
    old, new = issued_to(own, Device("bar-1")), issued_to(own, Device("bar-1"))
    serial = f"{old.certificate.serial_number:040X}"
    assert isinstance(own.revoke(serial, Reason.SUPERSEDED, NOW), Register)
    crl = x509.load_pem_x509_crl(own.crl_path.read_bytes())
    assert crl.get_revoked_certificate_by_serial_number(old.certificate.serial_number) is not None
    assert crl.get_revoked_certificate_by_serial_number(new.certificate.serial_number) is None


def test_lists_are_numbered_upwards_and_good_for_seven_days(own: Authority) -> None:
    numbers: list[int] = []
    for _ in range(3):
        own.publish_crl(NOW)
        crl = x509.load_pem_x509_crl(own.crl_path.read_bytes())
        numbers.append(crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
        assert crl.next_update_utc == NOW.replace(microsecond=0) + timedelta(days=7)
    assert numbers == [2, 3, 4]


def test_an_expired_certificate_leaves_the_list(own: Authority) -> None:
    issued_to(own, Device("bar-1"))
    own.revoke("bar-1", Reason.KEY_COMPROMISE, NOW)
    assert len(x509.load_pem_x509_crl(own.crl_path.read_bytes())) == 1
    own.publish_crl(NOW + timedelta(days=90))
    assert len(x509.load_pem_x509_crl(own.crl_path.read_bytes())) == 0


def test_keys_and_register_are_for_the_owner_alone_and_keys_are_encrypted(own: Authority) -> None:
    for name in ("root/key.pem", "issuing/key.pem", "register.json"):
        path = own.folder / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(own.folder.stat().st_mode) == 0o700
    for name in ("root/key.pem", "issuing/key.pem"):
        content = (own.folder / name).read_bytes()
        assert content.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        with pytest.raises(ValueError, match=r"(?i)password|decrypt"):
            serialization.load_pem_private_key(content, b"another passphrase")


def test_the_root_can_be_carried_away(own: Authority) -> None:
    (own.folder / "root").rename(own.folder.parent / "safe")
    reopened = Authority.open(own.folder, PASSPHRASE)
    assert isinstance(reopened, Authority)
    assert verdict(reopened, issued_to(reopened, Device("bar-1")), "sslclient").endswith("OK\n")


def test_an_authority_is_founded_once_and_opened_with_its_passphrase_only(
    own: Authority, tmp_path: Path
) -> None:
    before = own.root_path.read_bytes()
    assert found(own.folder, PASSPHRASE, Constraints(), NOW) == AlreadyFounded(own.folder)
    assert own.root_path.read_bytes() == before
    wrong = Passphrase("not the passphrase")
    assert Authority.open(own.folder, wrong) == WrongPassphrase(own.folder)
    assert Authority.open(tmp_path / "none", PASSPHRASE) == NotFounded(tmp_path / "none")


def test_a_founding_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: Authority, _now: datetime) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Authority, "publish_crl", fail)
    with pytest.raises(OSError, match="No space left"):
        found(tmp_path / "ca", PASSPHRASE, Constraints(), NOW)
    assert list(tmp_path.iterdir()) == []


def test_without_a_passphrase_each_key_gets_one_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "ca"
    found(folder, None, Constraints(), NOW)
    files = [folder / "root/passphrase", folder / "issuing/passphrase"]
    assert files[0].read_text() != files[1].read_text()
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    drawn = find_passphrase(folder, None, {})
    assert isinstance(drawn, Passphrase)
    assert isinstance(Authority.open(folder, drawn), Authority)


def test_a_passphrase_is_refused_when_short_missing_or_exposed(tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.write_text("long enough for anyone\n")
    file.chmod(0o640)
    assert given_passphrase(file, {}) == PassphraseExposed(file)
    file.chmod(0o600)
    assert given_passphrase(file, {}) == Passphrase("long enough for anyone")
    variable = {"RAILTIX_CA_PASSPHRASE": "short"}
    assert given_passphrase(None, variable) == PassphraseTooShort(12)
    assert find_passphrase(tmp_path, None, {}) == PassphraseMissing(tmp_path)


def test_no_repr_shows_a_passphrase_or_a_key(own: Authority) -> None:
    assert PASSPHRASE.text not in repr(PASSPHRASE)
    assert "PrivateKey" not in repr(own._issuer)


def test_a_request_gives_its_key_only_with_proof_of_possession() -> None:
    key = new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "anything")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    pem = request.public_bytes(serialization.Encoding.PEM)
    assert requested_key(pem) == key.public_key()

    der = bytearray(request.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    spoilt = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    assert isinstance(requested_key(spoilt), RequestNotUsable)
    assert isinstance(requested_key(b"not a request"), RequestNotUsable)

    rsa_key = rsa.generate_private_key(65537, 2048)
    rsa_request = (
        x509.CertificateSigningRequestBuilder().subject_name(name).sign(rsa_key, hashes.SHA256())
    )
    rsa_pem = rsa_request.public_bytes(serialization.Encoding.PEM)
    assert isinstance(requested_key(rsa_pem), RequestNotUsable)


def test_credentials_keep_their_key_when_they_are_renewed(own: Authority, tmp_path: Path) -> None:
    credentials = Credentials(tmp_path / "bar-1")
    first = credentials.own_key()
    again = credentials.own_key()
    assert isinstance(first, ec.EllipticCurvePrivateKey)
    assert isinstance(again, ec.EllipticCurvePrivateKey)
    assert first.public_key() == again.public_key()
    assert stat.S_IMODE(credentials.key.stat().st_mode) == 0o600
    credentials.key.write_text("not a key")
    assert isinstance(credentials.own_key(), RequestNotUsable)
