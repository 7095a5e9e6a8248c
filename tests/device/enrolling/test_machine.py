"""An appliance that is nobody yet: each code, answer and failure, and what a person is told."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.enrolling.happenings import (
    PASSING,
    Ask,
    Began,
    CodeSeen,
    Effect,
    Effects,
    Enrolled,
    Enrolling,
    Event,
    Finish,
    Join,
    Joined,
    KeyTapped,
    Need,
    NotEnrolled,
    NotJoined,
    Tick,
    Trouble,
)
from device.enrolling.machine import CLAIM_S, RETRY_MAX_S, deadline_of, light_of, step
from device.enrolling.slips import trouble_slip
from device.till.effects import MakeSound, Print, ShowLight
from device.till.receipt import words_of
from device.till.signals import Light, Sound
from protocol.claim_qr import ClaimQr, claim_qr_text
from protocol.wifi_qr import WifiNetwork, WifiSecurity, wifi_qr_text

CLAIM = ClaimQr(
    host="cloud.example",
    port=8443,
    fingerprint=bytes(32),
    claim_id="ABCDEFGHIJ",
    secret="S" * 32,
)
OTHER = replace(CLAIM, claim_id="KLMNOPQRST")
WIFI = WifiNetwork(ssid="Bar", security=WifiSecurity.WPA, password="open sesame")
HALL = WifiNetwork(ssid="Hall", security=WifiSecurity.OPEN)
SERIAL = "10000000abcdef01"


class Box:
    """An appliance out of its box, and what it did last."""

    def __init__(self, need: Need = Need.BLANK, *, has_certificate: bool = False) -> None:
        self.now = 1000.0
        self.state = Enrolling()
        self.lights: list[Light] = []
        self.effects: Effects = ()
        self.take(Began(need, SERIAL, has_certificate))

    def take(self, event: Event) -> None:
        self.state, self.effects = step(self.state, event, self.now)
        self.lights += [each.light for each in self.effects if isinstance(each, ShowLight)]
        assert self.lights[-1] is light_of(self.state)

    def see(self, thing: ClaimQr | WifiNetwork | str) -> None:
        match thing:
            case ClaimQr():
                self.take(CodeSeen(claim_qr_text(thing)))
            case WifiNetwork():
                self.take(CodeSeen(wifi_qr_text(thing)))
            case str():
                self.take(CodeSeen(thing))

    def wait(self, seconds: float) -> None:
        """Ticks as they fall due."""
        until = self.now + seconds
        done: list[Effect] = []
        while (due := deadline_of(self.state)) is not None and due <= until:
            self.now = max(self.now, due)
            self.take(Tick())
            done += self.effects
            if any(isinstance(each, Ask) for each in self.effects):
                self.take(NotEnrolled(Trouble.NO_WAY))
                done += self.effects
        self.now = until
        self.effects = tuple(done)

    @property
    def light(self) -> Light:
        return self.lights[-1]

    @property
    def asked(self) -> list[ClaimQr | None]:
        return [each.claim for each in self.effects if isinstance(each, Ask)]

    @property
    def joins(self) -> list[WifiNetwork]:
        return [each.network for each in self.effects if isinstance(each, Join)]

    @property
    def sounds(self) -> list[Sound]:
        return [each.sound for each in self.effects if isinstance(each, MakeSound)]

    @property
    def slips(self) -> list[str]:
        return [
            " ".join(word for line in each.slip.lines for word in words_of(line))
            for each in self.effects
            if isinstance(each, Print)
        ]


def test_a_blank_appliance_asks_for_a_code_and_says_how_and_which_serial_it_has() -> None:
    box = Box()
    assert box.light is Light.ENROL
    (slip,) = box.slips
    assert "show the Wi-Fi's code" in slip
    assert "railtix-ops device claim" in slip
    assert SERIAL in slip


def test_an_appliance_whose_certificate_has_expired_says_so_and_that_its_sales_are_kept() -> None:
    (slip,) = Box(Need.EXPIRED).slips
    assert "certificate has run out" in slip
    assert "is kept" in slip


def test_a_wifi_code_and_then_a_claim_make_it_a_till() -> None:
    box = Box()
    box.see(WIFI)
    assert (box.light, box.joins) == (Light.JOINING, [WIFI])
    box.take(Joined())
    assert box.light is Light.ENROL
    box.see(CLAIM)
    assert (box.light, box.asked) == (Light.ASKING, [CLAIM])
    box.take(Enrolled("bar-1"))
    assert box.light is Light.ENROLLED
    assert box.effects[-1] == Finish()
    assert box.sounds == [Sound.REFUNDED]
    box.see(OTHER)
    assert box.effects == ()


def test_where_a_cable_is_plugged_in_the_claim_alone_is_enough() -> None:
    box = Box()
    box.see(CLAIM)
    assert box.asked == [CLAIM]


@pytest.mark.parametrize(
    "rubbish", ["123456789012", "https://example.org", "RTSALE1:a:b", "", "RAILTIX1:torn"]
)
def test_any_other_code_is_three_beeps_once_and_nothing_else(rubbish: str) -> None:
    box = Box()
    box.see(rubbish)
    assert box.effects == (MakeSound(Sound.REFRESH_QR),)
    for _ in range(5):
        box.now += 1.5
        box.see(rubbish)
        assert box.effects == ()
    assert box.light is Light.ENROL


def test_a_claim_that_stays_in_view_is_tried_once_and_again_when_it_comes_back() -> None:
    box = Box()
    box.see(CLAIM)
    box.take(NotEnrolled(Trouble.CLAIM_WRONG))
    for _ in range(20):
        box.now += 1.5
        box.see(CLAIM)
        assert box.effects == ()
    box.now += 4.0
    box.see(CLAIM)
    assert box.asked == [CLAIM]


def test_two_codes_in_view_at_once_are_each_tried_once() -> None:
    box = Box()
    box.see(WIFI)
    box.see(CLAIM)
    for _ in range(5):
        box.now += 1.5
        box.see(WIFI)
        assert box.effects == ()
        box.see(CLAIM)
        assert box.effects == ()
    box.take(Joined())
    assert box.asked == [CLAIM]


@pytest.mark.parametrize("trouble", sorted(set(Trouble) - PASSING))
def test_a_refusal_is_a_lamp_two_beeps_and_a_slip_that_says_what_to_do(trouble: Trouble) -> None:
    box = Box()
    box.see(CLAIM)
    box.take(NotEnrolled(trouble, "detail"))
    assert box.light is Light.NOT_ENROLLED
    assert box.sounds == [Sound.DECLINED]
    (slip,) = box.slips
    assert "Not enrolled" in slip
    assert "detail" in slip
    assert SERIAL in slip
    assert deadline_of(box.state) is None
    box.take(Tick())
    assert box.effects == ()


def test_every_trouble_has_words_of_its_own_and_no_claim_in_them() -> None:
    said = {trouble_slip(each, "", "").lines for each in Trouble}
    assert len(said) == len(Trouble)


def test_without_a_network_the_claim_waits_for_one_and_is_told_once() -> None:
    box = Box()
    box.see(CLAIM)
    box.take(NotEnrolled(Trouble.NO_WAY, "cloud.example:8443"))
    assert box.light is Light.NO_WAY
    (slip,) = box.slips
    assert "Wi-Fi code" in slip
    assert "cloud.example:8443" in slip
    box.wait(120)
    assert len(box.asked) >= 3
    assert box.slips == []
    assert box.light is Light.NO_WAY
    box.see(WIFI)
    box.take(Joined())
    assert box.asked == [CLAIM]
    assert box.light is Light.ASKING
    box.take(Enrolled("bar-1"))
    assert box.light is Light.ENROLLED


def test_it_tries_again_ever_more_slowly_until_the_claim_must_have_run_out() -> None:
    box = Box()
    box.see(CLAIM)
    box.take(NotEnrolled(Trouble.NO_WAY))
    box.wait(CLAIM_S + RETRY_MAX_S)
    assert 10 < len(box.asked) < 25
    assert "has run out" in box.slips[-1]
    assert box.light is Light.NOT_ENROLLED
    assert deadline_of(box.state) is None


def test_a_wifi_joined_while_it_asks_in_vain_is_tried_at_once() -> None:
    box = Box()
    box.see(CLAIM)
    box.see(WIFI)
    assert box.joins == [WIFI]
    assert box.light is Light.JOINING
    box.take(Joined())
    assert box.effects == (ShowLight(Light.ASKING),)
    box.take(NotEnrolled(Trouble.NO_WAY))
    assert deadline_of(box.state) == box.now
    box.take(Tick())
    assert box.asked == [CLAIM]


def test_the_newest_claim_is_tried_once_the_older_one_is_answered() -> None:
    box = Box()
    box.see(CLAIM)
    box.see(OTHER)
    assert box.asked == []
    box.take(NotEnrolled(Trouble.CLAIM_EXPIRED))
    assert box.asked == [OTHER]
    assert box.slips == []


def test_the_newest_wifi_code_wins() -> None:
    for ended in (Joined(), NotJoined(Trouble.WIFI_NOT_JOINED)):
        box = Box()
        box.see(WIFI)
        box.see(HALL)
        assert box.joins == []
        box.take(ended)
        assert (box.joins, box.slips, box.light) == ([HALL], [], Light.JOINING)


def test_a_wifi_that_cannot_be_joined_says_why_and_a_claim_tries_the_cable() -> None:
    box = Box()
    box.see(WIFI)
    box.take(NotJoined(Trouble.WIFI_NOT_JOINED))
    assert box.light is Light.NOT_ENROLLED
    assert "password" in box.slips[0]
    box.see(WIFI)
    assert box.joins == []
    box.now += 5
    box.see(WIFI)
    assert box.joins == [WIFI]
    box.see(CLAIM)
    box.take(NotJoined(Trouble.WIFI_NONE))
    assert box.asked == [CLAIM]


def test_a_wifi_that_fails_while_it_asks_is_told_and_the_asking_goes_on() -> None:
    box = Box()
    box.see(CLAIM)
    box.see(WIFI)
    box.take(NotJoined(Trouble.WIFI_NOT_JOINED))
    assert box.asked == []
    assert len(box.slips) == 1
    box.take(Enrolled("bar-1"))
    assert box.light is Light.ENROLLED


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("WIFI:T:WEP;S:x;P:12345;;", Trouble.WIFI_WEP),
        ("WIFI:T:WPA2-EAP;S:x;;", Trouble.WIFI_ENTERPRISE),
        ("WIFI:T:WPA;S:x;P:short;;", Trouble.WIFI_MALFORMED),
    ],
)
def test_a_wifi_code_of_no_use_is_told_by_name(text: str, trouble: Trouble) -> None:
    box = Box()
    box.see(text)
    assert box.state.trouble is trouble
    assert box.light is Light.NOT_ENROLLED
    assert len(box.slips) == 1


def test_any_key_says_again_what_to_do() -> None:
    box = Box()
    box.take(KeyTapped())
    assert "Show me a code" in box.slips[0]
    box.see(CLAIM)
    box.take(NotEnrolled(Trouble.CLAIM_USED))
    box.take(KeyTapped())
    assert "used before" in box.slips[0]


def test_with_the_certificate_on_the_disk_no_claim_is_needed_and_it_never_gives_up() -> None:
    box = Box(has_certificate=True)
    assert (box.asked, box.light) == ([None], Light.ASKING)
    box.take(NotEnrolled(Trouble.NO_WAY, has_certificate=True))
    assert box.light is Light.NO_WAY
    due = deadline_of(box.state)
    assert due is not None
    box.now = due + 2 * CLAIM_S
    box.take(Tick())
    assert box.asked == [None]
    box.take(NotEnrolled(Trouble.DEVICE_REVOKED))
    assert (box.light, deadline_of(box.state)) == (Light.NOT_ENROLLED, None)


def test_a_certificate_that_is_gone_leaves_nothing_to_try_again() -> None:
    box = Box(has_certificate=True)
    box.take(NotEnrolled(Trouble.NO_WAY))
    assert deadline_of(box.state) is None


def test_a_disk_that_refuses_is_the_fault_light_and_tried_again() -> None:
    box = Box()
    box.see(CLAIM)
    box.take(NotEnrolled(Trouble.DISK))
    assert box.light is Light.FAULT
    assert deadline_of(box.state) is not None


events = st.one_of(
    st.builds(CodeSeen, st.sampled_from([claim_qr_text(CLAIM), claim_qr_text(OTHER), "x", ""])),
    st.builds(CodeSeen, st.sampled_from([wifi_qr_text(WIFI), wifi_qr_text(HALL)])),
    st.just(KeyTapped()),
    st.just(Tick()),
    st.just("joins"),
    st.builds(NotJoined, st.sampled_from([Trouble.WIFI_NONE, Trouble.WIFI_NOT_JOINED])),
    st.builds(NotEnrolled, st.sampled_from(Trouble), has_certificate=st.booleans()),
    st.just(Enrolled("bar-1")),
)


@given(st.lists(st.tuples(events, st.floats(0, 100)), max_size=40))
def test_whatever_happens_one_thing_is_done_at_a_time_and_no_secret_is_shown(
    happenings: list[tuple[Event | str, float]],
) -> None:
    box = Box()
    asks = joins = 0
    for event, seconds in happenings:
        box.now += seconds
        is_answer = isinstance(event, NotEnrolled | Enrolled)
        is_wifi_answer = isinstance(event, NotJoined) or event == "joins"
        # The edge answers what it was asked, and nothing else.
        if (is_answer and asks == 0) or (is_wifi_answer and joins == 0):
            continue
        asks -= is_answer
        joins -= is_wifi_answer
        box.take(Joined() if isinstance(event, str) else event)
        asks += len(box.asked)
        joins += len(box.joins)
        assert 0 <= asks <= 1
        assert 0 <= joins <= 1
        assert (asks == 1) == box.state.is_asking
        assert (joins == 1) == (box.state.network is not None)
        for said in (repr(box.state), repr(box.effects), *box.slips):
            assert CLAIM.secret not in said
            assert WIFI.password not in said
