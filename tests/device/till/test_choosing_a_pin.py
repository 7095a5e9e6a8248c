"""A badge without a PIN: its holder keys the one they want twice, and is signed in with it."""

import pytest

from device.till.contents import AskToChoosePin, AskToSignIn
from device.till.entries import SessionBegan
from device.till.events import QrSeen
from device.till.receipt import SlipKind
from device.till.signals import Light, Sound
from device.till.states import (
    KeyingPin,
    KeyingPinAgain,
    NobodySignedIn,
    Ready,
    Showing,
    SigningIn,
)
from protocol.messages import Reason
from protocol.policy import Badge, sign_badge
from protocol.wallet_qr import to_digits
from tests.device.stage import BADGE_KEY, PIN, Stage, a_badge, a_session, declined, with_policy

OTHER_PIN = "8306"


def paper(stage: Stage) -> str:
    return " ".join(stage.texts())


def wanted_again() -> Stage:
    """The badge has no PIN yet: the one that was keyed is wanted once more."""
    stage = with_policy()
    stage.show(a_badge())
    stage.press(f"{PIN}#")
    stage.answer(declined(Reason.PIN_NOT_SET))
    assert isinstance(stage.till.phase, KeyingPinAgain)
    return stage


def choosing() -> Stage:
    """The same PIN was keyed twice and is on its way."""
    stage = wanted_again()
    stage.press(f"{PIN}#")
    assert isinstance(stage.till.phase, SigningIn)
    return stage


def test_a_badge_without_a_pin_asks_for_the_new_one_once_more_by_light_beep_and_slip() -> None:
    stage = wanted_again()
    assert (stage.light, stage.is_looking) == (Light.KEY_THE_AMOUNT, False)
    assert stage.sounds[-1] is Sound.SCANNED
    assert "New PIN" in paper(stage)
    assert "once more and #" in paper(stage)
    # Whoever was asked has gone when a printer comes back: it is not printed late.
    assert stage.slips[-1].kind is SlipKind.QUESTION


def test_the_same_pin_twice_is_sent_to_be_kept_and_signs_in() -> None:
    stage = choosing()
    sent = stage.last(AskToChoosePin)
    first = stage.last(AskToSignIn)
    assert isinstance(sent.content, AskToChoosePin)
    assert isinstance(first.content, AskToSignIn)
    assert (sent.content.pin.digits, sent.content.badge) == (PIN, first.content.badge)
    assert sent.content.key != first.content.key
    assert (sent.expiry_s, stage.light) == (4, Light.ASKING)
    stage.answer(a_session(), sent)
    assert stage.till.phase == Ready()
    assert stage.journal[-1] == SessionBegan(a_session(), "signed.reply.token")


def test_a_new_pin_stands_in_no_repr_and_no_journal_entry() -> None:
    stage = choosing()
    assert PIN not in repr(stage.till)
    stage.answer(a_session(), stage.last(AskToChoosePin))
    assert all(PIN not in each for each in stage.seen)
    assert all(PIN not in repr(each) for each in stage.journal)
    assert PIN not in repr(stage.sent)
    assert PIN not in repr(stage.slips)


def test_once_it_was_keyed_twice_the_pin_leaves_the_state_with_the_request() -> None:
    phase = choosing().till.phase
    assert isinstance(phase, SigningIn)
    assert phase.keyed is None


@pytest.mark.parametrize("second", [OTHER_PIN, PIN[:-1], f"{PIN}0"])
def test_two_pins_that_differ_are_declined_and_nothing_is_sent(second: str) -> None:
    stage = wanted_again()
    stage.press(f"{second}#")
    assert (stage.light, stage.sounds[-1]) == (Light.DECLINED, Sound.DECLINED)
    assert stage.notes[-1].detail == "pins_differ"
    assert "differ" in paper(stage)
    assert not any(isinstance(each.content, AskToChoosePin) for each in stage.sent)
    stage.wait(2)
    assert stage.till.phase == NobodySignedIn()
    assert stage.is_looking


def test_a_star_starts_over_with_the_same_badge() -> None:
    stage = wanted_again()
    stage.press("12*")
    assert isinstance(stage.till.phase, KeyingPin)
    assert stage.till.phase.pin.digits == ""
    assert stage.light is Light.KEY_THE_AMOUNT
    stage.press(f"{OTHER_PIN}#")
    stage.answer(declined(Reason.PIN_NOT_SET))
    stage.press(f"{OTHER_PIN}#")
    sent = stage.last(AskToChoosePin).content
    assert isinstance(sent, AskToChoosePin)
    assert sent.pin.digits == OTHER_PIN


def test_a_held_star_gives_up_at_once() -> None:
    stage = wanted_again()
    stage.press("12")
    stage.hold("*")
    assert stage.till.phase == NobodySignedIn()


@pytest.mark.parametrize("key", ["#", "A", "B", "C", "D"])
def test_a_key_that_means_nothing_is_declined_by_sound_and_changes_nothing(key: str) -> None:
    stage = wanted_again()
    stage.press(key)
    stage.hold("D")
    assert stage.sounds[-2:] == [Sound.DECLINED, Sound.DECLINED]
    stage.press(f"{PIN}#")
    assert isinstance(stage.last(AskToChoosePin).content, AskToChoosePin)


def test_a_second_pin_has_an_end_too() -> None:
    stage = wanted_again()
    stage.press("1" * 13)
    assert isinstance(stage.till.phase, KeyingPinAgain)
    assert len(stage.till.phase.pin.digits) == 12
    assert stage.sounds[-1] is Sound.DECLINED


def test_whoever_walks_away_between_the_two_is_forgotten() -> None:
    stage = wanted_again()
    stage.wait(20)
    stage.press("1")
    stage.wait(20)
    assert isinstance(stage.till.phase, KeyingPinAgain)
    stage.wait(11)
    assert stage.till.phase == NobodySignedIn()
    assert PIN not in str(stage.till.__dict__)


def test_another_badge_held_up_between_the_two_is_not_looked_at() -> None:
    """The camera is off; and a code it read just before changes no badge."""
    stage = wanted_again()
    first = stage.last(AskToSignIn).content
    zoes = sign_badge(Badge(1, "BBBBBBBBBBB", "zoe", "summer"), BADGE_KEY, "b1")
    stage.take(QrSeen(to_digits(zoes)))
    stage.press(f"{PIN}#")
    sent = stage.last(AskToChoosePin).content
    assert isinstance(sent, AskToChoosePin)
    assert isinstance(first, AskToSignIn)
    assert sent.badge == first.badge


def test_the_answer_to_the_sign_in_said_again_changes_nothing() -> None:
    """It was sent three times; each of its answers says that there is no PIN."""
    stage = wanted_again()
    first = stage.last(AskToSignIn)
    stage.press("1")
    before = stage.till.phase
    stage.answer(declined(Reason.PIN_NOT_SET), first)
    assert stage.till.phase == before
    assert stage.notes[-1].what == "reply_ignored"


def test_late_and_doubled_answers_begin_no_second_session() -> None:
    stage = choosing()
    stage.answer(declined(Reason.PIN_NOT_SET), stage.last(AskToSignIn))
    assert isinstance(stage.till.phase, SigningIn)
    stage.answer(a_session(), stage.last(AskToChoosePin))
    stage.answer(a_session(expires_in_s=7200), stage.last(AskToChoosePin))
    assert stage.till.session == a_session()


@pytest.mark.parametrize(
    "forged", [{"key": "another-key-00000"}, {"request_hash": "x" * 43}], ids=["key", "hash"]
)
def test_a_reply_for_another_request_is_ignored(forged: dict[str, str]) -> None:
    stage = choosing()
    stage.answer(a_session(), stage.last(AskToChoosePin), forged=forged)
    assert isinstance(stage.till.phase, SigningIn)


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (Reason.PIN_NOT_ALLOWED, "4 to 8 digits"),
        (Reason.PIN_SET_ALREADY, "has a PIN by now"),
        (Reason.PIN_CHOICE_OVER, "Ask for a new badge"),
    ],
)
def test_what_is_refused_about_a_new_pin_is_told_on_paper(reason: Reason, said: str) -> None:
    stage = choosing()
    stage.answer(declined(reason), stage.last(AskToChoosePin))
    assert stage.light is Light.DECLINED
    assert said in paper(stage)
    stage.wait(2)
    assert stage.till.phase == NobodySignedIn()


@pytest.mark.parametrize("reason", [Reason.PIN_NOT_ALLOWED, Reason.PIN_CHOICE_OVER])
def test_what_can_be_refused_at_once_is_refused_before_it_is_keyed_twice(reason: Reason) -> None:
    stage = with_policy()
    stage.show(a_badge())
    stage.press("1234#")
    stage.answer(declined(reason))
    assert isinstance(stage.till.phase, Showing)
    assert "Not signed in" in paper(stage)


def test_a_cloud_that_has_no_pin_while_one_is_chosen_is_asked_no_third_time() -> None:
    stage = choosing()
    stage.answer(declined(Reason.PIN_NOT_SET), stage.last(AskToChoosePin))
    assert stage.light is Light.DECLINED


def test_an_unanswered_choice_is_sent_again_and_says_that_the_pin_may_stand() -> None:
    stage = choosing()
    sent = stage.last(AskToChoosePin)
    stage.wait(3.9)
    assert stage.again == [sent.request_hash] * 2
    stage.wait(0.2)
    assert stage.light is Light.FAULT
    assert "key the same PIN" in paper(stage)
    assert (stage.notes[-1].what, stage.notes[-1].detail) == ("no_reply", "choose_pin")
    stage.wait(5)
    # It did stand: badge and the same PIN are an ordinary sign-in now.
    stage.show(a_badge())
    stage.press(f"{PIN}#")
    stage.answer(a_session())
    assert stage.till.phase == Ready()


def test_after_a_power_cut_while_choosing_the_badge_is_shown_anew() -> None:
    for stage in (wanted_again(), choosing()):
        stage.cut_power()
        assert stage.till.phase == NobodySignedIn()
        assert not any(isinstance(each, SessionBegan) for each in stage.journal)
