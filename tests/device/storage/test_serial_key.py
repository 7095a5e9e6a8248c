"""The key that a board's serial makes."""

from uuid import UUID

from device.storage.serial_key import serial_key

SALT = UUID("0191f5a0-0000-7000-8000-000000000001").bytes


def test_the_key_is_this_boards_for_this_card_and_stays_so_over_releases() -> None:
    key = serial_key("10000000deadbeef", SALT)
    # RFC 5869 with SHA-256, computed by `openssl kdf -keylen 32 -kdfopt digest:SHA256 HKDF`.
    assert key == b"2aa2a0ab60bbd2a2ae5e9dd9878e99fc10ed47cff326d095ee37f43b4d179e03"
    assert serial_key("10000000deadbeee", SALT) != key
    assert serial_key("10000000deadbeef", bytes(16)) != key
