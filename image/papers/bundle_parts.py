"""A RAUC bundle in the verity format, taken apart: payload, hash tree, signature."""

import hashlib
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from image.papers.programs import Programs

_MAGIC: Final = b"hsqs"
_USED_AT: Final = 40  # squashfs superblock: bytes used, 64 bits
_BLOCK: Final = 4096
_SIZE: Final = 8


@dataclass(frozen=True)
class BundleParts:
    """`payload` is the squashfs with the slot's image and the hook; both hashes are SHA-256."""

    payload: str
    tree: str
    signature: str
    signature_bytes: int


class NotABundleError(ValueError):
    """No squashfs at its beginning, or no signature's size at its end."""


def parts_of(bundle: Path) -> BundleParts:
    """Squashfs, padded to 4096; the dm-verity tree; the CMS signature; its size in 8 bytes.

    (RAUC reference, "Bundle Formats".) Raises NotABundleError.
    """
    whole = bundle.read_bytes()
    if len(whole) < _BLOCK or not whole.startswith(_MAGIC):
        raise NotABundleError(f"{bundle.name} is no RAUC bundle")
    (used,) = struct.unpack_from("<Q", whole, _USED_AT)
    (signed,) = struct.unpack(">Q", whole[-_SIZE:])
    payload_end = -(-used // _BLOCK) * _BLOCK
    tree_end = len(whole) - _SIZE - signed
    if not payload_end <= tree_end < len(whole):
        raise NotABundleError(f"{bundle.name} has no signature where its end says")
    return BundleParts(
        payload=_hash(whole[:payload_end]),
        tree=_hash(whole[payload_end:tree_end]),
        signature=_hash(whole[tree_end:-_SIZE]),
        signature_bytes=signed,
    )


def manifest_of(bundle: Path, programs: Programs) -> list[str]:
    """Its lines, out of the signature that holds it; who signed is not asked here."""
    whole = bundle.read_bytes()
    (signed,) = struct.unpack(">Q", whole[-_SIZE:])
    read = ["cms", "-verify", "-noverify", "-inform", "DER"]
    held = subprocess.run(
        [*programs("openssl"), *read],
        input=whole[-_SIZE - signed : -_SIZE],
        capture_output=True,
        check=False,
    )
    if held.returncode != 0:
        raise NotABundleError(f"{bundle.name}: {held.stderr.decode(errors='replace').strip()}")
    return held.stdout.decode("utf-8").splitlines()


def _hash(held: bytes) -> str:
    return hashlib.sha256(held).hexdigest()
