import base64
import hashlib
import hmac
import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from protocol import signing
from protocol.encoding import (
    from_base64url,
    public_key_from_text,
    public_key_to_text,
    to_base64url,
)
from protocol.signing import (
    SIGNED_BYTES_MAX,
    Profile,
    SignatureRefusal,
    Verified,
    fingerprint,
    sign,
    thumbprint,
    verify,
)

OURS = ec.generate_private_key(ec.SECP256R1())
FOREIGN = ec.generate_private_key(ec.SECP256R1())
PAYLOAD = b'{"v":1,"hello":"world"}'
find = {"k1": OURS.public_key()}.get

# The order of P-256 (SEC 2, version 2.0, section 2.4.2).
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def b64(data: object) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.mark.parametrize("profile", list(Profile))
def test_what_is_signed_is_read_back(profile: Profile) -> None:
    token = sign(profile, PAYLOAD, OURS, "k1")
    assert verify(profile, token.encode(), find) == Verified(PAYLOAD, "k1")


@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize("other", list(Profile))
def test_a_token_passes_for_no_other_kind(profile: Profile, other: Profile) -> None:
    token = sign(profile, PAYLOAD, OURS, "k1").encode()
    taken = isinstance(verify(other, token, find), Verified)
    assert taken is (profile is other)


@given(st.data())
def test_every_mutated_byte_is_refused(data: st.DataObject) -> None:
    token = bytearray(sign(Profile.REPLY, PAYLOAD, OURS, "k1").encode())
    at = data.draw(st.integers(0, len(token) - 1))
    token[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != token[at]))
    assert isinstance(verify(Profile.REPLY, bytes(token), find), SignatureRefusal)


@given(st.data())
def test_a_token_cut_or_lengthened_anywhere_is_refused(data: st.DataObject) -> None:
    token = sign(Profile.REPLY, PAYLOAD, OURS, "k1").encode()
    at = data.draw(st.integers(0, len(token)))
    extra = data.draw(st.binary(min_size=0, max_size=4))
    changed = data.draw(st.sampled_from([token[:at], token[:at] + extra + token[at:]]))
    if changed != token:
        assert isinstance(verify(Profile.REPLY, changed, find), SignatureRefusal)


def test_a_malleated_signature_verifies_so_nothing_may_key_on_it() -> None:
    head, body, signature = sign(Profile.REPLY, PAYLOAD, OURS, "k1").split(".")
    raw = from_base64url(signature.encode())
    assert raw is not None
    twin = raw[:32] + (ORDER - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    token = f"{head}.{body}.{to_base64url(twin)}".encode()
    assert verify(Profile.REPLY, token, find) == Verified(PAYLOAD, "k1")


def test_a_foreign_key_under_our_name_is_refused() -> None:
    token = sign(Profile.REPLY, PAYLOAD, FOREIGN, "k1").encode()
    assert verify(Profile.REPLY, token, find) is SignatureRefusal.BAD_SIGNATURE


def test_an_unknown_key_is_refused_by_name() -> None:
    token = sign(Profile.REPLY, PAYLOAD, OURS, "k2").encode()
    assert verify(Profile.REPLY, token, find) is SignatureRefusal.UNKNOWN_KEY


def test_no_algorithm_and_the_public_key_as_a_secret_are_refused() -> None:
    typ = Profile.REPLY.value
    none = f"{b64({'alg': 'none', 'kid': 'k1', 'typ': typ})}.{b64(PAYLOAD)}."
    assert verify(Profile.REPLY, none.encode(), find) is SignatureRefusal.WRONG_ALGORITHM
    public = OURS.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    head = f"{b64({'alg': 'HS256', 'kid': 'k1', 'typ': typ})}.{b64(PAYLOAD)}"
    confused = f"{head}.{b64(hmac.digest(public, head.encode(), 'sha256'))}"
    assert verify(Profile.REPLY, confused.encode(), find) is SignatureRefusal.WRONG_ALGORITHM


@pytest.mark.parametrize("member", ["jku", "jwk", "x5u", "x5c", "crit", "zip"])
def test_a_header_that_brings_its_own_key_or_rules_is_refused(member: str) -> None:
    token = jwt.encode(
        json.loads(PAYLOAD),
        OURS,
        algorithm="ES256",
        headers={"kid": "k1", "typ": Profile.REPLY.value, member: "x"},
    )
    assert verify(Profile.REPLY, token.encode(), find) is SignatureRefusal.NOT_A_TOKEN


def test_our_tokens_are_what_any_jose_library_reads() -> None:
    token = sign(Profile.POLICY, PAYLOAD, OURS, "k1")
    assert jwt.decode(token, OURS.public_key(), algorithms=["ES256"]) == json.loads(PAYLOAD)
    assert jwt.get_unverified_header(token)["typ"] == Profile.POLICY.value


def test_a_strangers_long_header_is_refused_and_not_remembered() -> None:
    before = signing._decoded_header.cache_info().currsize
    header = to_base64url(b'{"alg":"ES256","typ":"railtix-reply+jwt","kid":"%b"}' % (b"k" * 9000))
    token = f"{header}.e30.AAAA".encode()
    assert verify(Profile.REPLY, token, find) is SignatureRefusal.NOT_A_TOKEN
    assert signing._decoded_header.cache_info().currsize == before


def test_a_megabyte_is_refused_before_anything_is_read() -> None:
    assert verify(Profile.REPLY, b"a" * 1_000_000, find) is SignatureRefusal.TOO_LONG
    assert SIGNED_BYTES_MAX < 1_000_000


@given(st.binary(max_size=300))
def test_rubbish_is_refused_and_raises_nothing(rubbish: bytes) -> None:
    assert isinstance(verify(Profile.REQUEST, rubbish, find), SignatureRefusal)


@given(st.binary(max_size=64))
def test_base64url_has_one_spelling(raw: bytes) -> None:
    text = to_base64url(raw).encode()
    assert from_base64url(text) == raw
    assert from_base64url(text + b"=") is None
    assert from_base64url(text + b"\n") is None


def test_stray_trailing_bits_are_refused() -> None:
    assert from_base64url(b"QQ") == b"A"
    assert from_base64url(b"QR") is None
    assert from_base64url(b"Q") is None


def test_public_keys_round_trip_and_only_p256_is_taken() -> None:
    text = public_key_to_text(OURS.public_key())
    read = public_key_from_text(text)
    assert read is not None
    assert read.public_numbers() == OURS.public_key().public_numbers()
    other_curve = ec.generate_private_key(ec.SECP384R1()).public_key()
    assert public_key_from_text(public_key_to_text(other_curve)) is None
    assert public_key_from_text("AAAA") is None
    assert public_key_from_text("!") is None


def test_a_fingerprint_names_the_bytes_as_sent() -> None:
    one, two = (sign(Profile.REQUEST, PAYLOAD, OURS, "t").encode() for _ in range(2))
    assert one != two, "ECDSA is randomised: two signings differ"
    assert fingerprint(one) != fingerprint(two)
    assert fingerprint(one) == fingerprint(bytes(one))


def test_a_thumbprint_is_the_digest_of_the_certificate() -> None:
    expected = base64.urlsafe_b64encode(hashlib.sha256(b"der").digest()).rstrip(b"=").decode()
    assert thumbprint(b"der") == expected
