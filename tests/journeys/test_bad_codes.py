import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cloud.keys import SigningKey
from protocol.encoding import to_base64url
from protocol.ids import EventId
from protocol.signing import PrivateKey, Profile, sign
from protocol.wallet_qr import TOKEN_CHARS_MAX, peek, to_digits
from tests.journeys.bar import DECLINED_HZ, REFRESH_HZ, TOP_UP, Bar, Guest
from venue.lights import Light
from venue.stack import EVENT

pytestmark = pytest.mark.xdist_group("venue")

PRICE = 350


@dataclass
class Mint:
    """Makes wallet QRs for a guest with the event's real key, or with what somebody has of it."""

    key: SigningKey
    claims: dict[str, Any]

    @classmethod
    def of(cls, bar: Bar, guest: Guest) -> "Mint":
        token = peek(guest.fresh_qr().token)
        assert token is not None
        claims = msgspec.to_builtins(token) | {"jti": secrets.token_urlsafe(9)}
        return cls(bar.keys.wallet_for(EventId(EVENT)), claims)

    def signed(self, key: PrivateKey | None = None, kid: str | None = None, **changed: Any) -> str:
        payload = msgspec.json.encode(self.claims | changed)
        return sign(Profile.WALLET, payload, key or self.key.private, kid or self.key.kid)

    def lasting(self, from_s: int, to_s: int) -> str:
        """Issued and expiring so many seconds from now, by the cloud's clock."""
        now_s = self.claims["iat"]
        return self.signed(iat=now_s + from_s, exp=now_s + to_s)

    def without(self, claim: str) -> str:
        left = {name: value for name, value in self.claims.items() if name != claim}
        return Mint(self.key, left).signed()

    def under(self, algorithm: str, make_signature: Callable[[bytes], bytes]) -> str:
        """Another algorithm in the header, under the real key's name."""
        header = msgspec.json.encode({"alg": algorithm, "kid": self.key.kid})
        signing_input = f"{to_base64url(header)}.{to_base64url(msgspec.json.encode(self.claims))}"
        return f"{signing_input}.{to_base64url(make_signature(signing_input.encode()))}"

    def hmac_with_the_public_key(self, signing_input: bytes) -> bytes:
        public = self.key.private.public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return hmac.digest(pem, signing_input, hashlib.sha256)


def other_key() -> PrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def no_signature(_: bytes) -> bytes:
    return b""


@dataclass(frozen=True)
class Bad:
    """A code that pays for nothing, and the name that its refusal has."""

    draw: Callable[[Mint], str]
    named: str


# The till refuses these itself: its own log has the name, and the cloud is not asked.
KNOWN_TO_THE_TILL: dict[str, Bad] = {
    "a_lifetime_over_120_s": Bad(lambda mint: mint.lasting(0, 121), "token_lifetime"),
    "signed_by_another_key": Bad(lambda mint: mint.signed(other_key()), "token_bad_signature"),
    "alg_none": Bad(lambda mint: mint.under("none", no_signature), "not_a_wallet_qr"),
    "alg_none_with_a_signature": Bad(
        lambda mint: mint.under("none", lambda _: bytes(64)), "token_wrong_algorithm"
    ),
    "hs256_with_the_public_key": Bad(
        lambda mint: mint.under("HS256", mint.hmac_with_the_public_key), "token_wrong_algorithm"
    ),
    "a_missing_claim": Bad(lambda mint: mint.without("nonce"), "token_malformed"),
    "a_claim_too_many": Bad(lambda mint: mint.signed(admin=True), "token_malformed"),
    "too_long_a_token": Bad(
        lambda mint: mint.signed(nonce="A" * TOKEN_CHARS_MAX), "token_too_long"
    ),
    "a_wifi_code": Bad(lambda _: "WIFI:T:WPA;S:Harbour guests;P:ahoy there;;", "not_a_wallet_qr"),
    "a_web_address": Bad(lambda _: "https://example.org/menu?table=7", "not_a_wallet_qr"),
    "digits_of_something_else": Bad(lambda _: "4006381333931", "not_a_wallet_qr"),
}

# Only the cloud can tell these: its audit record has the name.
KNOWN_TO_THE_CLOUD: dict[str, Bad] = {
    "expired": Bad(lambda mint: mint.lasting(-200, -110), "token_expired"),
    "issued_in_the_future": Bad(lambda mint: mint.lasting(300, 390), "token_from_the_future"),
    "signed_by_an_unknown_key": Bad(
        lambda mint: mint.signed(other_key(), "zzz"), "token_unknown_key"
    ),
}


def drawn(code: str) -> str:
    """As phones draw a wallet QR: in digits, where it is a token."""
    return to_digits(code) if code.count(".") == 2 and ":" not in code else code


def show_a_good_one(bar: Bar, guest: Guest) -> None:
    """The till is ready for the next frame: the same sale goes on."""
    bar.edge.clear()
    began = bar.counter.show_phone(guest.fresh_qr().digits, "easy")
    assert bar.counter.await_result(began).light is Light.APPROVED
    assert guest.balance() == TOP_UP - PRICE


@pytest.mark.parametrize("bad", KNOWN_TO_THE_TILL.values(), ids=KNOWN_TO_THE_TILL)
def test_a_code_that_is_no_payment_is_refused_at_the_till_by_name_and_the_next_is_read(
    bar: Bar, bad: Bad
) -> None:
    guest = bar.guest()
    code = drawn(bad.draw(Mint.of(bar, guest)))
    bar.counter.key(f"{PRICE}#")
    watch = bar.watch()

    bar.counter.show_phone(code, "easy")

    watch.await_light(Light.REFRESH_QR)
    watch.await_tones(REFRESH_HZ, 3)
    assert [line["detail"] for line in watch.logged("code_refused")] == [bad.named]
    assert watch.audited("deduct") == []
    assert watch.posted() == []
    show_a_good_one(bar, guest)
    [posting] = watch.posted()
    assert (posting.email, posting.amount_in_cents) == (guest.email, PRICE)
    assert watch.approvals() == 1


@pytest.mark.parametrize("bad", KNOWN_TO_THE_CLOUD.values(), ids=KNOWN_TO_THE_CLOUD)
def test_a_qr_that_only_the_cloud_can_judge_is_declined_by_name_and_audited(
    bar: Bar, bad: Bad
) -> None:
    guest = bar.guest()
    code = drawn(bad.draw(Mint.of(bar, guest)))
    bar.counter.key(f"{PRICE}#")
    watch = bar.watch()

    bar.counter.show_phone(code, "easy")

    watch.await_light(Light.REFRESH_QR)
    watch.await_tones(REFRESH_HZ, 3)
    [audited] = watch.audited("deduct")
    assert (audited.outcome, audited.device_id) == (bad.named, bar.appliance.device_id)
    assert watch.posted() == []
    assert watch.await_logged("sale_timed")["outcome"] == bad.named
    show_a_good_one(bar, guest)
    assert len(watch.posted()) == watch.approvals() == 1


def test_a_qr_of_nobody_is_declined_for_no_fresh_one_would_help(bar: Bar) -> None:
    guest = bar.guest()
    code = drawn(Mint.of(bar, guest).signed(sub=secrets.token_urlsafe(9)))
    watch = bar.watch()
    sale = bar.counter.sell(f"{PRICE}#", code, "easy")
    assert (sale.light, sale.outcome) == (Light.DECLINED, "unknown_payer")
    watch.await_tones(DECLINED_HZ, 2)
    assert [row.outcome for row in watch.audited("deduct")] == ["unknown_payer"]
    assert watch.posted() == []


def test_a_staff_badge_pays_for_nothing(bar: Bar) -> None:
    guest = bar.guest()
    bar.counter.key(f"{PRICE}#")
    watch = bar.watch()
    bar.counter.show_badge(bar.badge)
    watch.await_light(Light.REFRESH_QR)
    assert watch.await_logged("code_refused")["detail"] == "token_malformed"
    assert watch.posted() == []
    show_a_good_one(bar, guest)


def test_a_wallet_qr_signs_nobody_in(bar: Bar) -> None:
    guest = bar.guest()
    bar.sign_out()
    watch = bar.watch()
    bar.counter.show_phone(guest.fresh_qr().digits, "easy")
    watch.await_light(Light.REFRESH_QR)
    assert watch.await_logged("code_refused")["detail"] == "wrong_type"
    assert watch.audited("sign_in") == []
    bar.edge.clear()
    bar.counter.sign_in(bar.badge)


def test_a_wallet_qr_as_plain_text_pays_like_one_in_digits(bar: Bar) -> None:
    guest = bar.guest()
    sale = bar.counter.sell(f"{PRICE}#", guest.fresh_qr().token, "easy")
    assert sale.light is Light.APPROVED
    assert guest.balance() == TOP_UP - PRICE


@pytest.mark.parametrize("size", [40_000, 1_000_000])
def test_a_megabyte_of_text_in_place_of_a_wallet_qr_is_refused_and_the_cloud_goes_on(
    bar: Bar, size: int
) -> None:
    """No QR holds that much, so it comes over HTTPS; the broker's own limit has a test there."""
    guest = bar.guest()
    watch = bar.watch()
    payload = msgspec.json.encode({"v": 1, "key": "x" * 16, "wallet_qr": "A" * size})
    # Not even signed: its size is judged before anything else.
    header = to_base64url(b'{"alg":"ES256","typ":"railtix-request+jwt"}')
    token = f"{header}.{to_base64url(payload)}.{to_base64url(bytes(64))}"
    answer = httpx.post(
        f"{bar.venue.base_url}/v1/pos/requests",
        content=token,
        headers={"Content-Type": "application/jose", "Idempotency-Key": "x" * 16},
        trust_env=False,
    )
    assert answer.status_code == 413
    assert answer.json()["code"] == "body_too_large"
    assert watch.posted() == []
    assert bar.counter.sell(f"{PRICE}#", guest.fresh_qr().digits).light is Light.APPROVED
