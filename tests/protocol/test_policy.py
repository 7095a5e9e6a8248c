from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from protocol.encoding import public_key_to_text
from protocol.ids import DeviceId
from protocol.money import Money
from protocol.policy import (
    KEYS_MAX,
    PRODUCTS_MAX,
    Badge,
    NamedKey,
    OfflineRules,
    Policy,
    PolicyRefusal,
    Product,
    find,
    open_badge,
    open_policy,
    sign_badge,
    sign_policy,
)
from protocol.signing import Profile, SignatureRefusal, sign

CLOUD = ec.generate_private_key(ec.SECP256R1())
FOREIGN = ec.generate_private_key(ec.SECP256R1())
DEVICE = DeviceId("bar-1")
trust = {"p1": CLOUD.public_key()}.get


def named(kid: str = "r1") -> NamedKey:
    return NamedKey(kid, public_key_to_text(CLOUD.public_key()))


def policy(**changes: Any) -> Policy:
    fields: dict[str, Any] = {
        "version": 3,
        "device_id": DEVICE,
        "issued_at_ms": 1,
        "expires_at_ms": 2,
        "event_id": "fair",
        "event_name": "Fair",
        "stall_id": "bar",
        "stall_name": "Bar",
        "currency": "EUR",
        "products": (Product(1, "Beer", 450), Product(2, "Water", 250)),
        "wallet_keys": (named("w1"),),
        "reply_keys": (named("r1"),),
        "badge_keys": (named("b1"),),
        "pin_key": named("n1"),
    }
    return Policy(**(fields | changes))


@given(st.integers(0, 2**31 - 1), st.booleans(), st.integers(1, 10**8))
def test_a_policy_comes_back_as_it_was_signed(version: int, offline: bool, most: int) -> None:
    one = policy(version=version, offline=OfflineRules(allowed=offline, sale_max_in_cents=most))
    assert open_policy(sign_policy(one, CLOUD, "p1").encode(), trust, DEVICE, version) == one


def test_each_refusal_has_its_name() -> None:
    good = sign_policy(policy(), CLOUD, "p1").encode()
    forged = sign_policy(policy(), FOREIGN, "p1").encode()
    assert open_policy(forged, trust, DEVICE, 0) is PolicyRefusal.BAD_SIGNATURE
    assert open_policy(b"rubbish", trust, DEVICE, 0) is PolicyRefusal.BAD_SIGNATURE
    assert open_policy(good, trust, DeviceId("bar-2"), 0) is PolicyRefusal.OTHER_DEVICE
    assert open_policy(good, trust, DEVICE, 4) is PolicyRefusal.OLDER
    newer = sign(Profile.POLICY, b'{"v":2}', CLOUD, "p1").encode()
    assert open_policy(newer, trust, DEVICE, 0) is PolicyRefusal.UNSUPPORTED_VERSION
    for payload in (b'{"v":1}', b"[]", b"\xff", b'{"v":true}'):
        broken = sign(Profile.POLICY, payload, CLOUD, "p1").encode()
        assert open_policy(broken, trust, DEVICE, 0) is PolicyRefusal.MALFORMED


def test_a_policy_with_a_key_that_is_none_is_refused() -> None:
    body = msgspec.to_builtins(policy())
    body["pin_key"]["spki"] = "AAAA"
    broken = sign(Profile.POLICY, msgspec.json.encode(body), CLOUD, "p1").encode()
    assert open_policy(broken, trust, DEVICE, 0) is PolicyRefusal.MALFORMED
    with pytest.raises(ValueError, match="not a P-256 public key"):
        NamedKey("x", "AAAA")


def test_the_largest_policy_fits_the_bound() -> None:
    keys = tuple(named("k" * 8) for _ in range(KEYS_MAX))
    names = "\N{BEER MUG}" * 40
    products = tuple(Product(9999 - at, names, 100_000_000) for at in range(PRODUCTS_MAX))
    largest = policy(
        products=products,
        wallet_keys=keys,
        reply_keys=keys,
        badge_keys=keys,
        event_name="\N{BEER MUG}" * 200,
        stall_name="\N{BEER MUG}" * 200,
    )
    token = sign_policy(largest, CLOUD, "p1").encode()
    assert open_policy(token, trust, DEVICE, 0) == largest


def test_products_and_money_are_those_of_the_event() -> None:
    assert policy().product(2) == Product(2, "Water", 250)
    assert policy().product(7) is None
    assert policy().money(5) == Money(5, "EUR")


def test_a_badge_is_ours_or_it_is_none() -> None:
    badge = Badge(1, "YmFkZ2VpZDEyMw", "ada", "fair")
    finder = find((NamedKey("b1", public_key_to_text(CLOUD.public_key())),))
    assert open_badge(sign_badge(badge, CLOUD, "b1").encode(), finder) == badge
    forged = sign_badge(badge, FOREIGN, "b1").encode()
    assert open_badge(forged, finder) is SignatureRefusal.BAD_SIGNATURE
    other = sign(Profile.BADGE, b'{"v":9}', CLOUD, "b1").encode()
    assert open_badge(other, finder) is SignatureRefusal.NOT_A_TOKEN
    wallet = sign(Profile.WALLET, msgspec.json.encode(badge), CLOUD, "b1").encode()
    assert open_badge(wallet, finder) is SignatureRefusal.WRONG_TYPE
