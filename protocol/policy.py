"""The signed event policy: what one appliance may sell, to whom, and whose signatures count."""

from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec

from protocol.ids import DeviceId
from protocol.messages import Count, Jws, Milliseconds, Slug, Text, Version
from protocol.money import Currency, Money
from protocol.named_key import KEYS_MAX, NamedKey
from protocol.signing import (
    KeyFinder,
    PrivateKey,
    Profile,
    SignatureRefusal,
    sign,
    verify,
)
from protocol.updates import Update

__all__ = [
    "KEYS_MAX",
    "PRODUCTS_MAX",
    "TOP_UP_URL_CHARS_MAX",
    "VERSION",
    "Badge",
    "NamedKey",
    "OfflineRules",
    "Policy",
    "PolicyRefusal",
    "PositiveCents",
    "Product",
    "Seconds",
    "Update",
    "find",
    "open_badge",
    "open_policy",
    "sign_badge",
    "sign_policy",
]

VERSION: Final = 1
PRODUCTS_MAX: Final = 80

PositiveCents = Annotated[int, msgspec.Meta(ge=1, le=100_000_000)]
TOP_UP_URL_CHARS_MAX: Final = 200
TopUpUrl = Annotated[
    str, msgspec.Meta(max_length=TOP_UP_URL_CHARS_MAX, pattern=r"^https?://[!-~]+\Z")
]
Seconds = Annotated[int, msgspec.Meta(ge=1, le=366 * 24 * 3600)]


class PolicyRefusal(StrEnum):
    """Why an appliance keeps the policy it has."""

    BAD_SIGNATURE = "policy_bad_signature"
    MALFORMED = "policy_malformed"
    UNSUPPORTED_VERSION = "policy_unsupported_version"
    OTHER_DEVICE = "policy_for_another_appliance"
    OLDER = "policy_older_than_journaled"


class Product(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the price list; `number` is what staff key after `A`."""

    number: Annotated[int, msgspec.Meta(ge=1, le=9999)]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
    price_in_cents: Annotated[int, msgspec.Meta(ge=0, le=100_000_000)]


class OfflineRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the till may decide alone; off unless the event says otherwise (docs/rules.md)."""

    allowed: bool = False
    sale_max_in_cents: PositiveCents = 1000
    wallet_max_in_cents: PositiveCents = 2000
    wallet_sales_max: Count = 3
    spell_max_in_cents: PositiveCents = 20_000
    spell_sales_max: Count = 50
    sync_age_max_s: Seconds = 120 * 60
    deny_list_age_max_s: Seconds = 60 * 60


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What a newer cloud says besides is passed over, so that an appliance that is not up to date
    still hears of its update; `v` rises where something must not be passed over."""

    v: Literal[1] = VERSION
    version: Version
    """Rises with every change; an appliance refuses one below the highest it has journaled."""
    device_id: Slug
    issued_at_ms: Milliseconds
    expires_at_ms: Milliseconds
    event_id: Slug
    event_name: Text
    stall_id: Slug
    stall_name: Text
    currency: Currency
    locale: Annotated[str, msgspec.Meta(pattern=r"^[a-z]{2,3}(_[A-Z]{2})?\Z")] = "en_GB"
    timezone: Text = "UTC"
    sale_max_in_cents: PositiveCents = 20_000
    reply_timeout_ms: Annotated[int, msgspec.Meta(ge=500, le=30_000)] = 4000
    products: Annotated[tuple[Product, ...], msgspec.Meta(max_length=PRODUCTS_MAX)] = ()
    offline: OfflineRules = OfflineRules()
    top_up_url: TopUpUrl | None = None
    """Where an attendee buys Credits: drawn as a QR on the slip of a sale declined for funds."""
    wallet_keys: Annotated[tuple[NamedKey, ...], msgspec.Meta(max_length=KEYS_MAX)]
    reply_keys: Annotated[tuple[NamedKey, ...], msgspec.Meta(min_length=1, max_length=KEYS_MAX)]
    badge_keys: Annotated[tuple[NamedKey, ...], msgspec.Meta(max_length=KEYS_MAX)]
    pin_key: NamedKey
    update: Update | msgspec.UnsetType = msgspec.UNSET
    """The version this appliance is to have; unset: nothing to do."""

    @property
    def device(self) -> DeviceId:
        return DeviceId(self.device_id)

    def product(self, number: int) -> Product | None:
        return next((each for each in self.products if each.number == number), None)

    def money(self, cents: int) -> Money:
        return Money(cents, self.currency)


class Badge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a staff badge's QR says; its PIN is known to the cloud alone."""

    v: Literal[1]
    badge_id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{11,22}\Z")]
    staff_id: Slug
    event_id: Slug


class _Envelope(msgspec.Struct, frozen=True):
    v: int


_POLICY: Final = msgspec.json.Decoder(Policy)
_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_BADGE: Final = msgspec.json.Decoder(Badge)


def find(keys: tuple[NamedKey, ...]) -> KeyFinder:
    """A finder over named keys, for `signing.verify`."""
    by_name = {each.kid: each.public_key for each in keys}
    return by_name.get


def sign_policy(policy: Policy, key: PrivateKey, key_id: str) -> str:
    return sign(Profile.POLICY, msgspec.json.encode(policy), key, key_id)


def open_policy(
    token: bytes, find_key: KeyFinder, device_id: DeviceId, version_min: int
) -> Policy | PolicyRefusal:
    """The policy, where it is signed by our cloud, for this appliance, and not older than
    `version_min`, the highest version journaled so far."""
    verified = verify(Profile.POLICY, token, find_key)
    if isinstance(verified, SignatureRefusal):
        return PolicyRefusal.BAD_SIGNATURE
    try:
        if _ENVELOPE.decode(verified.payload).v != VERSION:
            return PolicyRefusal.UNSUPPORTED_VERSION
        policy = _POLICY.decode(verified.payload)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        return PolicyRefusal.MALFORMED
    if policy.device != device_id:
        return PolicyRefusal.OTHER_DEVICE
    if policy.version < version_min:
        return PolicyRefusal.OLDER
    return policy


def sign_badge(badge: Badge, key: PrivateKey, key_id: str) -> Jws:
    return sign(Profile.BADGE, msgspec.json.encode(badge), key, key_id)


def open_badge(token: bytes, find_key: KeyFinder) -> Badge | SignatureRefusal:
    """The badge, where its signature is ours; whether it still counts only the cloud knows."""
    verified = verify(Profile.BADGE, token, find_key)
    if isinstance(verified, SignatureRefusal):
        return verified
    try:
        return _BADGE.decode(verified.payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return SignatureRefusal.NOT_A_TOKEN
