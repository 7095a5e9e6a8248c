import base64
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from protocol.messages import SignIn
from tests.journeys.bar import DECLINED_HZ, PIN, WITHIN_S, Bar, eventually, now
from tests.journeys.insider import Insider
from venue.desk import IssuedBadge
from venue.lights import Light
from venue.stack import EVENT

pytestmark = pytest.mark.xdist_group("venue")

TRIES_FREE = 5
NIAS_PIN = "60417285"


@dataclass
class NobodyIn:
    """The bar with nobody signed in, and Nia's new badge, at which nobody failed so far."""

    bar: Bar
    badge: IssuedBadge


@pytest.fixture
def nobody_in(bar: Bar) -> Iterator[NobodyIn]:
    bar.sign_out()
    yield NobodyIn(bar, bar.venue.desk.issue_badge(EVENT, "nia", NIAS_PIN))
    # The next test finds Mia here, not whoever signed in meanwhile.
    bar.come_to_rest()
    bar.sign_out()


@pytest.fixture
def insider(bar: Bar) -> Iterator[Insider]:
    with Insider(bar.venue) as insider:
        yield insider


def try_and_fail(nobody_in: NobodyIn, pin: str, named: str) -> None:
    watch = nobody_in.bar.try_pin(nobody_in.badge, pin)
    watch.await_light(Light.DECLINED)
    watch.await_tones(DECLINED_HZ, 2)
    assert watch.await_logged("declined")["detail"] == named
    [audited] = watch.audited("sign_in")
    assert (audited.outcome, audited.actor) == (named, "staff:nia")
    nobody_in.bar.edge.tap("*")  # seen; on to the next badge


def test_staff_sign_out_by_holding_d_and_confirming_and_the_cloud_ends_the_session(
    bar: Bar,
) -> None:
    watch = bar.watch()
    bar.edge.hold("D")
    assert "Shift of MB" in watch.await_paper()
    bar.edge.tap("#")
    watch.await_light(Light.NOBODY_SIGNED_IN)
    [audited] = eventually(lambda: watch.audited("sign_out") or None, "the cloud to be told")
    assert (audited.outcome, audited.device_id) == ("signed_out", bar.appliance.device_id)
    # Nobody is signed in: keys open no sale.
    bar.edge.type("100#")
    assert watch.approvals() == 0
    assert bar.edge.light() is Light.NOBODY_SIGNED_IN


def test_any_other_key_than_the_confirming_one_goes_on_selling(bar: Bar) -> None:
    guest = bar.guest()
    watch = bar.watch()
    bar.edge.hold("D")
    watch.await_paper()
    bar.edge.tap("*")
    assert bar.counter.sell("100#", guest.fresh_qr().digits).light is Light.APPROVED
    assert watch.audited("sign_out") == []


def test_a_wrong_pin_is_declined_by_name_and_the_right_one_then_signs_in(
    nobody_in: NobodyIn,
) -> None:
    bar = nobody_in.bar
    try_and_fail(nobody_in, "2580", "pin_wrong")
    watch = bar.try_pin(nobody_in.badge, NIAS_PIN)
    watch.await_light(Light.READY)
    [audited] = watch.audited("sign_in")
    assert (audited.outcome, audited.actor) == ("signed_in", "staff:nia")
    assert audited.event_id == EVENT


def test_after_five_wrong_pins_the_right_one_is_locked_out_too(nobody_in: NobodyIn) -> None:
    for _ in range(TRIES_FREE):
        try_and_fail(nobody_in, "2580", "pin_wrong")
    try_and_fail(nobody_in, NIAS_PIN, "locked_out")
    # The lock is on that badge at this till: a colleague signs in.
    began = now()
    nobody_in.bar.counter.sign_in(nobody_in.bar.badge)
    nobody_in.bar.await_ready(began)


def test_a_badge_that_was_replaced_signs_nobody_in(nobody_in: NobodyIn) -> None:
    old = nobody_in.badge
    nobody_in.bar.venue.desk.issue_badge(EVENT, "nia", NIAS_PIN)
    try_and_fail(NobodyIn(nobody_in.bar, old), NIAS_PIN, "badge_invalid")


def test_a_pin_is_found_in_no_file_of_the_venue_nor_is_what_it_was_sealed_in(
    nobody_in: NobodyIn, insider: Insider
) -> None:
    bar = nobody_in.bar
    watch = bar.try_pin(bar.badge, PIN)
    watch.await_light(Light.READY)
    request = insider.await_request(SignIn).request
    assert isinstance(request, SignIn)
    secrets = (
        PIN.encode(),
        base64.b64encode(PIN.encode()).rstrip(b"="),
        PIN.encode().hex().encode(),
        request.sealed_pin.encode(),
    )
    [audited] = watch.audited("sign_in")
    is_searched = False
    for path in sorted(bar.venue.folder.rglob("*")):
        if not path.is_file():
            continue
        # SQLite's write-ahead log comes and goes.
        with contextlib.suppress(FileNotFoundError):
            content = path.read_bytes()
            assert not any(secret in content for secret in secrets), path
            is_searched |= audited.request_hash.encode() in content
    assert is_searched, "the search passes over the database"


def test_the_log_never_tells_which_key_was_pressed(nobody_in: NobodyIn) -> None:
    bar = nobody_in.bar
    watch = bar.try_pin(bar.badge, PIN)
    bar.edge.wait_for_light(Light.READY, since=watch.since, timeout_s=WITHIN_S)
    pressed = [line for line in watch.logged("transition") if line["on"] == "KeyPressed"]
    assert pressed
    for line in pressed:
        assert set(line) == {"on", "before", "after", "event", "level", "timestamp"}
