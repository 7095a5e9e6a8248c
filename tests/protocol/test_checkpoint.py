"""A checkpoint is read whole, by the key that signed it, or not at all."""

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from protocol.checkpoint import Checkpoint, open_checkpoint, read_checkpoint, sign_checkpoint
from protocol.encoding import to_base64url
from protocol.signing import Profile, PublicKey, SignatureRefusal, sign

KEY = ec.generate_private_key(ec.SECP256R1())
SAID = Checkpoint(
    origin="01980000-0000-7000-8000-000000000001",
    epoch=1,
    size=7,
    root=to_base64url(bytes(range(32))),
    at_ms=1_780_000_000_000,
)


def find_key(kid: str) -> PublicKey | None:
    return KEY.public_key() if kid == "key-1" else None


def signed(payload: bytes) -> str:
    return sign(Profile.CHECKPOINT, payload, KEY, "key-1")


def test_a_checkpoint_is_what_was_signed() -> None:
    token = sign_checkpoint(SAID, KEY, "key-1")
    assert open_checkpoint(token, find_key) == SAID
    assert read_checkpoint(token) == SAID
    assert SAID.root_hash == bytes(range(32))


def test_a_later_one_of_the_same_log_has_a_greater_order() -> None:
    larger = msgspec.structs.replace(SAID, size=8)
    anew = msgspec.structs.replace(SAID, epoch=2, size=1)
    assert SAID.order < larger.order < anew.order


def test_every_mutated_character_is_refused() -> None:
    token = sign_checkpoint(SAID, KEY, "key-1")
    for at, character in enumerate(token):
        changed = token[:at] + ("A" if character != "A" else "B") + token[at + 1 :]
        assert not isinstance(open_checkpoint(changed, find_key), Checkpoint), at


@pytest.mark.parametrize("token", ["", "a.b", "a.b.c", "\u00e9.b.c", "a.e30.c"])
def test_what_is_no_checkpoint_is_none(token: str) -> None:
    assert isinstance(open_checkpoint(token, find_key), SignatureRefusal)
    assert read_checkpoint(token) is None


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"epoch": 0},
        {"size": 0},
        {"root": "A" * 42},
        {"root": "A" * 42 + "B"},
        {"origin": "x"},
        {"more": 1},
    ],
)
def test_signed_by_the_right_key_it_still_has_to_be_one(change: dict[str, object]) -> None:
    said = msgspec.to_builtins(SAID) | change
    token = signed(msgspec.json.encode(said))
    assert open_checkpoint(token, find_key) is SignatureRefusal.NOT_A_TOKEN
    assert read_checkpoint(token) is None


def test_another_kind_of_token_is_none() -> None:
    token = sign(Profile.REPLY, msgspec.json.encode(SAID), KEY, "key-1")
    assert open_checkpoint(token, find_key) is SignatureRefusal.WRONG_TYPE
