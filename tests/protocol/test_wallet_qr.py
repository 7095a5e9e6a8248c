import hmac
import json
import re

import jwt
import pytest
import segno
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from protocol.encoding import from_base64url, to_base64url
from protocol.wallet_qr import (
    TOKEN_CHARS_MAX,
    QrRefusal,
    SignedQr,
    WalletToken,
    check_signature,
    check_time,
    issue,
    peek,
    read,
    to_digits,
)

EVENT = ec.generate_private_key(ec.SECP256R1())
FOREIGN = ec.generate_private_key(ec.SECP256R1())
find = {"w1": EVENT.public_key()}.get
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256 (SEC 2)
NOW = 1_790_000_000

ids = st.binary(min_size=8, max_size=16).map(to_base64url)


@st.composite
def tokens(draw: st.DrawFn) -> WalletToken:
    iat = draw(st.integers(0, 2**39))
    exp = iat + draw(st.integers(60, 120))
    return WalletToken(draw(ids), draw(ids), draw(ids), iat, exp, draw(st.integers(0, 2000)))


def token(iat: int = NOW, life: int = 90) -> WalletToken:
    return WalletToken("c3ViamVjdGlk", "dG9rZW5pZDEy", "bm9uY2Vub25j", iat, iat + life)


def claims(**changes: object) -> dict[str, object]:
    whole: dict[str, object] = {
        "sub": "c3ViamVjdGlk",
        "jti": "dG9rZW5pZDEy",
        "nonce": "bm9uY2Vub25j",
        "iat": NOW,
        "exp": NOW + 90,
    }
    whole.update(changes)
    return {name: value for name, value in whole.items() if value is not None}


def forge(body: dict[str, object]) -> str:
    """Signed by the right key but not by our code, which refuses to make such a token."""
    header = {"kid": "w1", "typ": None}
    return jwt.encode(body, EVENT, algorithm="ES256", headers=header)


@given(tokens())
def test_a_token_goes_through_the_qr_and_comes_back_whole(each: WalletToken) -> None:
    jws = issue(each, EVENT, "w1")
    digits = to_digits(jws)
    assert re.fullmatch(r"[0-9]+", digits)
    assert read(digits) == jws
    assert read(jws) == jws
    assert check_signature(jws, find) == SignedQr(each, "w1")
    assert peek(jws) == each


def test_the_qr_stays_within_version_11() -> None:
    twelve = to_base64url(bytes(range(12)))
    longest = WalletToken(twelve, twelve, twelve, NOW, NOW + 90, 2000)
    code = segno.make(to_digits(issue(longest, EVENT, "w123")), error="M", boost_error=False)
    assert code.mode == "numeric"
    assert int(code.version) <= 11


@given(st.data())
def test_every_mutated_byte_is_refused(data: st.DataObject) -> None:
    jws = bytearray(issue(token(), EVENT, "w1").encode())
    at = data.draw(st.integers(0, len(jws) - 1))
    jws[at] = data.draw(st.integers(32, 126).filter(lambda byte: byte != jws[at]))
    assert isinstance(check_signature(jws.decode(), find), QrRefusal)


def test_a_malleated_signature_is_the_same_payment() -> None:
    head, body, signature = issue(token(), EVENT, "w1").split(".")
    raw = from_base64url(signature.encode())
    assert raw is not None
    twin = raw[:32] + (ORDER - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    checked = check_signature(f"{head}.{body}.{to_base64url(twin)}", find)
    assert isinstance(checked, SignedQr)
    assert checked.token.token_id == token().token_id
    assert checked.token.payer_id == token().payer_id


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("WIFI:T:WPA;S:bar;P:secret;;", QrRefusal.NOT_A_WALLET_QR),
        ("https://example.org/menu", QrRefusal.NOT_A_WALLET_QR),
        ("", QrRefusal.NOT_A_WALLET_QR),
        ("0" * 500, QrRefusal.NOT_A_WALLET_QR),
        ("123", QrRefusal.NOT_A_WALLET_QR),
        ("99" * 100, QrRefusal.NOT_A_WALLET_QR),
        ("\u0663\u0663", QrRefusal.NOT_A_WALLET_QR),
        ("a.b", QrRefusal.NOT_A_WALLET_QR),
        ("a" * 1_000_000, QrRefusal.TOO_LONG),
        ("1" * 1_000_000, QrRefusal.TOO_LONG),
        ("a" * TOKEN_CHARS_MAX + ".b.c", QrRefusal.TOO_LONG),
    ],
)
def test_any_other_code_is_refused_by_name(text: str, refusal: QrRefusal) -> None:
    assert read(text) is refusal


@given(st.text(max_size=400))
def test_no_text_makes_the_reader_raise(text: str) -> None:
    jws = read(text)
    if not isinstance(jws, QrRefusal):
        check_signature(jws, find)
        peek(jws)


def test_a_long_token_is_refused_without_a_reader_in_front() -> None:
    assert check_signature("a" * 1_000_000, find) is QrRefusal.TOO_LONG


@pytest.mark.parametrize("life", [0, 59, 121, 10**9])
def test_a_lifetime_out_of_bounds_is_refused(life: int) -> None:
    assert check_signature(forge(claims(exp=NOW + life)), find) is QrRefusal.LIFETIME
    with pytest.raises(AssertionError):
        issue(token(life=life), EVENT, "w1")


@pytest.mark.parametrize("missing", ["sub", "jti", "nonce", "iat", "exp"])
def test_every_claim_is_required(missing: str) -> None:
    assert check_signature(forge(claims(**{missing: None})), find) is QrRefusal.MALFORMED


@pytest.mark.parametrize(
    "change",
    [
        {"admin": True},
        {"exp": "soon"},
        {"exp": 10**30},
        {"iat": -1},
        {"iat": NOW + 0.5},
        {"oal": -1},
        {"oal": 10**9},
        {"jti": "short"},
        {"jti": "x" * 23},
        {"sub": "white space!"},
        {"nonce": None},
    ],
)
def test_claims_of_another_shape_are_refused(change: dict[str, object]) -> None:
    assert check_signature(forge(claims(**change)), find) is QrRefusal.MALFORMED


def test_another_key_no_algorithm_and_a_confused_one_are_refused() -> None:
    assert check_signature(issue(token(), FOREIGN, "w1"), find) is QrRefusal.BAD_SIGNATURE
    assert check_signature(issue(token(), EVENT, "w2"), find) is QrRefusal.UNKNOWN_KEY
    body = to_base64url(json.dumps(claims()).encode())
    unsigned = to_base64url(b'{"alg":"none","kid":"w1"}')
    none = f"{unsigned}.{body}.AA"
    assert check_signature(none, find) is QrRefusal.WRONG_ALGORITHM
    public = EVENT.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    head = to_base64url(b'{"alg":"HS256","kid":"w1"}')
    mac = hmac.digest(public, f"{head}.{body}".encode(), "sha256")
    confused = f"{head}.{body}.{to_base64url(mac)}"
    assert check_signature(confused, find) is QrRefusal.WRONG_ALGORITHM


def test_a_token_made_for_something_else_is_no_payment() -> None:
    other = jwt.encode(claims(), EVENT, algorithm="ES256", headers={"kid": "w1"})
    assert json.loads(from_base64url(other.split(".")[0].encode()) or b"{}")["typ"] == "JWT"
    assert check_signature(other, find) is QrRefusal.MALFORMED


@pytest.mark.parametrize(
    ("arrival", "refusal"),
    [
        (NOW - 30, None),
        (NOW - 30.5, QrRefusal.FROM_THE_FUTURE),
        (NOW, None),
        (NOW + 100, None),
        (NOW + 100.5, QrRefusal.EXPIRED),
    ],
)
def test_a_token_counts_from_30_s_early_to_10_s_late(
    arrival: float, refusal: QrRefusal | None
) -> None:
    assert check_time(token(), arrival) is refusal


def test_peeking_at_rubbish_gives_nothing() -> None:
    assert peek("a.b") is None
    assert peek("a.!.c") is None
    assert peek("a.AAAA.c") is None
