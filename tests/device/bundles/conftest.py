import datetime as dt
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Papers:
    certificate: Path
    key: Path


def a_certificate(folder: Path) -> Papers:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cloud")])
    begins = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + dt.timedelta(days=36500))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    folder.mkdir()
    papers = Papers(folder / "certificate.pem", folder / "key.pem")
    papers.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    papers.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return papers


@pytest.fixture(scope="session")
def cloud_papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return a_certificate(tmp_path_factory.mktemp("cloud") / "papers")


@pytest.fixture(scope="session")
def other_papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return a_certificate(tmp_path_factory.mktemp("other") / "papers")
