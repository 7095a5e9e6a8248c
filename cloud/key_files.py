"""Keys on disk: PEM files that only the cloud's user may read, each written whole or not at all.

`NAME.pem` signs, `NAME.next.pem` is made known before it signs, and `NAME.retired-KID.pub` is what
is left of a key that signed before: its public half.
"""

import fcntl
import os
import re
import secrets
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from protocol.signing import PrivateKey, PublicKey

_LOCK: Final = ".lock"
_SECRET_BYTES: Final = 32


class KeyRingError(Exception):
    """A key file that cannot be used: which, and why."""


def signing_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.pem"


def prepared_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.next.pem"


def retired_files(folder: Path, name: str) -> list[Path]:
    """The retired keys of this name, the newest first."""
    pattern = re.compile(rf"{re.escape(name)}\.retired-[A-Za-z0-9_-]+\.pub")
    found = [path for path in folder.iterdir() if pattern.fullmatch(path.name)]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def read_private(path: Path) -> PrivateKey:
    """Raises KeyRingError for a key that others may read, or that is no P-256 key."""
    pem = _read_guarded(path)
    try:
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise KeyRingError(f"{path} holds no private key in PEM form") from error
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != "secp256r1":
        raise KeyRingError(f"{path} holds a key of another kind: P-256 is needed")
    return private


def read_public(path: Path) -> PublicKey:
    """Raises KeyRingError for a file that holds no P-256 key, or that others may change."""
    pem = _read_guarded(path)
    try:
        public = load_pem_public_key(pem)
    except (ValueError, TypeError) as error:
        raise KeyRingError(f"{path} holds no public key in PEM form") from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256r1":
        raise KeyRingError(f"{path} holds a key of another kind: P-256 is needed")
    return public


def read_or_make_secret(path: Path) -> bytes:
    """256 random bits of the cloud's own, made on first use."""
    if not path.exists():
        with locked(path.parent):
            if not path.exists():
                _write(path, secrets.token_hex(_SECRET_BYTES).encode())
    try:
        secret = bytes.fromhex(_read_guarded(path).decode("ascii"))
    except ValueError as error:
        raise KeyRingError(f"{path} holds no secret in hexadecimal") from error
    if len(secret) != _SECRET_BYTES:
        raise KeyRingError(f"{path} holds {len(secret)} bytes: {_SECRET_BYTES} are needed")
    return secret


def write_private(path: Path, private: PrivateKey) -> None:
    _write(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def replace_signing(folder: Path, name: str, signing_kid: str, signing: PrivateKey) -> None:
    """Let the prepared key sign; of the one that signed, the public half stays.

    Cut short, it is done again: the public half is written first, and one name twice is one key.
    """
    public = signing.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _write(folder / f"{name}.retired-{signing_kid}.pub", public)
    prepared_file(folder, name).replace(signing_file(folder, name))
    _sync(folder)


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """One process at a time makes or changes keys."""
    descriptor = os.open(folder / _LOCK, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read_guarded(path: Path) -> bytes:
    with path.open("rb") as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise KeyRingError(f"others may read the key {path}: chmod 600 it")
        return file.read()


def _write(path: Path, pem: bytes) -> None:
    """The whole key or no file, whenever the power goes; never readable by others."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
