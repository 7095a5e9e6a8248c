"""The cloud's own keys: what signs, what is about to, and what signed before."""

import hashlib
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

import structlog
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cloud import key_files
from cloud.key_files import KeyRingError
from protocol.encoding import public_key_to_text, to_base64url
from protocol.ids import EventId, KeyId, is_slug
from protocol.policy import KEYS_MAX, NamedKey
from protocol.signing import PrivateKey, PublicKey

__all__ = ["KeyRing", "KeyRingError", "KeyRole", "SigningKey", "WalletKey"]

KeyRole = Literal["policy", "reply", "badge", "pin", "checkpoint", "ticket"]
_WALLET_KID_CHARS: Final = 3
"""A wallet key's name stands in every QR: length decides how well it scans (docs/facts.md)."""
_KID_CHARS: Final = 8
_WALLET_PREFIX: Final = "wallet."

_log = structlog.stdlib.get_logger("cloud.keys")


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


@dataclass(frozen=True, slots=True)
class _Family:
    """The keys of one name: one signs, one may be about to, the others have signed before."""

    signing: SigningKey
    prepared: SigningKey | None
    retired: tuple[tuple[KeyId, PublicKey], ...]
    """The newest first."""

    def public(self) -> dict[KeyId, PublicKey]:
        """Every key that may still check a signature; the one that signs comes first."""
        ahead = [self.signing] if self.prepared is None else [self.signing, self.prepared]
        known = {each.kid: each.private.public_key() for each in ahead}
        return known | {kid: key for kid, key in self.retired if kid not in known}


class KeyRing:
    """Every key the cloud signs with, in one folder (mode 0700, files 0600).

    One name a role, and one for each event's wallet QRs. Several processes may share the folder:
    a key is made under a file lock, once. A process signs with the keys it found when it started.
    """

    def __init__(self, folder: Path) -> None:
        """Raises OSError where the folder cannot be made, KeyRingError for an unusable key."""
        self._folder = folder
        self._mutex = threading.Lock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._families = {role: self._load_or_make(role) for role in get_args(KeyRole)}
        self._console = key_files.read_or_make_secret(folder / "console.key")
        self._wallets: dict[EventId, _Family] = {}
        self._wallets_by_kid: dict[str, WalletKey] = {}
        self._scan()

    @property
    def policy(self) -> SigningKey:
        """Signs event policies; appliances are given its public half when they are enrolled."""
        return self._families["policy"].signing

    @property
    def reply(self) -> SigningKey:
        return self._families["reply"].signing

    @property
    def badge(self) -> SigningKey:
        return self._families["badge"].signing

    @property
    def pin(self) -> SigningKey:
        """Opens sealed PINs, and signs nothing."""
        return self._families["pin"].signing

    @property
    def checkpoint(self) -> SigningKey:
        """Signs what the audit log's tree looked like."""
        return self._families["checkpoint"].signing

    @property
    def ticket(self) -> SigningKey:
        return self._families["ticket"].signing

    @property
    def console(self) -> bytes:
        """Seals what must not be readable in a stolen database: second factors, short codes.

        256 bits that sign nothing and stay: without them everybody at the console enrols again.
        """
        return self._console

    @property
    def workers_group(self) -> str:
        """The workers' shared subscription, which only holders of the policy key can name.

        Why it is a secret: docs/decisions/0011-the-workers-group-is-a-secret.md.
        """
        # The policy key stays as long as appliances trust it: old and new workers agree.
        secret = self.policy.private.private_numbers().private_value.to_bytes(32, "big")
        derived = HKDF(SHA256(), length=24, salt=None, info=b"railtix workers group").derive(secret)
        return to_base64url(derived)

    def known(self, role: KeyRole) -> tuple[NamedKey, ...]:
        """As policies carry them: the key that signs, one about to, and those retired last.

        Read anew: another process may have prepared one.
        """
        self._families[role] = self._load_or_make(role)
        return _named_keys(self._families[role])

    def find(self, role: KeyRole, kid: str) -> PublicKey | None:
        """The key of this role that `kid` names, retired ones too."""
        found = self._families[role].public().get(KeyId(kid))
        if found is None and len(kid) == _KID_CHARS:
            self._families[role] = self._load_or_make(role)
            found = self._families[role].public().get(KeyId(kid))
        return found

    def public(self, role: KeyRole) -> dict[KeyId, PublicKey]:
        """Every key of this role, by name; the one that signs comes first."""
        return self._families[role].public()

    def find_badge(self, kid: str) -> PublicKey | None:
        """A `signing.KeyFinder` over the keys that sign badges."""
        return self.find("badge", kid)

    def wallet_for(self, event_id: EventId) -> SigningKey:
        """The key of this event's wallet QRs, made on first use."""
        return self._wallet_family(event_id).signing

    def known_wallets(self, event_id: EventId) -> tuple[NamedKey, ...]:
        """As `known`, for one event's wallet QRs."""
        self.wallet_for(event_id)
        self._scan(anew=event_id)
        return _named_keys(self._wallets[event_id])

    def wallets(self) -> list[SigningKey]:
        """The wallet keys that sign, of all events, those that other processes made too."""
        self._scan()
        return [family.signing for family in self._wallets.values()]

    def wallet_events(self) -> list[EventId]:
        """The events that have wallet keys."""
        self._scan()
        return sorted(self._wallets)

    def find_wallet(self, kid: str) -> WalletKey | None:
        """The wallet key of this name; a name not known yet is looked for in the folder.

        Anybody can name a key in a QR, so a file there that cannot be used is said in the log: it
        must not stop the sales that need it not.
        """
        found = self._wallets_by_kid.get(kid)
        if found is None and len(kid) == _WALLET_KID_CHARS:
            try:
                self._scan(anew="all")
            except (KeyRingError, OSError) as error:
                _log.error("wallet_keys_not_read", reason=str(error))
            found = self._wallets_by_kid.get(kid)
        return found

    def find_wallet_public(self, kid: str) -> PublicKey | None:
        """A `signing.KeyFinder` over the wallet keys of all events."""
        found = self.find_wallet(kid)
        return None if found is None else found.public_key

    # Rotation: make one known, then let it sign (cloud.operations.fleet.rotate_keys decides when).

    def prepared(self, name: str) -> KeyId | None:
        """The key of this name that is made known and does not sign yet."""
        path = key_files.prepared_file(self._folder, name)
        return _named(name, key_files.read_private(path)).kid if path.exists() else None

    def prepare(self, name: str) -> KeyId:
        """A key that will sign under this name; asked again, the same one."""
        path = key_files.prepared_file(self._folder, name)
        with key_files.locked(self._folder):
            while not path.exists():
                private = ec.generate_private_key(ec.SECP256R1())
                if self._is_usable(name, _named(name, private)):
                    key_files.write_private(path, private)
        self._read_anew(name)
        return _named(name, key_files.read_private(path)).kid

    def activate(self, name: str) -> KeyId:
        """Let the prepared key sign. Raises KeyRingError where none is prepared."""
        with key_files.locked(self._folder):
            if not key_files.prepared_file(self._folder, name).exists():
                raise KeyRingError(f"no new key is prepared for {name}")
            signing = _named(
                name, key_files.read_private(key_files.signing_file(self._folder, name))
            )
            key_files.replace_signing(self._folder, name, signing.kid, signing.private)
        self._read_anew(name)
        return _named(name, key_files.read_private(key_files.signing_file(self._folder, name))).kid

    def _wallet_family(self, event_id: EventId) -> _Family:
        assert is_slug(event_id), f"not an event id: {event_id!r}"
        family = self._wallets.get(event_id)
        if family is None:
            self._load_or_make(f"{_WALLET_PREFIX}{event_id}")
            self._scan()
            family = self._wallets[event_id]
        return family

    def _read_anew(self, name: str) -> None:
        for role in get_args(KeyRole):
            if role == name:
                self._families[role] = self._load_or_make(role)
        if name.startswith(_WALLET_PREFIX):
            self._scan(anew=EventId(name.removeprefix(_WALLET_PREFIX)))

    def _scan(self, anew: EventId | Literal["all"] | None = None) -> None:
        """Learn the wallet keys that other processes have made."""
        with self._mutex:
            for path in sorted(self._folder.glob(f"{_WALLET_PREFIX}*.pem")):
                event_id = EventId(path.name.removeprefix(_WALLET_PREFIX).removesuffix(".pem"))
                is_known = event_id in self._wallets and anew not in {event_id, "all"}
                if is_known or not is_slug(event_id):
                    continue
                family = self._load(f"{_WALLET_PREFIX}{event_id}")
                for kid, public_key in family.public().items():
                    holder = self._wallets_by_kid.setdefault(kid, WalletKey(public_key, event_id))
                    if holder.event_id != event_id:
                        raise KeyRingError(f"{path} has the same name as another wallet key: {kid}")
                self._wallets[event_id] = family

    def _is_usable(self, name: str, key: SigningKey) -> bool:
        """A wallet key's short name may be taken already."""
        if not name.startswith(_WALLET_PREFIX):
            return True
        self._scan()
        return key.kid not in self._wallets_by_kid

    def _load_or_make(self, name: str) -> _Family:
        path = key_files.signing_file(self._folder, name)
        if not path.exists():
            with key_files.locked(self._folder):
                while not path.exists():
                    private = ec.generate_private_key(ec.SECP256R1())
                    if self._is_usable(name, _named(name, private)):
                        key_files.write_private(path, private)
        return self._load(name)

    def _load(self, name: str) -> _Family:
        # In this order: whatever another process activates meanwhile, no key is missed.
        try:
            ahead = key_files.prepared_file(self._folder, name)
            prepared = _named(name, key_files.read_private(ahead))
        except FileNotFoundError:
            prepared = None
        signing = _named(name, key_files.read_private(key_files.signing_file(self._folder, name)))
        retired = [
            key_files.read_public(path) for path in key_files.retired_files(self._folder, name)
        ]
        return _Family(signing, prepared, tuple((_name_of(name, key), key) for key in retired))


def _named_keys(family: _Family) -> tuple[NamedKey, ...]:
    named = [NamedKey(kid, public_key_to_text(key)) for kid, key in family.public().items()]
    return tuple(named[:KEYS_MAX])


def _named(name: str, private: PrivateKey) -> SigningKey:
    return SigningKey(_name_of(name, private.public_key()), private)


def _name_of(name: str, public: PublicKey) -> KeyId:
    """A key's name is the beginning of its public half's SHA-256: nothing to keep in step."""
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    chars = _WALLET_KID_CHARS if name.startswith(_WALLET_PREFIX) else _KID_CHARS
    return KeyId(to_base64url(hashlib.sha256(spki).digest())[:chars])
