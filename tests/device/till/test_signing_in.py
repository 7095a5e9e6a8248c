import pytest

from device.till.contents import AskToSignIn, AskToSignOut
from device.till.entries import SaleOpened, SessionBegan, SessionEnded
from device.till.events import LinkUp
from device.till.signals import Light, Sound
from device.till.states import (
    KeyingPin,
    LeaveAsked,
    NobodySignedIn,
    Ready,
    Showing,
    SigningIn,
    WaitingForPolicy,
)
from protocol.messages import HeartbeatAnswered, Reason, SignedOut
from tests.device.stage import (
    OTHER_KEY,
    PIN,
    a_badge,
    a_session,
    a_wallet_qr,
    booted,
    declined,
    ready,
    with_policy,
)


def test_a_till_without_a_policy_sells_nothing_and_asks_for_nothing() -> None:
    stage = booted()
    stage.take(LinkUp())
    stage.press("500#A1#")
    stage.show(a_badge())
    assert stage.till.phase == WaitingForPolicy()
    assert stage.light is Light.OFFLINE_NOT_ALLOWED
    assert stage.sent == []


def test_with_a_policy_the_till_looks_for_a_badge() -> None:
    stage = with_policy()
    assert stage.till.phase == NobodySignedIn()
    assert stage.light is Light.NOBODY_SIGNED_IN
    assert stage.is_looking


def test_a_badge_and_its_pin_begin_a_session_that_is_journaled_with_its_proof() -> None:
    stage = with_policy()
    stage.show(a_badge())
    assert (stage.light, stage.is_looking) == (Light.KEY_THE_AMOUNT, False)
    stage.press(f"{PIN}#")
    sign_in = stage.last(AskToSignIn)
    assert isinstance(sign_in.content, AskToSignIn)
    assert sign_in.content.pin.digits == PIN
    assert stage.light is Light.ASKING
    stage.answer(a_session())
    assert stage.till.phase == Ready()
    assert stage.light is Light.READY
    assert stage.journal[-1] == SessionBegan(a_session(), "signed.reply.token")


def test_a_pin_stands_in_no_repr_and_in_no_journal_entry() -> None:
    stage = ready()
    assert all(PIN not in each for each in stage.seen)
    assert all(PIN not in repr(each) for each in stage.journal)
    assert PIN not in repr(stage.sent)


@pytest.mark.parametrize("reason", [Reason.PIN_WRONG, Reason.PIN_NOT_ALLOWED, None])
def test_the_pin_leaves_the_state_with_the_answer_and_with_the_time_out(
    reason: Reason | None,
) -> None:
    stage = with_policy()
    stage.show(a_badge())
    stage.press(f"{PIN}#")
    assert isinstance(stage.till.phase, SigningIn)
    assert stage.till.phase.keyed is not None
    if reason is None:
        stage.wait(5)
    else:
        stage.answer(declined(reason))
    assert isinstance(stage.till.phase, Showing)
    assert not any(hasattr(stage.till.phase, name) for name in ("pin", "badge", "keyed"))


@pytest.mark.parametrize("text", ["WIFI:S:fair;;", "https://example.org", "", "1" * 5000, "é" * 9])
def test_any_other_code_is_no_badge(text: str) -> None:
    stage = with_policy()
    stage.show(text)
    assert stage.light is Light.REFRESH_QR
    assert stage.notes[-1].detail == "not_a_badge"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (a_badge(key=OTHER_KEY), "bad_signature"),
        (a_badge(event_id="winter"), "badge_other_event"),
        (a_wallet_qr(), "wrong_type"),
    ],
    ids=["forged", "another event", "a wallet"],
)
def test_a_badge_that_does_not_count_here_is_refused_by_name(text: str, reason: str) -> None:
    stage = with_policy()
    stage.show(text)
    assert stage.notes[-1].detail == reason
    assert stage.sounds[-1] is Sound.REFRESH_QR
    stage.wait(3)
    assert stage.light is Light.NOBODY_SIGNED_IN
    assert stage.is_looking


def test_a_refused_badge_that_stays_in_view_is_refused_once() -> None:
    stage = with_policy()
    bad = a_badge(key=OTHER_KEY)
    stage.show(bad)
    stage.wait(1.5)
    stage.show(bad)
    assert isinstance(stage.till.phase, Showing)
    stage.wait(1.5)
    stage.show(bad)
    assert stage.till.phase.__class__ is NobodySignedIn
    assert stage.lights.count(Light.REFRESH_QR) == 1
    stage.wait(5)
    stage.show(bad)
    assert stage.lights.count(Light.REFRESH_QR) == 2


def test_a_good_badge_right_after_a_refused_one_is_taken() -> None:
    stage = with_policy()
    stage.show(a_badge(key=OTHER_KEY))
    stage.show(a_badge())
    assert isinstance(stage.till.phase, KeyingPin)


def test_a_star_clears_the_pin_and_a_second_one_gives_up() -> None:
    stage = with_policy()
    stage.show(a_badge())
    stage.press("12*")
    assert isinstance(stage.till.phase, KeyingPin)
    assert stage.till.phase.pin.digits == ""
    stage.press("*")
    assert stage.till.phase == NobodySignedIn()


def test_a_held_star_gives_up_at_once() -> None:
    stage = with_policy()
    stage.show(a_badge())
    stage.press("12")
    stage.hold("*")
    assert stage.till.phase == NobodySignedIn()


@pytest.mark.parametrize("keys", ["#", "A", "B", "C", "D"])
def test_a_key_that_means_nothing_in_a_pin_is_declined_by_sound(keys: str) -> None:
    stage = with_policy()
    stage.show(a_badge())
    stage.press(keys)
    assert stage.sounds[-1] is Sound.DECLINED
    assert isinstance(stage.till.phase, KeyingPin)


def test_a_pin_has_an_end() -> None:
    stage = with_policy()
    stage.show(a_badge())
    stage.press("1" * 13)
    assert isinstance(stage.till.phase, KeyingPin)
    assert len(stage.till.phase.pin.digits) == 12
    assert stage.sounds[-1] is Sound.DECLINED


def test_a_forgotten_badge_is_forgotten_by_the_till_too() -> None:
    stage = with_policy()
    stage.show(a_badge())
    stage.press("12")
    stage.wait(31)
    assert stage.till.phase == NobodySignedIn()
    assert stage.is_looking


@pytest.mark.parametrize("reason", [Reason.PIN_WRONG, Reason.LOCKED_OUT, Reason.BADGE_INVALID])
def test_a_refused_sign_in_is_red_and_begins_again(reason: Reason) -> None:
    stage = with_policy()
    stage.show(a_badge())
    stage.press(f"{PIN}#")
    stage.answer(declined(reason))
    assert stage.light is Light.DECLINED
    assert stage.notes[-1].detail == reason.value
    stage.wait(2)
    assert stage.till.phase == NobodySignedIn()
    assert not any(isinstance(each, SessionBegan) for each in stage.journal)


def test_a_session_for_another_stall_is_not_taken() -> None:
    stage = with_policy()
    stage.show(a_badge())
    stage.press(f"{PIN}#")
    stage.answer(a_session(stall_id="kitchen"))
    assert stage.till.session is None
    assert stage.notes[-1].detail == "session_for_elsewhere"


@pytest.mark.parametrize(
    "forged", [{"key": "another-key-00000"}, {"request_hash": "x" * 43}], ids=["key", "hash"]
)
def test_a_sign_in_reply_for_another_request_is_ignored(forged: dict[str, str]) -> None:
    stage = with_policy()
    stage.show(a_badge())
    stage.press(f"{PIN}#")
    stage.answer(a_session(), forged=forged)
    assert isinstance(stage.till.phase, SigningIn)
    assert stage.notes[-1].what == "reply_ignored"


def test_an_answer_that_is_none_to_a_sign_in_is_ignored() -> None:
    stage = with_policy()
    stage.show(a_badge())
    stage.press(f"{PIN}#")
    stage.answer(HeartbeatAnswered(0, 1))
    assert isinstance(stage.till.phase, SigningIn)


def test_an_unanswered_sign_in_is_sent_twice_again_and_then_given_up() -> None:
    stage = with_policy()
    stage.show(a_badge())
    stage.press(f"{PIN}#")
    sent = stage.last(AskToSignIn)
    stage.press("1")
    assert isinstance(stage.till.phase, SigningIn)
    stage.wait(3.9)
    assert stage.again == [sent.request_hash] * 2
    stage.wait(0.2)
    assert stage.light is Light.FAULT
    stage.wait(5)
    assert stage.till.phase == NobodySignedIn()
    stage.answer(a_session(), sent)
    assert stage.till.phase == NobodySignedIn()


def test_d_held_and_the_hash_key_sign_out_and_tell_the_cloud_until_it_answers() -> None:
    stage = ready()
    stage.hold("D")
    assert isinstance(stage.till.phase, LeaveAsked)
    stage.press("#")
    assert "Shift of AL" in stage.texts()
    sent = stage.sent[-1]
    assert stage.till.phase == NobodySignedIn()
    assert stage.journal[-1] == SessionEnded("session-0123456789", sent.content.key)
    assert sent.content == AskToSignOut(sent.content.key, "session-0123456789")
    stage.wait(3.5)
    assert stage.again == [sent.request_hash] * 2
    stage.answer(SignedOut("session-0123456789"), sent)
    assert stage.till.outbox == ()
    assert stage.standing.sign_outs == ()


def test_a_sign_out_of_a_session_the_cloud_has_ended_already_is_done() -> None:
    stage = ready()
    stage.hold("D")
    stage.press("#")
    stage.answer(declined(Reason.SESSION_ENDED))
    assert stage.till.outbox == ()


def test_any_other_key_goes_on_selling() -> None:
    stage = ready()
    stage.hold("D")
    stage.press("5")
    assert stage.till.phase == Ready()
    assert stage.till.session is not None


def test_a_sign_out_nobody_confirms_is_none() -> None:
    stage = ready()
    stage.hold("D")
    stage.wait(4.0)
    assert "Shift of AL" in stage.texts()
    stage.wait(10.5)
    assert stage.till.phase == Ready()


def test_a_session_survives_a_power_cut_until_it_expires() -> None:
    stage = ready(session=a_session(expires_in_s=3600))
    stage.cut_power()
    assert stage.till.phase == Ready()
    assert stage.till.session == a_session(expires_in_s=3600)
    stage.wait(3600)
    stage.cut_power()
    assert stage.till.phase == NobodySignedIn()


def test_a_session_that_runs_out_ends_before_the_next_key_counts() -> None:
    stage = ready(session=a_session(expires_in_s=60))
    stage.press("50")
    stage.wait(61)
    stage.press("0#")
    assert stage.till.phase == NobodySignedIn()
    assert stage.light is Light.NOBODY_SIGNED_IN


def test_after_a_sign_out_a_power_cut_brings_nobody_back() -> None:
    stage = ready()
    stage.hold("D")
    stage.press("#")
    stage.cut_power()
    assert stage.till.phase == NobodySignedIn()
    assert stage.till.outbox[0].content.key == stage.standing.sign_outs[0].key


def test_a_number_keyed_while_the_shift_report_is_out_is_not_sold_without_its_first_digit() -> None:
    stage = ready()
    stage.hold("D")
    stage.press("1250#")
    assert stage.till.phase == Ready()
    assert not [each for each in stage.journal if isinstance(each, SaleOpened)]
    assert stage.sounds[-1] is Sound.DECLINED
    stage.press("1250#")
    assert isinstance(stage.journal[-1], SaleOpened)
