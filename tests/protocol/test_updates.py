import json
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from protocol.encoding import public_key_to_text
from protocol.ids import DeviceId
from protocol.messages import Heartbeat, JournalPosition, decode_request, encode
from protocol.policy import NamedKey, Policy, PolicyRefusal, open_policy, sign_policy
from protocol.signing import Profile, sign
from protocol.updates import (
    BUNDLE_BYTES_MAX,
    Progress,
    System,
    Update,
    UpdateState,
    bundle_path,
    in_rollout,
    is_newer,
)

CLOUD = ec.generate_private_key(ec.SECP256R1())
DEVICE = DeviceId("bar-1")
UPDATE = Update(
    version="0.6.0+202611230215",
    sha256="a" * 64,
    size=309_000_000,
    compatible="railtix-pos-debian",
    channel="stable",
    rollout_percent=10,
)
SYSTEM = System(
    image="0.6.0+202611230215",
    compatible="railtix-pos-debian",
    slot="B",
    update=Progress(version="0.6.0+202611230215", state=UpdateState.TRYING),
)
devices = st.integers(0, 9999).map(lambda number: DeviceId(f"till-{number}"))
versions = st.from_regex(r"[0-9]{1,2}(\.[0-9]{1,2}){1,2}(rc[0-9])?(\+[0-9]{12})?", fullmatch=True)


def policy(**changes: Any) -> Policy:
    key = NamedKey("r1", public_key_to_text(CLOUD.public_key()))
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
        "wallet_keys": (key,),
        "reply_keys": (key,),
        "badge_keys": (key,),
        "pin_key": key,
    }
    return Policy(**(fields | changes))


def opened(body: dict[str, Any]) -> Policy | PolicyRefusal:
    token = sign(Profile.POLICY, msgspec.json.encode(body), CLOUD, "p1").encode()
    return open_policy(token, {"p1": CLOUD.public_key()}.get, DEVICE, 0)


def heartbeat(**changes: Any) -> Heartbeat:
    return Heartbeat(
        device_id="bar-1",
        key="k" * 22,
        journal=JournalPosition("e" * 22, 7, 5, "h" * 43),
        sent_at_ms=1,
        policy_version=3,
        firmware="1.4",
        queue=0,
        printer="ok",
        **changes,
    )


def test_a_policy_that_announces_nothing_is_what_it_always_was() -> None:
    assert "update" not in msgspec.to_builtins(policy())
    assert "system" not in json.loads(encode(heartbeat()))


def test_an_announced_update_comes_back_as_it_was_signed() -> None:
    token = sign_policy(policy(update=UPDATE), CLOUD, "p1").encode()
    read = open_policy(token, {"p1": CLOUD.public_key()}.get, DEVICE, 0)
    assert isinstance(read, Policy)
    assert read.update == UPDATE
    assert bundle_path(UPDATE.sha256) == "/v1/pos/updates/" + "a" * 64


def test_an_appliance_hears_of_its_update_from_a_cloud_that_says_more_than_it_knows() -> None:
    body = msgspec.to_builtins(policy(update=UPDATE))
    body["update"] |= {"delta_from": "0.5.0"}
    body |= {"weather": "rain"}
    read = opened(body)
    assert isinstance(read, Policy)
    assert read.update == UPDATE


@pytest.mark.parametrize(
    "changes",
    [
        {"sha256": "A" * 64},
        {"sha256": "../" + "a" * 61},
        {"sha256": "a" * 64 + "\n"},
        {"size": 0},
        {"size": BUNDLE_BYTES_MAX + 1},
        {"version": "../1"},
        {"version": "1\n"},
        {"version": ""},
        {"compatible": "a b"},
        {"channel": "Beta"},
        {"rollout_percent": 101},
        {"rollout_percent": -1},
    ],
)
def test_what_could_lead_elsewhere_is_no_update(changes: dict[str, Any]) -> None:
    body = msgspec.to_builtins(policy(update=UPDATE))
    body["update"] |= changes
    assert opened(body) is PolicyRefusal.MALFORMED


def test_a_cloud_reads_of_a_newer_appliance_what_it_knows() -> None:
    said = heartbeat(system=SYSTEM)
    assert decode_request(encode(said)) == said
    newer = json.loads(encode(said))
    newer["system"] |= {"kernel": "7.3"}
    newer["system"]["update"] |= {"bytes": 5}
    assert decode_request(json.dumps(newer).encode()) == said


@given(devices, versions, st.integers(0, 100), st.integers(0, 100))
def test_a_growing_rollout_takes_no_appliance_out(
    device_id: DeviceId, version: str, one: int, other: int
) -> None:
    smaller, larger = sorted((one, other))
    assert not in_rollout(device_id, version, 0)
    assert in_rollout(device_id, version, 100)
    if in_rollout(device_id, version, smaller):
        assert in_rollout(device_id, version, larger)


def test_a_tenth_is_about_a_tenth_and_another_tenth_for_the_next_version() -> None:
    fleet = [DeviceId(f"till-{number}") for number in range(1000)]
    first = {each for each in fleet if in_rollout(each, "0.6.0", 10)}
    second = {each for each in fleet if in_rollout(each, "0.6.1", 10)}
    assert 70 <= len(first) <= 130
    assert 70 <= len(second) <= 130
    assert len(first & second) < 40


IN_ORDER = [
    "0.6.0rc1",
    "0.6.0",
    "0.6.0+202611230215.dirty",
    "0.6.0+202611230215",
    "0.6.0+202611230216",
    "0.6.1",
    "0.9",
    "0.10",
    "1.0",
]


@pytest.mark.parametrize("at", range(len(IN_ORDER) - 1))
def test_versions_follow_one_another_by_number(at: int) -> None:
    assert is_newer(IN_ORDER[at + 1], IN_ORDER[at])
    assert not is_newer(IN_ORDER[at], IN_ORDER[at + 1])
    assert not is_newer(IN_ORDER[at], IN_ORDER[at])


@given(versions, versions)
def test_of_two_versions_at_most_one_is_newer(one: str, other: str) -> None:
    assert not (is_newer(one, other) and is_newer(other, one))
