"""The authority at rest: a folder of encrypted keys, certificates, the register and the CRL."""

import fcntl
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from provisioning.authority import certificates
from provisioning.authority.certificates import Constraints, Holder, Server, Signer
from provisioning.authority.passphrase import ISSUING_FILE, ROOT_FILE, Passphrase, drawn_passphrase
from provisioning.authority.refusals import (
    AlreadyFounded,
    AlreadyRevoked,
    IssuerExpired,
    NameNotAllowed,
    NotFounded,
    RequestNotUsable,
    UnknownCertificate,
    WrongPassphrase,
)
from provisioning.authority.register import Reason, Register
from provisioning.files import PRIVATE, fsync_folder, write_atomically

ROOT_CERTIFICATE: Final = Path("root.pem")
ROOT_KEY: Final = Path("root/key.pem")
ISSUING_CERTIFICATE: Final = Path("issuing.pem")
ISSUING_KEY: Final = Path("issuing/key.pem")
CHAIN: Final = Path("chain.pem")
CRL: Final = Path("crl.pem")
REGISTER: Final = Path("register.json")


@dataclass(frozen=True, slots=True)
class Issued:
    """A new certificate, with what its holder needs beside it."""

    certificate: x509.Certificate
    chain_pem: bytes
    """The certificate and the issuing certificate: what the holder shows in a handshake."""
    root_pem: bytes
    """What the holder trusts."""


class Authority:
    """An open authority: its issuing key is in memory, its root key is not."""

    def __init__(self, folder: Path, issuer: Signer) -> None:
        self.folder = folder
        self._issuer = issuer

    @classmethod
    def open(
        cls, folder: Path, passphrase: Passphrase
    ) -> "Authority | NotFounded | WrongPassphrase":
        """Raises OSError where the folder is there but cannot be read."""
        if not (folder / ISSUING_KEY).exists():
            return NotFounded(folder)
        try:
            key = serialization.load_pem_private_key(
                (folder / ISSUING_KEY).read_bytes(), passphrase.encoded()
            )
        except ValueError:
            return WrongPassphrase(folder)
        assert isinstance(key, ec.EllipticCurvePrivateKey), "we only ever write P-256 keys"
        certificate = x509.load_pem_x509_certificate((folder / ISSUING_CERTIFICATE).read_bytes())
        return cls(folder, Signer(certificate, key))

    @property
    def chain_path(self) -> Path:
        """The issuing and the root certificate: what a broker trusts its clients by."""
        return self.folder / CHAIN

    @property
    def root_path(self) -> Path:
        return self.folder / ROOT_CERTIFICATE

    @property
    def crl_path(self) -> Path:
        return self.folder / CRL

    def issue(
        self, holder: Holder, key: ec.EllipticCurvePublicKey, now: datetime
    ) -> Issued | NameNotAllowed | RequestNotUsable | IssuerExpired:
        """Certify `key` for `holder`, and remember it before anyone can use it."""
        if refused := certificates.refuse_name(holder):
            return refused
        if isinstance(holder, Server) and (
            refused := certificates.refuse_place(holder, self._issuer)
        ):
            return refused
        if not isinstance(key.curve, ec.SECP256R1):
            return RequestNotUsable(f"a P-256 key, not {key.curve.name}")
        expires_at = self._issuer.certificate.not_valid_after_utc
        if expires_at <= now:
            return IssuerExpired(expires_at.isoformat())

        serial = x509.random_serial_number()
        certificate = certificates.leaf_certificate(holder, key, self._issuer, serial, now)

        with self._locked():
            self._store(read_register(self.folder).issued(holder, certificate))
        return Issued(
            certificate,
            chain_pem=_pem(certificate) + _pem(self._issuer.certificate),
            root_pem=self.root_path.read_bytes(),
        )

    def revoke(
        self, name: str, reason: Reason, now: datetime
    ) -> Register | UnknownCertificate | AlreadyRevoked:
        """Revoke every certificate with common name or serial `name`, and publish the CRL.

        Should the power go between the two, the next CRL of any kind tells of the revocation.
        """
        with self._locked():
            register = read_register(self.folder).revoked(name, reason, now)
            if isinstance(register, Register):
                self._store(register)
                self._publish(register, now)
            return register

    def publish_crl(self, now: datetime) -> None:
        """Write a fresh CRL, valid for 7 days, in the place of the old one."""
        with self._locked():
            self._publish(read_register(self.folder), now)

    def _publish(self, register: Register, now: datetime) -> None:
        # The number is stored first: a number may be skipped but is never used twice.
        register = register.listed()
        self._store(register)
        crl = certificates.revocation_list(
            self._issuer, register.revocations(now), register.crl_number, now
        )
        write_atomically(self.crl_path, crl.public_bytes(serialization.Encoding.PEM))

    def _store(self, register: Register) -> None:
        content = msgspec.json.format(msgspec.json.encode(register), indent=1)
        write_atomically(self.folder / REGISTER, content, PRIVATE)

    @contextmanager
    def _locked(self) -> Generator[None]:
        """Two commands at once take turns, or one would forget what the other issued."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def found(
    folder: Path, given: Passphrase | None, constraints: Constraints, now: datetime
) -> Authority | AlreadyFounded:
    """Draw the keys, certify them, and leave the whole folder or none.

    Without a given passphrase the root's and the issuing key each get one of their own, in a file
    beside the key: `root/` can then be carried away whole, and nothing here needs it again.
    """
    if folder.exists() and any(folder.iterdir()):
        return AlreadyFounded(folder)
    root_key, issuing_key = new_key(), new_key()
    root = Signer(
        certificates.root_certificate(root_key, x509.random_serial_number(), now), root_key
    )
    issuing = certificates.issuing_certificate(
        issuing_key.public_key(), root, constraints, x509.random_serial_number(), now
    )

    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    draft.mkdir(mode=0o700)
    try:
        (draft / ROOT_KEY).parent.mkdir(mode=0o700)
        (draft / ISSUING_KEY).parent.mkdir(mode=0o700)
        _keep_key(draft, ROOT_KEY, ROOT_FILE, root_key, given)
        _keep_key(draft, ISSUING_KEY, ISSUING_FILE, issuing_key, given)
        write_atomically(draft / ROOT_CERTIFICATE, _pem(root.certificate))
        write_atomically(draft / ISSUING_CERTIFICATE, _pem(issuing))
        write_atomically(draft / CHAIN, _pem(issuing) + _pem(root.certificate))
        write_atomically(draft / REGISTER, msgspec.json.encode(Register()), PRIVATE)
        authority = Authority(draft, Signer(issuing, issuing_key))
        authority.publish_crl(now)
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    fsync_folder(folder.parent)
    return Authority(folder, Signer(issuing, issuing_key))


def read_register(folder: Path) -> Register:
    """Raises OSError, and msgspec.ValidationError for a register that is not ours."""
    return msgspec.json.decode((folder / REGISTER).read_bytes(), type=Register)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _keep_key(
    folder: Path,
    key_file: Path,
    passphrase_file: Path,
    key: ec.EllipticCurvePrivateKey,
    given: Passphrase | None,
) -> None:
    passphrase = given or drawn_passphrase()
    if given is None:
        write_atomically(folder / passphrase_file, passphrase.encoded() + b"\n", PRIVATE)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase.encoded()),
    )
    write_atomically(folder / key_file, encrypted, PRIVATE)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
