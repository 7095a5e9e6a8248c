"""An identity on the disk, and the next one beside it: whole or not there, whenever the power goes.

`identity/` is who the appliance is. `identity.new/` is drafted file by file, each fsynced before
whatever follows from it, and takes its place by a rename; the one before is `identity.old/` until
the new one is known to work.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from device.credentials import (
    AUTHORITY_FILE,
    CERTIFICATE_FILE,
    FOLDER,
    KEY_FILE,
    TRUST_FILE,
)
from device.durable import fsync, keep
from device.identity.est import BrokerAddress, Connection, Issued
from device.settings import BrokerSettings, Settings
from protocol.named_key import NamedKey
from protocol.signing import PrivateKey

NEW: Final = "identity.new"
OLD: Final = "identity.old"
NEXT: Final = "identity.next"
"""A renewal's draft: nothing of it mixes with what a claim began."""
FAILED: Final = "identity.failed"
"""A renewed one that did not work, on its way out."""
CLOUD_FILE: Final = "cloud.json"
WELCOME_FILE: Final = "welcome"
"""There until the welcome slip is printed."""


class Cloud(msgspec.Struct, frozen=True):
    """Where the appliance reaches the cloud besides its broker, as it was told."""

    url: str = ""
    broker: BrokerAddress | None = None


class _Trust(msgspec.Struct, frozen=True):
    policy_keys: tuple[NamedKey, ...]


@dataclass(frozen=True)
class Draft:
    """An identity that is not one yet. Each method raises OSError."""

    state: Path
    name: str = NEW

    @property
    def folder(self) -> Path:
        return self.state / self.name

    def key(self) -> PrivateKey:
        """The draft's own key: made once, on the disk before anybody hears of it."""
        path = self.folder / KEY_FILE
        try:
            key = load_pem_private_key(path.read_bytes(), None)
        except (FileNotFoundError, ValueError, TypeError):
            key = None
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key
        self.drop()  # a certificate for another key would be of no use
        fresh = ec.generate_private_key(ec.SECP256R1())
        pem = fresh.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.keep(KEY_FILE, pem)
        return fresh

    @property
    def has_certificate(self) -> bool:
        return (self.folder / CERTIFICATE_FILE).is_file()

    @property
    def is_complete(self) -> bool:
        """`trust.json` is the last to be written."""
        return (self.folder / TRUST_FILE).is_file()

    def keep_certificate(self, issued: Issued, root_pem: str, cloud: Cloud) -> None:
        self.keep(AUTHORITY_FILE, root_pem.encode("ascii"))
        self.keep(CLOUD_FILE, msgspec.json.encode(cloud))
        # Last: once it is there, no claim is needed any more.
        self.keep(CERTIFICATE_FILE, issued.pem)

    def keep_connection(self, connection: Connection, cloud: Cloud, *, greets: bool) -> None:
        self.keep(CLOUD_FILE, msgspec.json.encode(Cloud(cloud.url, connection.broker)))
        if greets:
            self.keep(WELCOME_FILE, b"")
        self.keep(TRUST_FILE, msgspec.json.encode(_Trust(connection.policy_keys)))

    def keep(self, name: str, content: bytes) -> None:
        """A file, whole, and on the disk when this returns."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        fsync(self.state)
        keep(self.folder / name, content)

    def install(self) -> None:
        """Take the identity's place. The one before is `identity.old` until `forget_old`."""
        assert self.is_complete, "half an identity would be worse than none"
        current, old = self.state / FOLDER, self.state / OLD
        if (current / CERTIFICATE_FILE).is_file():
            remove(old)
            current.rename(old)
            fsync(self.state)
        elif current.exists():
            remove(current)
        self.folder.rename(current)
        fsync(self.state)

    def drop(self) -> None:
        """Begin anew, with another key."""
        remove(self.folder)
        if self.state.exists():
            fsync(self.state)


def recover(state: Path) -> None:
    """Finish what a power cut interrupted. Raises OSError."""
    current, failed = state / FOLDER, state / FAILED
    if failed.exists():
        # Whether anybody heard of it nobody knows here: it is tried again.
        remove(state / NEXT)
        failed.rename(state / NEXT)
        fsync(state)
    if (current / CERTIFICATE_FILE).is_file():
        return
    for draft in (Draft(state, NEXT), Draft(state)):
        if draft.is_complete:
            draft.install()
            return
    if (state / OLD / CERTIFICATE_FILE).is_file() and not current.exists():
        (state / OLD).rename(current)
        fsync(state)


def go_back(state: Path, *, keeps_new: bool = False) -> bool:
    """Be again who the appliance was before the last renewal; whether there was anybody.

    `keeps_new`: the cloud may have heard of the new one all the same, and then supersedes the old
    one: it becomes the draft that it was.
    """
    current, old, failed = state / FOLDER, state / OLD, state / FAILED
    if not (old / CERTIFICATE_FILE).is_file():
        return False
    remove(failed)
    current.rename(failed)
    fsync(state)
    # `recover` finishes this if the power goes here.
    old.rename(current)
    fsync(state)
    if keeps_new:
        remove(state / NEXT)
        failed.rename(state / NEXT)
        fsync(state)
    else:
        remove(failed)
    return True


def forget_old(state: Path) -> None:
    """The new identity works: nobody needs the key before it any more."""
    if (state / OLD).exists():
        remove(state / OLD)
        fsync(state)


def read_cloud(folder: Path) -> Cloud:
    """What `cloud.json` says; nothing where it is not there or says something else."""
    try:
        return msgspec.json.decode((folder / CLOUD_FILE).read_bytes(), type=Cloud)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return Cloud()


def broker_of(settings: Settings) -> BrokerSettings | None:
    """Where the broker is: as it is set, else as the cloud said; None: nobody has said."""
    told = read_cloud(settings.state.path / FOLDER).broker
    return settings.broker or (None if told is None else BrokerSettings(told.host, told.port))


def remove(folder: Path) -> None:
    """The key first: half of it left is nobody who can sign."""
    if not folder.exists():
        return
    (folder / KEY_FILE).unlink(missing_ok=True)
    shutil.rmtree(folder)
