"""The three files a client or a server identifies itself with: key, certificate, trusted root."""

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from provisioning.authority.folder import Issued, new_key
from provisioning.authority.refusals import RequestNotUsable
from provisioning.files import PRIVATE, write_atomically


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where one holder's files are; the key is unencrypted and readable by its owner alone."""

    folder: Path

    @property
    def key(self) -> Path:
        return self.folder / "key.pem"

    @property
    def certificate(self) -> Path:
        """The holder's certificate, then the issuing one."""
        return self.folder / "certificate.pem"

    @property
    def ca(self) -> Path:
        """The root: what the holder trusts."""
        return self.folder / "ca.pem"

    def own_key(self) -> ec.EllipticCurvePrivateKey | RequestNotUsable:
        """The key that is there already, so that running twice renews; else a new one."""
        if not self.key.exists():
            key = new_key()
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            plain = key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            write_atomically(self.key, plain, PRIVATE)
            return key
        try:
            found = serialization.load_pem_private_key(self.key.read_bytes(), None)
        except (ValueError, TypeError):
            return RequestNotUsable(f"{self.key} is there but is no unencrypted PEM key")
        if isinstance(found, ec.EllipticCurvePrivateKey):
            return found
        return RequestNotUsable(f"{self.key} is there but is no elliptic-curve key")

    def keep(self, issued: Issued) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self.ca, issued.root_pem)
        write_atomically(self.certificate, issued.chain_pem)


def requested_key(request_pem: bytes) -> ec.EllipticCurvePublicKey | RequestNotUsable:
    """The public key of a PKCS #10 request that proves possession of its private half.

    Only the key is taken: the authority names the holder, never the request.
    """
    try:
        request = x509.load_pem_x509_csr(request_pem)
        key, is_proven = request.public_key(), request.is_signature_valid
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm):
        return RequestNotUsable("not a PEM certificate request")
    if not is_proven:
        return RequestNotUsable("its signature does not fit its key")
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key
    return RequestNotUsable("a P-256 key, not another kind")
