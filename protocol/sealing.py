"""A PIN on its way: sealed on the appliance to the cloud's key, for one sign-in only."""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from protocol.encoding import from_base64url, to_base64url
from protocol.ids import DeviceId, IdempotencyKey
from protocol.signing import PrivateKey, PublicKey

# RFC 9180: DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-128-GCM.
_SUITE: Final = Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.AES_128_GCM)


def seal_pin(pin: str, cloud_key: PublicKey, device_id: DeviceId, key: IdempotencyKey) -> str:
    """The PIN for the cloud's eyes alone, bound to this appliance and this sign-in."""
    sealed = _SUITE.encrypt(pin.encode("ascii"), cloud_key, info=_info(device_id, key))
    return to_base64url(sealed)


def open_pin(
    sealed: str, cloud_key: PrivateKey, device_id: DeviceId, key: IdempotencyKey
) -> str | None:
    """The PIN, or None where it was sealed for another sign-in, another key, or not at all."""
    raw = from_base64url(sealed.encode())
    if raw is None:
        return None
    try:
        pin = _SUITE.decrypt(raw, cloud_key, info=_info(device_id, key)).decode("ascii")
    except (InvalidTag, ValueError):
        return None
    return pin if pin.isdecimal() else None


def _info(device_id: DeviceId, key: IdempotencyKey) -> bytes:
    return f"railtix-pin|{device_id}|{key}".encode()
