"""What a broker shows and trusts, read and judged: certificate, key, authority, revocation list."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from provisioning.authority.refusals import Refusal
from provisioning.broker.refusals import (
    CrlNotOurs,
    KeyDoesNotFit,
    NotAServers,
    NotInTime,
    NotReadable,
)


@dataclass(frozen=True, slots=True)
class Sources:
    """The files that a broker's folder is filled from, or those that are in it."""

    chain: Path
    crl: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Papers:
    """The same, read."""

    authorities: Sequence[x509.Certificate]
    crl: x509.CertificateRevocationList
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def crl_ends_at(self) -> datetime:
        ends_at = self.crl.next_update_utc
        assert ends_at is not None, "`read_papers` takes no list without an end"
        return ends_at


def read_papers(sources: Sources) -> Papers | NotReadable:
    """Raises OSError where a file cannot be read."""
    authorities = read_chain(sources.chain.read_bytes())
    if not authorities:
        return NotReadable(sources.chain, "no PEM certificates")
    crl = read_crl(sources.crl.read_bytes())
    if crl is None:
        return NotReadable(sources.crl, "no PEM revocation list with a number and an end")
    shown = read_chain(sources.certificate.read_bytes())
    if not shown:
        return NotReadable(sources.certificate, "no PEM certificate")
    try:
        key = serialization.load_pem_private_key(sources.key.read_bytes(), None)
    except (ValueError, TypeError):
        return NotReadable(sources.key, "no unencrypted PEM key")
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return NotReadable(sources.key, "no elliptic-curve key")
    return Papers(authorities, crl, shown[0], key)


def refusals_of(papers: Papers, sources: Sources, now: datetime) -> list[Refusal]:
    """All that is wrong with a broker's papers; with any of it nobody would come in."""
    refused: list[Refusal] = []
    if papers.key.public_key() != papers.certificate.public_key():
        refused.append(KeyDoesNotFit(sources.key, sources.certificate))
    if not _is_servers(papers.certificate):
        refused.append(NotAServers(sources.certificate))
    if papers.certificate.not_valid_after_utc <= now:
        ended = f"{papers.certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        refused.append(
            NotInTime(
                sources.certificate,
                f"expired at {ended}: no client connects until `railtix-ops ca issue server` "
                "and `railtix-ops broker config` have run",
            )
        )
    if not signed_by_one_of(papers.authorities, papers.crl):
        refused.append(CrlNotOurs(sources.crl))
    if papers.crl_ends_at <= now:
        refused.append(
            NotInTime(
                sources.crl,
                f"expired at {papers.crl_ends_at:%Y-%m-%d %H:%M} UTC: mosquitto refuses every "
                "client until `railtix-ops ca crl` and `railtix-ops broker crl` have run",
            )
        )
    return refused


def read_chain(pem: bytes) -> list[x509.Certificate]:
    """The certificates of a PEM file; none where it holds none."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        return []


def read_crl(pem: bytes) -> x509.CertificateRevocationList | None:
    """A list that says its number and its end; mosquitto would refuse everybody by another."""
    try:
        crl = x509.load_pem_x509_crl(pem)
        crl_number(crl)
    except (ValueError, x509.ExtensionNotFound):
        return None
    return crl if crl.next_update_utc is not None else None


def crl_number(crl: x509.CertificateRevocationList) -> int:
    """Raises ExtensionNotFound."""
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def signed_by_one_of(
    authorities: Sequence[x509.Certificate], crl: x509.CertificateRevocationList
) -> bool:
    keys = [authority.public_key() for authority in authorities]
    return any(
        crl.is_signature_valid(key) for key in keys if isinstance(key, ec.EllipticCurvePublicKey)
    )


def _is_servers(certificate: x509.Certificate) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        return False
    return ExtendedKeyUsageOID.SERVER_AUTH in usage.value
