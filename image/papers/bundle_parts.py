"""A RAUC bundle in the plain format, taken apart: payload and signature."""

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MAGIC: Final = b"hsqs"
_USED_AT: Final = 40  # squashfs superblock: bytes used, 64 bits
_BLOCK: Final = 4096
_SIZE: Final = 8


@dataclass(frozen=True)
class BundleParts:
    """`payload` is the squashfs with the slot's image and the manifest; both hashes are SHA-256."""

    payload: str
    signature: str
    signature_bytes: int


class NotABundleError(ValueError):
    """No squashfs at its beginning, or no signature's size at its end."""


def parts_of(bundle: Path) -> BundleParts:
    """Squashfs, padded to 4096; the CMS signature over all of that; its size in 8 bytes.

    (RAUC reference, "Bundle Formats".) Raises NotABundleError.
    """
    whole = bundle.read_bytes()
    if len(whole) < _BLOCK or not whole.startswith(_MAGIC):
        raise NotABundleError(f"{bundle.name} is no RAUC bundle")
    (used,) = struct.unpack_from("<Q", whole, _USED_AT)
    (signed,) = struct.unpack(">Q", whole[-_SIZE:])
    payload_end = -(-used // _BLOCK) * _BLOCK
    if not payload_end == len(whole) - _SIZE - signed < len(whole):
        raise NotABundleError(f"{bundle.name} has no signature where its end says")
    return BundleParts(
        payload=_hash(whole[:payload_end]),
        signature=_hash(whole[payload_end:-_SIZE]),
        signature_bytes=signed,
    )


def _hash(held: bytes) -> str:
    return hashlib.sha256(held).hexdigest()
