import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from device.till.entries import SaleOpened
from protocol.ids import DeviceId, IdempotencyKey
from protocol.messages import Declined, SaleLine, SignedIn, SignIn
from protocol.money import Money
from protocol.sealing import seal_pin
from tests.cloud.floor import Till
from tests.cloud.wire import Line, WireTill, private_key, thumbprint_of
from tests.journeys.bar import DECLINED_HZ, PIN, SALE_MAX, TOP_UP, Bar
from venue.lights import Light
from venue.stack import CURRENCY, EVENT, STALL

pytestmark = pytest.mark.xdist_group("venue")

HONEST = "bar-south-1"

KEYED: dict[str, tuple[str, str]] = {
    "nothing": ("0#", "amount_not_positive"),
    "nothing_at_length": ("0000#", "amount_not_positive"),
    "over_the_limit": (f"{SALE_MAX + 1}#", "amount_over_limit"),
    "far_over_the_limit": ("99999999999999999999#", "amount_over_limit"),
    "an_unknown_product": ("A9#", "product_unknown"),
    "an_unknown_product_beside_a_known_one": ("A1A9#", "product_unknown"),
    "products_over_the_limit": ("A4A4A4A4A4A4#", "amount_over_limit"),
}


@pytest.mark.parametrize(("keys", "named"), KEYED.values(), ids=KEYED)
def test_what_the_till_can_know_to_be_wrong_is_refused_before_it_looks_for_a_qr(
    bar: Bar, keys: str, named: str
) -> None:
    guest = bar.guest()
    watch = bar.watch()
    # A phone is held up all the while: it is scanned first, and nothing is asked of it.
    bar.counter.show_phone(guest.fresh_qr().digits, "easy")

    watch.await_light(Light.KEY_THE_AMOUNT)
    bar.edge.type(keys)

    watch.await_light(Light.DECLINED)
    watch.await_tones(DECLINED_HZ, 2)
    assert [line["detail"] for line in watch.logged("declined")] == [named]
    assert watch.journaled(SaleOpened) == []
    assert watch.audited("deduct") == []
    assert watch.posted() == []
    bar.edge.clear()
    bar.edge.tap("*")
    # The next customer is served.
    assert bar.counter.sell("100#", guest.fresh_qr().digits).light is Light.APPROVED
    assert guest.balance() == TOP_UP - 100


def test_the_limit_itself_is_allowed(bar: Bar) -> None:
    guest = bar.guest()
    guest.top_up()
    guest.top_up()
    assert bar.counter.sell(f"{SALE_MAX}#", guest.fresh_qr().digits).light is Light.APPROVED
    assert guest.balance() == 3 * TOP_UP - SALE_MAX


@dataclass(frozen=True)
class Crafted:
    """A request that no till of ours would send, and the cloud's name for what is wrong."""

    said: dict[str, Any]
    named: str


CRAFTED: dict[str, Crafted] = {
    "another_currency": Crafted({"amount": Money(350, "GBP"), "lines": ()}, "wrong_currency"),
    "no_amount": Crafted({"amount": Money(0, CURRENCY), "lines": ()}, "amount_not_positive"),
    "a_negative_amount": Crafted(
        {"amount": Money(-350, CURRENCY), "lines": ()}, "amount_not_positive"
    ),
    "over_the_limit": Crafted(
        {"amount": Money(SALE_MAX + 1, CURRENCY), "lines": ()}, "amount_over_limit"
    ),
    "lines_that_do_not_add_up": Crafted({"lines": (SaleLine(1, 1, 349),)}, "lines_do_not_add_up"),
    "another_stall": Crafted({"stall_id": "bar-south"}, "device_elsewhere"),
    "another_event": Crafted({"event_id": "winter-fair"}, "device_elsewhere"),
    "a_policy_it_never_got": Crafted({"policy_version": 99}, "policy_unknown"),
    "a_session_of_nobody": Crafted({"session_id": "0" * 32}, "session_unknown"),
}


def real_now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 -- the cloud judges by the real clock


@pytest.fixture
def crafty(bar: Bar) -> Iterator[WireTill]:
    """An enrolled appliance with staff signed in, whose program says what a test wants."""
    credentials = certified(bar)
    till = Till(
        DeviceId(HONEST), STALL, private_key(credentials), thumbprint_of(credentials), "", real_now
    )
    reply = bar.keys.reply
    line = Line.of(bar.venue.broker, credentials)
    with WireTill(till, line, reply.private.public_key(), reply.kid) as wire:
        till.session_id = sign_in(bar, wire).session_id
        yield wire


def certified(bar: Bar) -> Any:
    [credentials] = bar.venue.authority.certify_devices(HONEST)
    bar.venue.desk.register_device(HONEST, credentials.certificate, EVENT, STALL)
    return credentials


def sign_in(bar: Bar, wire: WireTill) -> SignedIn:
    till, key = wire.till, secrets.token_urlsafe(16)
    request = SignIn(
        device_id=till.device_id,
        key=key,
        journal=till.position(),
        sent_at_ms=till.now_ms(),
        badge=bar.badge.jws,
        sealed_pin=seal_pin(
            PIN, bar.keys.pin.private.public_key(), till.device_id, IdempotencyKey(key)
        ),
    )
    session = wire.ask(request)
    assert isinstance(session, SignedIn), session
    return session


@pytest.mark.parametrize("crafted", CRAFTED.values(), ids=CRAFTED)
def test_what_a_till_would_never_ask_is_declined_by_name_through_the_broker(
    bar: Bar, crafty: WireTill, crafted: Crafted
) -> None:
    guest = bar.guest()
    watch = bar.watch()
    till = crafty.till
    version = bar.venue.desk.device(HONEST)["policy_version"]
    said = {"event_id": EVENT, "policy_version": version} | crafted.said
    request = till.deduct(guest.fresh_qr().token, 350, **said)

    answer = crafty.ask(request)

    assert isinstance(answer, Declined)
    assert answer.reason.value == crafted.named
    [audited] = watch.audited("deduct")
    assert (audited.outcome, audited.device_id, audited.subject) == (
        crafted.named,
        HONEST,
        request.key,
    )
    assert watch.posted() == []
    assert guest.balance() == TOP_UP
