"""Keys and papers of a simulated venue, made once for all runs: what they sign never decides."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from device.credentials import Credentials
from protocol.encoding import public_key_to_text
from protocol.ids import DeviceId, EventId
from protocol.policy import Badge, NamedKey, sign_badge
from protocol.signing import PrivateKey
from protocol.wallet_qr import WalletToken, issue

EVENT: Final = EventId("summer-fair")
CURRENCY: Final = "EUR"
STAFF: Final = ("ada", "ben", "cleo")
PIN: Final = "2468"


@dataclass(frozen=True)
class _Pair:
    private: PrivateKey
    named: NamedKey


@cache
def key_pair(name: str) -> _Pair:
    private = ec.generate_private_key(ec.SECP256R1())
    return _Pair(private, NamedKey(name, public_key_to_text(private.public_key())))


@cache
def credentials_of(device_id: DeviceId) -> Credentials:
    """An appliance's identity; all share one key, since nobody forges anything here."""
    return Credentials(
        device_id=device_id,
        key=key_pair("device").private,
        thumbprint=f"certificate-of-{device_id}",
        expires_at=datetime(2100, 1, 1, tzinfo=UTC),
        policy_keys=(key_pair("policy").named,),
        folder=Path("nowhere"),
    )


@cache
def badge_of(staff_id: str) -> str:
    badge = Badge(1, f"badge-of-{staff_id:-<8}", staff_id, EVENT)
    return sign_badge(badge, key_pair("badge").private, "badge")


def sign_wallet_qr(token: WalletToken, *, forged: bool = False) -> str:
    """A forged one names the right key and is signed by another."""
    return issue(token, key_pair("forger" if forged else "wallet").private, "wallet")
