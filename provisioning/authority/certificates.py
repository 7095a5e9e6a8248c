"""Certificates and revocation lists, built and signed: keys, serials and times come in."""

import base64
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, TypeAlias, assert_never

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocol.ids import is_slug
from provisioning.authority.refusals import NameNotAllowed

ORGANISATION: Final = "RailTix Credits"
WORKER_PREFIX: Final = "cloud-worker-"
"""What the common name of every cloud worker starts with, and no appliance's may."""

ROOT_LIFETIME: Final = timedelta(days=20 * 365)
ISSUING_LIFETIME: Final = timedelta(days=5 * 365)
CLIENT_LIFETIME: Final = timedelta(days=90)
SERVER_LIFETIME: Final = timedelta(days=365)
TAKEOVER_LIFETIME: Final = timedelta(hours=1)
CRL_LIFETIME: Final = timedelta(days=7)
BACKDATED: Final = timedelta(hours=1)
"""Validity starts this much early: a broker whose clock lags must not lock every appliance out."""

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_DNS_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
)


class Kind(StrEnum):
    """What a certificate is for."""

    DEVICE = "device"
    WORKER = "worker"
    SERVER = "server"
    TAKEOVER = "takeover"


@dataclass(frozen=True, slots=True)
class Device:
    """An appliance: its common name is its id in every topic."""

    device_id: str


@dataclass(frozen=True, slots=True)
class Worker:
    """A cloud worker: its common name is `cloud-worker-` and its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Server:
    """The broker or the API, under every name and address its clients call it by."""

    dns: tuple[str, ...] = ()
    ips: tuple[IpAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class Takeover:
    """Who ends a revoked appliance's session at the broker: named like it, for an hour."""

    device_id: str


Holder: TypeAlias = Device | Worker | Server | Takeover


@dataclass(frozen=True, slots=True)
class Signer:
    """An authority's certificate and the key that signs for it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class Constraints:
    """The names that the issuing certificate may certify for servers; empty permits any."""

    dns: tuple[str, ...] = ()
    ips: tuple[IpNetwork, ...] = ()


@dataclass(frozen=True, slots=True)
class Revocation:
    """One line of a revocation list."""

    serial: int
    revoked_at: datetime
    reason: x509.ReasonFlags


def common_name(holder: Holder) -> str:
    """The name that mosquitto takes as user name and client id."""
    match holder:
        case Device(device_id) | Takeover(device_id):
            return device_id
        case Worker(name):
            return f"{WORKER_PREFIX}{name}"
        case Server(dns, ips):
            return dns[0] if dns else str(ips[0]) if ips else ""
        case _:
            assert_never(holder)


def kind_of(holder: Holder) -> Kind:
    match holder:
        case Device():
            return Kind.DEVICE
        case Worker():
            return Kind.WORKER
        case Server():
            return Kind.SERVER
        case Takeover():
            return Kind.TAKEOVER
        case _:
            assert_never(holder)


def refuse_name(holder: Holder) -> NameNotAllowed | None:
    """Why `holder` may not be certified under its name, or None where it may.

    An appliance named like a worker would inherit the worker's rights at the broker.
    """
    name = common_name(holder)
    match holder:
        case Device() | Takeover() if name.startswith(WORKER_PREFIX):
            return NameNotAllowed(name, f"names in {WORKER_PREFIX}* are the cloud workers'")
        case Device() | Worker() | Takeover() if not is_slug(name):
            return NameNotAllowed(name, "1 to 40 of a-z, 0-9 and inner hyphens")
        case Server(dns, ips) if not dns and not ips:
            return NameNotAllowed(name, "a server needs at least one DNS name or IP address")
        case Server(dns, _):
            for dns_name in dns:
                if not is_dns_name(dns_name):
                    return NameNotAllowed(dns_name, "not a DNS name in lower case")
            return None
        case Device() | Worker() | Takeover():
            return None
        case _:
            assert_never(holder)


def refuse_place(server: Server, issuer: Signer) -> NameNotAllowed | None:
    """Why the issuing certificate's name constraints rule `server` out, or None.

    A certificate outside them could be signed, but no client would take it.
    """
    permitted = (
        issuer.certificate.extensions.get_extension_for_class(
            x509.NameConstraints
        ).value.permitted_subtrees
        or []
    )
    domains = [name.value for name in permitted if isinstance(name, x509.DNSName)]
    networks = [name.value for name in permitted if isinstance(name, x509.IPAddress)]
    for name in server.dns:
        if domains and not any(f".{name}".endswith(f".{domain}") for domain in domains):
            return NameNotAllowed(name, f"the authority certifies {', '.join(domains)} only")
    for address in server.ips:
        if networks and not any(_within(address, network) for network in networks):
            permitted_text = ", ".join(str(network) for network in networks)
            return NameNotAllowed(str(address), f"the authority certifies {permitted_text} only")
    return None


def is_dns_name(text: str) -> bool:
    return _DNS_NAME.fullmatch(text) is not None


def root_certificate(
    key: ec.EllipticCurvePrivateKey, serial: int, now: datetime
) -> x509.Certificate:
    """The self-signed root: signs issuing certificates and nothing else."""
    name = _name(f"{ORGANISATION} Root")
    return (
        _draft(name, name, key.public_key(), serial)
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + ROOT_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def issuing_certificate(
    key: ec.EllipticCurvePublicKey,
    root: Signer,
    constraints: Constraints,
    serial: int,
    now: datetime,
) -> x509.Certificate:
    """The issuing certificate: signs leaves only, of our organisation only (RFC 5280, 4.2.1.10)."""
    permitted: list[x509.GeneralName] = [x509.DirectoryName(_organisation())]
    permitted += [x509.DNSName(name) for name in constraints.dns]
    permitted += [x509.IPAddress(network) for network in constraints.ips]
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    return (
        _draft(_name(f"{ORGANISATION} Issuing"), root.certificate.subject, key, serial)
        .not_valid_before(now - BACKDATED)
        .not_valid_after(min(now + ISSUING_LIFETIME, root.certificate.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
        .add_extension(_issued_by(root), critical=False)
        .sign(root.key, hashes.SHA256())
    )


def leaf_certificate(
    holder: Holder,
    key: ec.EllipticCurvePublicKey,
    issuer: Signer,
    serial: int,
    now: datetime,
) -> x509.Certificate:
    """A leaf's certificate, by what its holder is; it never outlives its issuer."""
    assert refuse_name(holder) is None, "a refused name reached the signature"
    purpose, lifetime = _purpose(holder)
    draft = (
        _draft(_name(common_name(holder)), issuer.certificate.subject, key, serial)
        .not_valid_before(now - BACKDATED)
        .not_valid_after(min(now + lifetime, issuer.certificate.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(_issued_by(issuer), critical=False)
    )
    if isinstance(holder, Server):
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in holder.dns]
        names += [x509.IPAddress(address) for address in holder.ips]
        draft = draft.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return draft.sign(issuer.key, hashes.SHA256())


def revocation_list(
    issuer: Signer, revocations: Iterable[Revocation], number: int, now: datetime
) -> x509.CertificateRevocationList:
    """The list a broker checks; once its 7 days are over the broker locks every appliance out."""
    draft = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now - BACKDATED)
        .next_update(now + CRL_LIFETIME)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_issued_by(issuer), critical=False)
    )
    for revocation in revocations:
        line = (
            x509.RevokedCertificateBuilder()
            .serial_number(revocation.serial)
            .revocation_date(revocation.revoked_at)
        )
        # RFC 5280, 5.3.1: an unspecified reason is left out.
        if revocation.reason is not x509.ReasonFlags.unspecified:
            line = line.add_extension(x509.CRLReason(revocation.reason), critical=False)
        draft = draft.add_revoked_certificate(line.build())
    return draft.sign(issuer.key, hashes.SHA256())


def thumbprint(certificate: x509.Certificate) -> str:
    """The certificate's `x5t#S256` (RFC 7515, 4.1.8): base64url SHA-256 of its DER."""
    digest = certificate.fingerprint(hashes.SHA256())
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _draft(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, serial: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _purpose(holder: Holder) -> tuple[x509.ObjectIdentifier, timedelta]:
    match holder:
        case Server():
            return ExtendedKeyUsageOID.SERVER_AUTH, SERVER_LIFETIME
        case Device() | Worker():
            return ExtendedKeyUsageOID.CLIENT_AUTH, CLIENT_LIFETIME
        case Takeover():
            return ExtendedKeyUsageOID.CLIENT_AUTH, TAKEOVER_LIFETIME
        case _:
            assert_never(holder)


def _organisation() -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION)])


def _name(text: str) -> x509.Name:
    return x509.Name([*_organisation(), x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _issued_by(issuer: Signer) -> x509.AuthorityKeyIdentifier:
    subject_key = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject_key.value)


def _within(address: IpAddress, network: IpAddress | IpNetwork) -> bool:
    assert isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network), "RFC 5280, 4.2.1.10"
    return address in network


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
