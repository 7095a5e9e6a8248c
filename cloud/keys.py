"""The cloud's own keys: PEM files that only the cloud's user may read, made on first use."""

import fcntl
import hashlib
import os
import secrets
import stat
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from protocol.encoding import public_key_to_text, to_base64url
from protocol.ids import EventId, KeyId, is_slug
from protocol.policy import NamedKey
from protocol.signing import PrivateKey, PublicKey

_WALLET_KID_CHARS: Final = 3
"""A wallet key's name stands in every QR: length decides how well it scans (docs/facts.md)."""
_KID_CHARS: Final = 8
_WALLET_PREFIX: Final = "wallet."

_log = structlog.stdlib.get_logger("cloud.keys")


class KeyRingError(Exception):
    """A key file that cannot be used: which, and why."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private P-256 key and the `kid` that names it in tokens and policies."""

    kid: KeyId
    private: PrivateKey = field(repr=False)

    @property
    def named(self) -> NamedKey:
        """The public half, as policies carry it."""
        return NamedKey(self.kid, public_key_to_text(self.private.public_key()))


@dataclass(frozen=True, slots=True)
class WalletKey:
    """What a wallet QR's `kid` fixes: the key that checks it and the event it is good for."""

    public_key: PublicKey
    event_id: EventId


class KeyRing:
    """Every key the cloud signs with, in one folder (mode 0700, files 0600).

    One file a role, and one a wallet key, since each event has its own. Several processes may
    share the folder: a key is made under a file lock, once.
    """

    def __init__(self, folder: Path) -> None:
        """Raises OSError where the folder cannot be made, KeyRingError for an unusable key."""
        self._folder = folder
        self._mutex = threading.Lock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._policy = self._load_or_make("policy.pem")
        self._reply = self._load_or_make("reply.pem")
        self._badge = self._load_or_make("badge.pem")
        self._pin = self._load_or_make("pin.pem")
        self._wallets: dict[EventId, SigningKey] = {}
        self._wallets_by_kid: dict[str, WalletKey] = {}
        self._scan()

    @property
    def policy(self) -> SigningKey:
        """Signs event policies; appliances are given its public half when they are enrolled."""
        return self._policy

    @property
    def reply(self) -> SigningKey:
        return self._reply

    @property
    def badge(self) -> SigningKey:
        return self._badge

    @property
    def pin(self) -> SigningKey:
        """Opens sealed PINs, and signs nothing."""
        return self._pin

    @property
    def workers_group(self) -> str:
        """The workers' shared subscription, which only holders of the reply key can name.

        Why it is a secret: docs/decisions/0011-the-workers-group-is-a-secret.md.
        """
        secret = self._reply.private.private_numbers().private_value.to_bytes(32, "big")
        derived = HKDF(SHA256(), length=24, salt=None, info=b"railtix workers group").derive(secret)
        return to_base64url(derived)

    def wallet_for(self, event_id: EventId) -> SigningKey:
        """The key of this event's wallet QRs, made on first use."""
        assert is_slug(event_id), f"not an event id: {event_id!r}"
        key = self._wallets.get(event_id)
        if key is None:
            name = f"{_WALLET_PREFIX}{event_id}.pem"
            self._load_or_make(name, is_usable=self._has_free_name)
            self._scan()
            key = self._wallets[event_id]
        return key

    def wallets(self) -> list[SigningKey]:
        """The wallet keys of all events, those that other processes made too."""
        self._scan()
        return list(self._wallets.values())

    def find_wallet(self, kid: str) -> WalletKey | None:
        """The wallet key of this name; a name not known yet is looked for in the folder.

        Anybody can name a key in a QR, so a file there that cannot be used is said in the log: it
        must not stop the sales that need it not.
        """
        found = self._wallets_by_kid.get(kid)
        if found is None and len(kid) == _WALLET_KID_CHARS:
            try:
                self._scan()
            except (KeyRingError, OSError) as error:
                _log.error("wallet_keys_not_read", reason=str(error))
            found = self._wallets_by_kid.get(kid)
        return found

    def find_wallet_public(self, kid: str) -> PublicKey | None:
        """A `signing.KeyFinder` over the wallet keys of all events."""
        found = self.find_wallet(kid)
        return None if found is None else found.public_key

    def find_badge(self, kid: str) -> PublicKey | None:
        """A `signing.KeyFinder` over the keys that sign badges."""
        return self._badge.private.public_key() if kid == self._badge.kid else None

    def _scan(self) -> None:
        """Learn the wallet keys that other processes have made."""
        with self._mutex:
            for path in sorted(self._folder.glob(f"{_WALLET_PREFIX}*.pem")):
                event_id = EventId(path.name.removeprefix(_WALLET_PREFIX).removesuffix(".pem"))
                if event_id in self._wallets or not is_slug(event_id):
                    continue
                key = _load(path)
                if key.kid in self._wallets_by_kid:
                    raise KeyRingError(f"{path} has the same name as another wallet key: {key.kid}")
                self._wallets_by_kid[key.kid] = WalletKey(key.private.public_key(), event_id)
                self._wallets[event_id] = key

    def _has_free_name(self, key: SigningKey) -> bool:
        self._scan()
        return key.kid not in self._wallets_by_kid

    def _load_or_make(
        self, name: str, is_usable: Callable[[SigningKey], bool] = lambda _: True
    ) -> SigningKey:
        path = self._folder / name
        if not path.exists():
            with _locked(self._folder / ".lock"):
                while not path.exists():
                    private = ec.generate_private_key(ec.SECP256R1())
                    if is_usable(_named(path.name, private)):
                        _write(path, private)
        return _load(path)


def _named(file_name: str, private: PrivateKey) -> SigningKey:
    """A key's name is the beginning of its public half's SHA-256: nothing to keep in step."""
    spki = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    chars = _WALLET_KID_CHARS if file_name.startswith(_WALLET_PREFIX) else _KID_CHARS
    return SigningKey(KeyId(to_base64url(hashlib.sha256(spki).digest())[:chars]), private)


def _load(path: Path) -> SigningKey:
    with path.open("rb") as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise KeyRingError(f"others may read the key {path}: chmod 600 it")
        pem = file.read()
    try:
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise KeyRingError(f"{path} holds no private key in PEM form") from error
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != "secp256r1":
        raise KeyRingError(f"{path} holds a key of another kind: P-256 is needed")
    return _named(path.name, private)


def _write(path: Path, private: PrivateKey) -> None:
    """The whole key or no file, whenever the power goes; never readable by others."""
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _locked(path: Path) -> Generator[None]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
