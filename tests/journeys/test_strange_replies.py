import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from device.till.entries import SaleAnswered
from protocol.ids import DeviceId
from protocol.messages import Approved, Cancelled, Deduct, Reply, encode, kind_of
from protocol.money import Money
from protocol.signing import SIGNED_BYTES_MAX, PrivateKey, Profile, fingerprint, sign
from tests.journeys.bar import TOP_UP, WITHIN_S, Bar, frozen, now
from tests.journeys.insider import Insider, Overheard
from venue.lights import Light
from venue.stack import CURRENCY

pytestmark = pytest.mark.xdist_group("venue")

PRICE = 350


@pytest.fixture
def insider(bar: Bar) -> Iterator[Insider]:
    with Insider(bar.venue) as insider:
        yield insider


@dataclass(frozen=True)
class Forger:
    """Writes approvals of a deduct that the cloud has not answered."""

    bar: Bar
    asked: Overheard

    @property
    def approval(self) -> Reply:
        """Just what the cloud would say, and a better balance."""
        request = self.asked.request
        assert isinstance(request, Deduct)
        return Reply(
            device_id=request.device_id,
            key=request.key,
            answers=kind_of(request),
            request_hash=fingerprint(self.asked.token),
            answered_at_ms=request.sent_at_ms,
            outcome=Approved(
                "0198c0de", request.amount, Money(99_999, CURRENCY), "FREE", request.sent_at_ms
            ),
        )

    def signed_by_the_cloud(self, **changed: object) -> bytes:
        """With the cloud's real key: what is wrong is elsewhere."""
        reply = msgspec.structs.replace(self.approval, **changed)
        return self.signed(encode(reply), self.bar.keys.reply.private)

    def signed(
        self, payload: bytes, key: PrivateKey, kid: str = "", profile: Profile = Profile.REPLY
    ) -> bytes:
        return sign(profile, payload, key, kid or self.bar.keys.reply.kid).encode()


def own_key() -> PrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def older_approval(forger: Forger) -> bytes:
    """The cloud's own word, on the sale before."""
    approvals = [
        entry
        for entry in forger.bar.journal()
        if isinstance(entry, SaleAnswered) and isinstance(entry.outcome, Approved)
    ]
    return approvals[-1].token.encode()


@dataclass(frozen=True)
class Strange:
    """What comes in place of the reply, and how the appliance's log names it."""

    write: Callable[[Forger], bytes]
    event: str
    name: str = ""


REFUSED, IGNORED = "reply_refused", "reply_ignored"
STRANGE: dict[str, Strange] = {
    "forged_with_another_key": Strange(
        lambda forger: forger.signed(encode(forger.approval), own_key()), REFUSED, "bad_signature"
    ),
    "forged_under_another_name": Strange(
        lambda forger: forger.signed(encode(forger.approval), own_key(), "forger"),
        REFUSED,
        "unknown_key",
    ),
    "of_another_type": Strange(
        lambda forger: forger.signed(
            encode(forger.approval), forger.bar.keys.reply.private, profile=Profile.BADGE
        ),
        REFUSED,
        "wrong_type",
    ),
    "for_another_appliance": Strange(
        lambda forger: forger.signed_by_the_cloud(device_id="bar-south-1"),
        REFUSED,
        "reply_for_another_appliance",
    ),
    "for_another_request_under_the_same_key": Strange(
        lambda forger: forger.signed_by_the_cloud(request_hash=fingerprint(b"another")), IGNORED
    ),
    "for_another_key": Strange(
        lambda forger: forger.signed_by_the_cloud(key=secrets.token_urlsafe(16)), IGNORED
    ),
    "to_another_kind_of_request": Strange(
        lambda forger: forger.signed_by_the_cloud(answers="cancel", outcome=Cancelled(None)),
        IGNORED,
    ),
    "an_older_approval_once_more": Strange(older_approval, IGNORED),
    "rubbish": Strange(lambda _: b"\x00\xff approved!", REFUSED, "not_a_token"),
    "nothing_at_all": Strange(lambda _: b"", REFUSED, "not_a_token"),
    "endless": Strange(lambda _: b"A" * (SIGNED_BYTES_MAX + 1), REFUSED, "too_long"),
    "no_message_of_ours": Strange(
        lambda forger: forger.signed(b'{"v":1}', forger.bar.keys.reply.private),
        REFUSED,
        "malformed",
    ),
    "of_a_later_version": Strange(
        lambda forger: forger.signed(b'{"v":2}', forger.bar.keys.reply.private),
        REFUSED,
        "unsupported_version",
    ),
}


@pytest.mark.parametrize("strange", STRANGE.values(), ids=STRANGE)
def test_a_strange_reply_is_ignored_and_logged_and_the_till_waits_for_the_true_one(
    bar: Bar, insider: Insider, strange: Strange
) -> None:
    guest = bar.guest()
    assert bar.counter.sell("100#", guest.fresh_qr().digits).light is Light.APPROVED
    insider.await_request(Deduct)
    qr = guest.fresh_qr().digits
    bar.counter.key(f"{PRICE}#")
    watch = bar.watch()
    with frozen(bar.venue.cloud):
        began = bar.counter.show_phone(qr, "easy")
        asked = insider.await_request(Deduct)
        assert watch.logged(strange.event) == []

        insider.say(DeviceId(bar.appliance.device_id), strange.write(Forger(bar, asked)))

        said = watch.await_logged(strange.event)
        assert said.get("reason", "") == strange.name
        bar.edge.wait_for_light(Light.ASKING, since=now(), timeout_s=WITHIN_S)
        assert watch.approvals() == 0
        assert watch.journaled(SaleAnswered) == []

    sale = bar.counter.await_result(began)
    assert (sale.light, sale.outcome) == (Light.APPROVED, "approved")
    [posting] = watch.posted()
    assert posting.idempotency_key == asked.request.key
    assert watch.approvals() == 1
    assert "Credits left 15.50 EUR" in watch.await_paper()
    assert guest.balance() == TOP_UP - 100 - PRICE


def test_a_reply_to_nobodys_question_changes_nothing(bar: Bar, insider: Insider) -> None:
    guest = bar.guest()
    assert bar.counter.sell("100#", guest.fresh_qr().digits).light is Light.APPROVED
    asked = insider.await_request(Deduct)
    bar.come_to_rest()
    watch = bar.watch()
    insider.say(DeviceId(bar.appliance.device_id), Forger(bar, asked).signed_by_the_cloud())
    watch.await_logged("reply_ignored")
    assert watch.approvals() == 0
    assert watch.papers() == 0
    assert watch.journaled() == []
    assert bar.edge.light() is Light.READY
