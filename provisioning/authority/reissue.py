"""A new issuing certificate from the offline root: the appliances, which trust the root, stay."""

from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from provisioning.authority import certificates
from provisioning.authority.certificates import Constraints, Signer
from provisioning.authority.folder import (
    CHAIN,
    ISSUING_CERTIFICATE,
    ISSUING_KEY,
    ROOT_CERTIFICATE,
    Authority,
    keep_key,
    locked,
    new_key,
    pem_of,
)
from provisioning.authority.passphrase import ISSUING_FILE, Passphrase
from provisioning.authority.refusals import NotFounded, NotTheRoot, WrongRootPassphrase
from provisioning.authority.register import Reason
from provisioning.files import write_atomically


@dataclass(frozen=True, slots=True)
class OfflineRoot:
    """Where the root's key is just now, and what opens it."""

    key: Path
    passphrase: Passphrase


def reissue(
    folder: Path, offline: OfflineRoot, given: Passphrase | None, now: datetime
) -> Authority | NotFounded | NotTheRoot | WrongRootPassphrase:
    """Replace the issuing key, its certificate and the CRL: it was stolen, or nobody can open it.

    Nothing of what the old one certified counts any more: all of it is revoked, and a broker that
    is given the new CRL refuses it. Should the power go before the end, do it again. Raises
    OSError.
    """
    root = _open_root(folder, offline)
    if not isinstance(root, Signer):
        return root
    key = new_key()
    with locked(folder):
        constraints = _constraints(folder)
        issuing = certificates.issuing_certificate(
            key.public_key(), root, constraints, x509.random_serial_number(), now
        )
        if given is not None:
            (folder / ISSUING_FILE).unlink(missing_ok=True)
        keep_key(folder, ISSUING_KEY, ISSUING_FILE, key, given)
        _keep_certificate(folder, issuing, root.certificate)
    authority = Authority(folder, Signer(issuing, key))
    authority.revoke_all(Reason.KEY_COMPROMISE, now)
    return authority


def prolong(
    folder: Path, offline: OfflineRoot, now: datetime
) -> x509.Certificate | NotFounded | NotTheRoot | WrongRootPassphrase:
    """Certify the issuing key for another five years: all that it signed stays good.

    Raises OSError.
    """
    root = _open_root(folder, offline)
    if not isinstance(root, Signer):
        return root
    with locked(folder):
        current = _issuing(folder)
        key = current.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey), "we only ever write P-256 keys"
        issuing = certificates.issuing_certificate(
            key, root, _constraints(folder), x509.random_serial_number(), now
        )
        _keep_certificate(folder, issuing, root.certificate)
    return issuing


def _open_root(
    folder: Path, offline: OfflineRoot
) -> Signer | NotFounded | NotTheRoot | WrongRootPassphrase:
    if not (folder / ROOT_CERTIFICATE).exists():
        return NotFounded(folder)
    certificate = x509.load_pem_x509_certificate((folder / ROOT_CERTIFICATE).read_bytes())
    try:
        key = serialization.load_pem_private_key(
            offline.key.read_bytes(), offline.passphrase.encoded()
        )
    except (ValueError, TypeError):
        return WrongRootPassphrase(offline.key)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return NotTheRoot(offline.key)
    if key.public_key() != certificate.public_key():
        return NotTheRoot(offline.key)
    return Signer(certificate, key)


def _issuing(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / ISSUING_CERTIFICATE).read_bytes())


def _constraints(folder: Path) -> Constraints:
    """What the issuing certificate may certify: the next one may no more than that."""
    names = _issuing(folder).extensions.get_extension_for_class(x509.NameConstraints).value
    permitted = names.permitted_subtrees or []
    networks = [name.value for name in permitted if isinstance(name, x509.IPAddress)]
    return Constraints(
        dns=tuple(name.value for name in permitted if isinstance(name, x509.DNSName)),
        ips=tuple(
            network for network in networks if isinstance(network, IPv4Network | IPv6Network)
        ),
    )


def _keep_certificate(folder: Path, issuing: x509.Certificate, root: x509.Certificate) -> None:
    write_atomically(folder / ISSUING_CERTIFICATE, pem_of(issuing))
    write_atomically(folder / CHAIN, pem_of(issuing) + pem_of(root))
