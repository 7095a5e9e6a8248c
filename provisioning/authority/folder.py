"""The authority at rest: a folder of encrypted keys, certificates, the register and the CRL."""

import errno
import fcntl
import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
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

CRL_RENEWED_AFTER: Final = timedelta(days=1)
CRL_ALARM: Final = timedelta(hours=72)
"""With less than that left somebody has to look: since yesterday nobody renewed it."""


@dataclass(frozen=True, slots=True)
class Left:
    """What no longer counts: an appliance with all that it was ever issued, or one certificate."""

    device_id: str
    reason: Reason
    thumbprint: str | None = None
    """None: every certificate of the appliance's, also one that was issued and never kept."""


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
        if key.public_key() != certificate.public_key():
            # The power went while the issuing key was replaced.
            msg = "the issuing key is not its certificate's: run `railtix-ops ca reissue` again"
            raise OSError(errno.EINVAL, msg, str(folder))
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
            chain_pem=pem_of(certificate) + pem_of(self._issuer.certificate),
            root_pem=self.root_path.read_bytes(),
        )

    def revoke(
        self, name: str, reason: Reason, now: datetime
    ) -> Register | UnknownCertificate | AlreadyRevoked:
        """Revoke every certificate with common name or serial `name`, and publish the CRL.

        Should the power go between the two, `bring_after` publishes what is missing.
        """
        with self._locked():
            register = read_register(self.folder).revoked(name, reason, now)
            if isinstance(register, Register):
                self._publish(register, now)
            return register

    def bring_after(self, left: Sequence[Left], now: datetime) -> bool:
        """Revoke what is to be, and publish the CRL where that, its age, its number or its date
        ask for it: whether it did. Doing it again does nothing.

        Raises OSError, and ValueError where the register is damaged.
        """
        with self._locked():
            register = read_register(self.folder)
            reasons = _reasons(register, left)
            changed = register.without(reasons, now)
            if changed is register and self._is_fresh(register, now):
                return False
            self._publish(changed, now)
            return True

    def _is_fresh(self, register: Register, now: datetime) -> bool:
        """Whether the CRL is this register's newest, and of today.

        One that was dated by a clock that has gone back since is not valid yet: a broker refuses
        every client by it.
        """
        try:
            crl = read_crl(self.folder)
        except (FileNotFoundError, ValueError):
            # Lost or damaged: the register has all that it takes to write another.
            return False
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        if number != register.crl_number:
            return False
        return crl.last_update_utc <= now < crl.last_update_utc + CRL_RENEWED_AFTER

    def revoke_all(self, reason: Reason, now: datetime) -> None:
        """Revoke whatever was ever certified, and publish the CRL."""
        with self._locked():
            register = read_register(self.folder)
            every = dict.fromkeys((entry.thumbprint for entry in register.entries), reason)
            self._publish(register.without(every, now), now)

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
        """Raises OSError where the issuing key was replaced since this authority was opened: a
        list by the old one would lock every client out."""
        with locked(self.folder):
            current = x509.load_pem_x509_certificate(
                (self.folder / ISSUING_CERTIFICATE).read_bytes()
            )
            if current.public_key() != self._issuer.certificate.public_key():
                msg = "the issuing key was replaced: start this program again"
                raise OSError(errno.ESTALE, msg, str(self.folder))
            yield


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
        keep_key(draft, ROOT_KEY, ROOT_FILE, root_key, given)
        keep_key(draft, ISSUING_KEY, ISSUING_FILE, issuing_key, given)
        write_atomically(draft / ROOT_CERTIFICATE, pem_of(root.certificate))
        write_atomically(draft / ISSUING_CERTIFICATE, pem_of(issuing))
        write_atomically(draft / CHAIN, pem_of(issuing) + pem_of(root.certificate))
        write_atomically(draft / REGISTER, msgspec.json.encode(Register()), PRIVATE)
        authority = Authority(draft, Signer(issuing, issuing_key))
        authority.publish_crl(now)
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    fsync_folder(folder.parent)
    return Authority(folder, Signer(issuing, issuing_key))


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Two commands at once take turns, or one would forget what the other issued."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_register(folder: Path) -> Register:
    """Raises OSError, and msgspec.DecodeError (a ValueError) for a register that is not ours."""
    return msgspec.json.decode((folder / REGISTER).read_bytes(), type=Register)


def read_crl(folder: Path) -> x509.CertificateRevocationList:
    """Raises OSError, and ValueError for what is no CRL."""
    return x509.load_pem_x509_crl((folder / CRL).read_bytes())


def expires_at(crl: x509.CertificateRevocationList) -> datetime:
    """From then on a broker that has this CRL refuses every client."""
    next_update = crl.next_update_utc
    assert next_update is not None, "every CRL of ours says when the next one comes"
    return next_update


def _reasons(register: Register, left: Sequence[Left]) -> dict[str, Reason]:
    reasons: dict[str, Reason] = {}
    for each in left:
        if each.thumbprint is not None:
            reasons[each.thumbprint] = each.reason
        else:
            issued = register.of_device(each.device_id)
            reasons |= dict.fromkeys((entry.thumbprint for entry in issued), each.reason)
    return reasons


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def keep_key(
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


def pem_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
