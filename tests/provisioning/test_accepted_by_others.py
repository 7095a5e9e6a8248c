"""What is signed and asked for here, read by others: openssl's own verification, and a linter.

pkilint looks at each document by RFC 5280. It finds no error, no warning and nothing to notice in
any of ours. docs/decisions/0033 says what is left of its remarks, and why.
"""

import ipaddress
import re
import subprocess
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pkilint.bin import lint_crl, lint_pkix_cert, lint_pkix_signer_signee_cert_chain

from provisioning.authority import certificates
from provisioning.authority.certificates import (
    Constraints,
    Device,
    Holder,
    Server,
    Signer,
    Takeover,
    Worker,
)
from provisioning.authority.credentials import requested_key
from provisioning.authority.folder import Authority, Issued, found, new_key
from provisioning.authority.passphrase import Passphrase
from provisioning.authority.register import Reason

NOW = datetime.now(UTC)  # noqa: TID251 - openssl judges by the real clock
PASSPHRASE = Passphrase("a passphrase for tests")
PERMITTED = Constraints(
    ("railtix.example",),
    (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")),
)
SERVER = Server(
    ("mq.railtix.example",), (ipaddress.ip_address("10.1.2.3"), ipaddress.ip_address("fd00::1"))
)
DEVICE, WORKER, TAKEOVER = Device("bar-1"), Worker("1"), Takeover("bar-1")

REMARKS = {
    "pkix.subject_key_identifier_method_1_identified": (
        "says by which of RFC 5280's methods (4.2.1.2) the identifier was made: as it should be"
    ),
}
"""All that is left at the lowest level, and why it stays."""


class Signing:
    """An authority with name constraints, and its documents as files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        authority = found(folder / "ca", PASSPHRASE, PERMITTED, NOW)
        assert isinstance(authority, Authority)
        self.authority = authority
        self.issuer = authority._issuer
        self.issuing = authority.folder / "issuing.pem"

    def issued(self, holder: Holder) -> Path:
        issued = self.authority.issue(holder, new_key().public_key(), NOW)
        assert isinstance(issued, Issued)
        return self.kept(issued.certificate)

    def kept(self, certificate: x509.Certificate) -> Path:
        path = self.folder / f"{certificate.serial_number:x}.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def revoke_some(self) -> None:
        """A list with a line for each reason that there is."""
        for number, reason in enumerate(Reason):
            self.issued(Device(f"gone-{number}"))
            self.authority.revoke(f"gone-{number}", reason, NOW)

    def by_hand(self, holder: Holder, issuer: Signer | None = None) -> x509.Certificate:
        """A certificate that our own code would refuse to ask for, rightly signed."""
        return certificates.leaf_certificate(
            holder, new_key().public_key(), issuer or self.issuer, 4711, NOW
        )


@pytest.fixture
def signing(tmp_path: Path) -> Signing:
    return Signing(tmp_path)


def openssl(*arguments: str | Path) -> str:
    said = subprocess.run(
        ["openssl", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    return said.stdout + said.stderr


def verified(signing: Signing, leaf: Path, purpose: str, *untrusted: Path) -> str:
    """By the root alone, revocation and every strict rule of RFC 5280 included."""
    shown = [part for path in (signing.issuing, *untrusted) for part in ("-untrusted", str(path))]
    return openssl(
        *("verify", "-x509_strict", "-crl_check", "-purpose", purpose),
        *("-CAfile", signing.authority.root_path, "-CRLfile", signing.authority.crl_path),
        *shown,
        leaf,
    )


@pytest.mark.parametrize(
    ("holder", "purpose", "wrong"),
    [
        (DEVICE, "sslclient", "sslserver"),
        (WORKER, "sslclient", "sslserver"),
        (TAKEOVER, "sslclient", "sslserver"),
        (SERVER, "sslserver", "sslclient"),
    ],
)
def test_openssl_accepts_each_kind_strictly_for_its_purpose_alone(
    signing: Signing, holder: Holder, purpose: str, wrong: str
) -> None:
    leaf = signing.issued(holder)
    assert verified(signing, leaf, purpose).endswith("OK\n")
    assert "purpose" in verified(signing, leaf, wrong)


def test_openssl_accepts_the_list_by_the_issuing_certificate_and_finds_who_is_on_it(
    signing: Signing, tmp_path: Path
) -> None:
    kept, lost = signing.issued(DEVICE), signing.issued(Device("bar-lost"))
    signing.revoke_some()
    signing.authority.revoke("bar-lost", Reason.KEY_COMPROMISE, NOW)
    crl = signing.authority.crl_path
    assert "verify OK" in openssl("crl", "-in", crl, "-noout", "-CAfile", signing.issuing)
    namesake = Signing(tmp_path / "namesake").issuing
    assert "verify failure" in openssl("crl", "-in", crl, "-noout", "-CAfile", namesake)
    assert "certificate revoked" in verified(signing, lost, "sslclient")
    assert verified(signing, kept, "sslclient").endswith("OK\n")
    shown = openssl("crl", "-in", crl, "-noout", "-text")
    assert shown.count("Serial Number:") == len(Reason) + 1
    for reason in ("Key Compromise", "Superseded", "Cessation Of Operation"):
        assert reason in shown


def test_openssl_accepts_a_request_made_here_and_we_take_one_made_by_openssl(
    tmp_path: Path,
) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bar-1")])
    key = new_key()
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    ours = tmp_path / "ours.csr"
    ours.write_bytes(request.public_bytes(serialization.Encoding.PEM))
    assert "verify OK" in openssl("req", "-in", ours, "-noout", "-verify")

    theirs = tmp_path / "theirs.csr"
    openssl(
        *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-keyout", tmp_path / "theirs.key", "-out", theirs, "-subj", "/CN=bar-1"),
    )
    assert isinstance(requested_key(theirs.read_bytes()), ec.EllipticCurvePublicKey)


@pytest.mark.parametrize(
    ("outside", "why"),
    [
        (Server(("mq.example.org",)), "permitted subtree violation"),
        (Server(("mq.evilrailtix.example",)), "permitted subtree violation"),
        (Server((), (ipaddress.ip_address("11.0.0.1"),)), "permitted subtree violation"),
        (Server((), (ipaddress.ip_address("2001:db8::1"),)), "permitted subtree violation"),
    ],
)
def test_openssl_refuses_a_server_outside_the_names_even_if_the_stolen_key_signed_it(
    signing: Signing, outside: Server, why: str
) -> None:
    assert why in verified(signing, signing.kept(signing.by_hand(outside)), "sslserver")


def test_openssl_refuses_another_organisation_of_the_stolen_keys(signing: Signing) -> None:
    key = new_key()
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Somebody Else"),
            x509.NameAttribute(NameOID.COMMON_NAME, "bar-1"),
        ]
    )
    leaf = (
        _draft(name, signing.issuer, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(signing.issuer.key, hashes.SHA256())
    )
    assert "permitted subtree violation" in verified(signing, signing.kept(leaf), "sslclient")


def test_openssl_refuses_what_an_authority_below_the_issuing_one_would_certify(
    signing: Signing,
) -> None:
    key = new_key()
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "RailTix Credits"),
            x509.NameAttribute(NameOID.COMMON_NAME, "A Rogue Authority"),
        ]
    )
    rogue = (
        _draft(name, signing.issuer, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_signs_certificates(), critical=True)
        .sign(signing.issuer.key, hashes.SHA256())
    )
    leaf = signing.kept(signing.by_hand(DEVICE, Signer(rogue, key)))
    assert "path length constraint exceeded" in openssl(
        *("verify", "-x509_strict", "-purpose", "sslclient"),
        *("-CAfile", signing.authority.root_path, "-untrusted", signing.issuing),
        *("-untrusted", signing.kept(rogue), leaf),
    )


def _draft(
    name: x509.Name, issuer: Signer, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    issuers = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(hours=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuers.value),
            critical=False,
        )
    )


def _signs_certificates() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def test_what_each_certificate_is_for_stands_in_it_critically(signing: Signing) -> None:
    root = x509.load_pem_x509_certificate(signing.authority.root_path.read_bytes())
    issuing = signing.issuer.certificate
    for authority, length in ((root, 1), (issuing, 0)):
        basic = authority.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = authority.extensions.get_extension_for_class(x509.KeyUsage)
        assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, length)
        assert (usage.critical, usage.value) == (True, _signs_certificates())
    assert issuing.extensions.get_extension_for_class(x509.NameConstraints).critical
    for holder, purpose in (
        (DEVICE, ExtendedKeyUsageOID.CLIENT_AUTH),
        (WORKER, ExtendedKeyUsageOID.CLIENT_AUTH),
        (SERVER, ExtendedKeyUsageOID.SERVER_AUTH),
    ):
        leaf = signing.by_hand(holder)
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
        purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        assert usage.critical
        assert usage.value.digital_signature
        assert not usage.value.key_cert_sign
        assert list(purposes.value) == [purpose]


Lint = Callable[..., list[str]]


@pytest.fixture
def lint(capsys: pytest.CaptureFixture[str]) -> Lint:
    """Everything that pkilint says of a document, as codes with their level."""

    def said_of(main: Callable[[list[str]], int], *arguments: str | Path) -> list[str]:
        capsys.readouterr()
        with warnings.catch_warnings():
            # The linter leaves its files to the garbage collector.
            warnings.simplefilter("ignore", ResourceWarning)
            main(["lint", "-s", "INFO", *map(str, arguments)])
        output = capsys.readouterr().out
        return re.findall(r"^    ([\w.]+ \([A-Z]+\))", output, re.MULTILINE)

    return said_of


def _remarks() -> set[str]:
    return {f"{code} (INFO)" for code in REMARKS}


@pytest.mark.parametrize("holder", [DEVICE, WORKER, TAKEOVER, SERVER, Server((), SERVER.ips)])
def test_the_linter_finds_nothing_in_what_we_issue(
    signing: Signing, lint: Lint, holder: Holder
) -> None:
    leaf = signing.issued(holder)
    assert set(lint(lint_pkix_cert.main, leaf)) <= _remarks()
    assert set(lint(lint_pkix_signer_signee_cert_chain.main, signing.issuing, leaf)) <= _remarks()


def test_the_linter_finds_nothing_in_root_and_issuing_certificate(
    signing: Signing, lint: Lint
) -> None:
    root = signing.authority.root_path
    for certificate in (root, signing.issuing):
        assert set(lint(lint_pkix_cert.main, certificate)) <= _remarks()
    assert set(lint(lint_pkix_signer_signee_cert_chain.main, root, signing.issuing)) <= _remarks()


def test_the_linter_finds_nothing_in_the_list_empty_or_full(signing: Signing, lint: Lint) -> None:
    arguments = ("-t", "CRL", "-p", "PKIX", signing.authority.crl_path)
    assert lint(lint_crl.main, *arguments) == []
    signing.revoke_some()
    assert lint(lint_crl.main, *arguments) == []


def test_the_linter_would_have_found_something(signing: Signing, lint: Lint) -> None:
    key = new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "DE")])
    bad = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(signing.issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=False)
        .sign(signing.issuer.key, hashes.SHA256())
    )
    assert any("(ERROR)" in each for each in lint(lint_pkix_cert.main, signing.kept(bad)))
