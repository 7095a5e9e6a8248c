"""A key from the board's serial number: it keeps a lost card from a curious laptop, and no more.

A Pi's serial has 32 bits that vary, and on older boards the Ethernet address tells most of them
(docs/image.md).
"""

from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

INFO: Final = b"railtix data partition v1"


def serial_key(serial: str, salt: bytes) -> bytes:
    """64 lower-case hex digits, by HKDF-SHA256 (RFC 5869); `salt` is the LUKS header's UUID.

    LUKS hardens it further by Argon2id, so that each guess costs memory and time.
    """
    assert serial
    return HKDF(SHA256(), 32, salt, INFO).derive(serial.encode()).hex().encode()
