import pytest

from device.till.contents import AskForBalance, AskToDeduct
from device.till.entries import SaleAnswered, SaleCancelled, SaleOpened, SessionEnded
from device.till.events import LinkDown
from device.till.scanning_first import SCANNED_S
from device.till.signals import Light, Sound
from device.till.states import (
    Asking,
    KeyingAmount,
    KeyingProducts,
    NobodySignedIn,
    Ready,
    Scanning,
    Showing,
)
from protocol.messages import BalanceShown, Reason, SaleName
from protocol.money import Money
from protocol.receipt_qr import write
from tests.device.stage import (
    OTHER_KEY,
    Stage,
    a_badge,
    a_policy,
    a_session,
    a_wallet_qr,
    approved,
    declined,
    ready,
)

ANNA = a_wallet_qr(1, payer="annaannaann")
ANNAS_NEXT = a_wallet_qr(2, payer="annaannaann")
BEN = a_wallet_qr(3, payer="benbenbenbe")
RECEIPT = write(SaleName("till-1", "key-000000000001"))


def scanned(text: str = ANNA) -> Stage:
    """A wallet QR was shown before anything was keyed."""
    stage = ready()
    stage.wait(10)
    stage.show(text)
    return stage


def pending(stage: Stage) -> str | None:
    phase = stage.till.phase
    assert isinstance(phase, Ready | KeyingAmount | KeyingProducts)
    return None if phase.scanned is None else phase.scanned.text


def test_the_camera_looks_while_the_till_is_ready() -> None:
    assert ready().is_looking


def test_a_wallet_shown_while_ready_is_asked_about_and_lights_key_the_amount() -> None:
    stage = scanned()
    question = stage.sent[-1]
    assert isinstance(question.content, AskForBalance)
    assert question.expiry_s == 4
    assert (stage.light, stage.sounds[-1]) == (Light.KEY_THE_AMOUNT, Sound.SCANNED)
    assert not any(isinstance(each, SaleOpened) for each in stage.journal)


@pytest.mark.parametrize(("keys", "cents"), [("500#", 500), ("A3A3#", 400)])
def test_amount_or_products_then_deduct_at_once_from_the_code_already_read(
    keys: str, cents: int
) -> None:
    stage = scanned()
    stage.press(keys)
    assert isinstance(stage.till.phase, Asking)
    assert Light.SHOW_QR not in stage.lights
    sent = stage.last(AskToDeduct)
    assert isinstance(sent.content, AskToDeduct)
    assert stage.journal[-1] == sent.content.sale
    assert sent.content.sale.amount.amount_in_cents == cents
    stage.answer(approved(cents), sent)
    assert stage.light is Light.APPROVED


def test_the_balance_is_known_once_it_was_answered() -> None:
    stage = scanned()
    stage.answer(BalanceShown(Money(1700, "EUR")))
    assert isinstance(stage.till.phase, Ready)
    assert stage.till.phase.scanned is not None
    assert stage.till.phase.scanned.balance == Money(1700, "EUR")
    assert stage.light is Light.KEY_THE_AMOUNT


def test_without_an_answer_the_amount_can_be_keyed_all_the_same() -> None:
    stage = scanned()
    stage.wait(8)
    assert stage.light is Light.KEY_THE_AMOUNT
    stage.press("500#")
    assert isinstance(stage.till.phase, Asking)


@pytest.mark.parametrize("reason", [Reason.TOKEN_EXPIRED, Reason.TOKEN_ALREADY_USED])
@pytest.mark.parametrize("keys", ["", "50", "A1A"])
def test_a_code_that_will_not_do_is_refused_at_once_and_what_is_keyed_stays(
    reason: Reason, keys: str
) -> None:
    stage = scanned()
    stage.press(keys)
    stage.answer(declined(reason), stage.last(AskForBalance))
    assert (stage.light, stage.sounds[-1]) == (Light.REFRESH_QR, Sound.REFRESH_QR)
    assert stage.is_looking
    stage.wait(3)
    assert pending(stage) is None
    assert stage.light is Light.READY
    stage.press("*" if not keys else "")
    if keys == "50":
        assert stage.till.phase == KeyingAmount("50")


def test_the_phones_fresh_code_is_taken_after_a_refusal_and_the_old_one_is_not() -> None:
    stage = scanned()
    stage.answer(declined(Reason.TOKEN_EXPIRED), stage.last(AskForBalance))
    stage.show(ANNA)
    stage.wait(1)
    assert isinstance(stage.till.phase, Showing)
    stage.show(ANNAS_NEXT)
    assert pending(stage) == ANNAS_NEXT
    assert stage.light is Light.KEY_THE_AMOUNT


def test_a_wallet_nobody_knows_is_declined_and_not_asked_about_again() -> None:
    stage = scanned()
    stage.press("5")
    stage.answer(declined(Reason.UNKNOWN_PAYER), stage.last(AskForBalance))
    assert stage.light is Light.DECLINED
    stage.wait(2.5)
    assert stage.till.phase == KeyingAmount("5")
    asked = len(stage.sent)
    stage.show(ANNA)
    assert len(stage.sent) == asked


def test_a_session_that_is_over_ends_here_too() -> None:
    stage = scanned()
    stage.answer(declined(Reason.SESSION_ENDED), stage.last(AskForBalance))
    assert isinstance(stage.journal[-1], SessionEnded)
    stage.wait(3)
    assert isinstance(stage.till.phase, NobodySignedIn)


@pytest.mark.parametrize("reason", [Reason.MALFORMED, Reason.UNSUPPORTED_VERSION])
def test_an_answer_that_says_nothing_of_the_wallet_changes_nothing(reason: Reason) -> None:
    stage = scanned()
    stage.answer(declined(reason), stage.last(AskForBalance))
    assert pending(stage) == ANNA
    stage.answer(approved(), stage.last(AskForBalance))
    assert pending(stage) == ANNA


def test_an_answer_about_another_question_is_ignored() -> None:
    stage = scanned()
    question = stage.last(AskForBalance)
    stage.show(BEN)
    stage.answer(declined(Reason.TOKEN_EXPIRED), question)
    assert pending(stage) == BEN
    stage.answer(BalanceShown(Money(1, "EUR")), stage.sent[-1], {"request_hash": "x" * 43})
    assert pending(stage) == BEN


def test_a_late_answer_after_the_deduct_is_ignored() -> None:
    stage = scanned()
    question = stage.sent[-1]
    stage.press("500#")
    stage.answer(declined(Reason.TOKEN_EXPIRED), question)
    assert isinstance(stage.till.phase, Asking)


def test_a_code_that_ran_out_meanwhile_asks_for_a_fresh_one_under_a_new_key() -> None:
    stage = scanned()
    stage.press("500#")
    first = stage.last(AskToDeduct)
    stage.answer(declined(Reason.TOKEN_EXPIRED), first)
    assert stage.light is Light.REFRESH_QR
    stage.show(ANNAS_NEXT)
    again = stage.last(AskToDeduct)
    assert again.content.key != first.content.key
    stage.answer(approved(), again)
    assert stage.light is Light.APPROVED


def test_any_other_wallet_replaces_the_one_that_waits() -> None:
    stage = scanned()
    stage.show(BEN)
    assert pending(stage) == BEN
    stage.press("500#")
    sent = stage.last(AskToDeduct)
    assert isinstance(sent.content, AskToDeduct)
    assert sent.content.wallet_qr != stage.last(AskForBalance).content.key
    assert isinstance(stage.till.phase, Asking)
    assert stage.till.phase.text == BEN


def test_two_phones_side_by_side_do_not_take_turns() -> None:
    stage = scanned()
    beeps = stage.sounds.count(Sound.SCANNED)
    stage.show(BEN)
    for _ in range(3):
        stage.wait(1)
        stage.show(ANNA)
        stage.show(BEN)
    assert pending(stage) == BEN
    assert stage.sounds.count(Sound.SCANNED) == beeps + 1


def test_a_phone_that_another_replaced_does_not_come_back_with_its_younger_code() -> None:
    """Nobody touched it: it would pay for what is keyed for the customer beside it."""
    stage = scanned()
    stage.show(BEN)
    stage.press("50")
    stage.show(ANNAS_NEXT)
    assert pending(stage) == BEN
    stage.press("0#")
    assert isinstance(stage.till.phase, Asking)
    assert stage.till.phase.text == BEN


def test_the_same_phones_younger_code_replaces_the_older_one_without_a_word() -> None:
    stage = scanned()
    beeps, asked = len(stage.sounds), len(stage.sent)
    stage.show(ANNAS_NEXT)
    assert pending(stage) == ANNAS_NEXT
    stage.show(ANNA)
    assert pending(stage) == ANNAS_NEXT
    assert (len(stage.sounds), len(stage.sent)) == (beeps, asked)
    stage.answer(BalanceShown(Money(5, "EUR")), stage.sent[-1])
    assert pending(stage) == ANNAS_NEXT


def test_a_star_drops_it_and_it_is_not_taken_again_while_it_lies_there() -> None:
    stage = scanned()
    stage.press("*")
    assert stage.till.phase == Ready()
    assert stage.light is Light.READY
    for text in (ANNA, ANNAS_NEXT, ANNA):
        stage.wait(2)
        stage.show(text)
    assert stage.till.phase == Ready()
    stage.wait(5)
    stage.show(ANNA)
    assert pending(stage) == ANNA


def test_a_star_clears_digits_first_and_a_held_one_drops_all() -> None:
    stage = scanned()
    stage.press("50*")
    assert pending(stage) == ANNA
    assert isinstance(stage.till.phase, Ready)
    stage.press("A1")
    stage.hold("*")
    assert stage.till.phase == Ready()
    assert stage.light is Light.READY


def test_after_half_a_minute_without_a_key_it_is_dropped() -> None:
    stage = scanned()
    stage.wait(SCANNED_S - 1)
    stage.press("5")
    stage.wait(SCANNED_S - 1)
    assert pending(stage) == ANNA
    stage.wait(1)
    assert stage.till.phase == KeyingAmount("5")
    assert stage.light is Light.READY
    stage.press("00#")
    assert isinstance(stage.till.phase, Scanning)


def test_a_wallet_shown_while_an_amount_is_keyed_counts_as_scanned_first() -> None:
    stage = ready()
    stage.press("50")
    stage.show(ANNA)
    assert stage.light is Light.KEY_THE_AMOUNT
    stage.press("0#")
    assert isinstance(stage.till.phase, Asking)


@pytest.mark.parametrize(
    "text",
    [RECEIPT, "WIFI:S:fair;;", a_badge(event_id="winter")],
    ids=["a receipt", "a network", "a badge"],
)
def test_another_code_is_refused_gently_and_once_while_it_lies_there(text: str) -> None:
    stage = ready()
    for _ in range(4):
        stage.show(text)
        stage.wait(2)
    assert stage.sounds.count(Sound.REFRESH_QR) == 1
    assert Light.REFRESH_QR not in stage.lights
    assert stage.till.phase == Ready()
    stage.wait(5)
    stage.show(text)
    assert stage.sounds.count(Sound.REFRESH_QR) == 2


def test_the_badge_that_signed_in_may_lie_there() -> None:
    stage = ready()
    stage.show(a_badge())
    assert Sound.REFRESH_QR not in stage.sounds


def test_a_forged_wallet_asks_for_a_fresh_code_and_keeps_the_good_one() -> None:
    stage = scanned()
    stage.show(a_wallet_qr(9, key=OTHER_KEY, payer="eveeveeveev"))
    assert stage.light is Light.REFRESH_QR
    stage.wait(3)
    assert pending(stage) == ANNA
    assert stage.light is Light.KEY_THE_AMOUNT


def test_a_key_newer_than_the_policy_is_for_the_cloud_to_know() -> None:
    stage = scanned(a_wallet_qr(5, key=OTHER_KEY, kid="w9"))
    assert isinstance(stage.sent[-1].content, AskForBalance)


def test_the_customer_before_is_not_charged_again_while_the_phone_lies_there() -> None:
    stage = ready()
    stage.press("500#")
    stage.show(ANNA)
    stage.answer(approved(), stage.last(AskToDeduct))
    stage.wait(2)
    assert isinstance(stage.till.phase, Ready)
    asked = len(stage.sent)
    for _ in range(3):
        stage.show(ANNAS_NEXT)
        stage.wait(2)
    assert stage.till.phase == Ready()
    assert len([e for e in stage.sent[asked:] if isinstance(e.content, AskForBalance)]) == 0
    stage.show(BEN)
    assert pending(stage) == BEN


def test_without_a_link_it_is_taken_and_nobody_is_asked() -> None:
    stage = ready()
    stage.take(LinkDown())
    asked = len(stage.sent)
    stage.show(ANNA)
    assert pending(stage) == ANNA
    assert stage.light is Light.KEY_THE_AMOUNT
    assert len(stage.sent) == asked


@pytest.mark.parametrize("keys", ["0#", "99999999#", "A9#", "A3" * 1000 + "#"])
def test_a_sale_refused_before_it_began_keeps_the_code_for_the_next_try(keys: str) -> None:
    stage = scanned()
    stage.press(keys)
    assert stage.light is Light.DECLINED
    stage.wait(2.5)
    assert pending(stage) == ANNA
    stage.press("500#")
    assert isinstance(stage.till.phase, Asking)


def test_a_sale_that_could_not_be_journaled_was_never_asked_for() -> None:
    stage = scanned()
    sent = len(stage.sent)
    stage.failing_writes = True
    stage.press("500#")
    assert stage.light is Light.FAULT
    assert len(stage.sent) == sent
    stage.failing_writes = False
    stage.wait(6)
    assert stage.standing.sales == ()
    assert not any(isinstance(each, SaleAnswered | SaleCancelled) for each in stage.journal)


def test_a_session_that_runs_out_takes_the_scanned_code_with_it() -> None:
    stage = ready(a_policy(), a_session(expires_in_s=20))
    stage.show(ANNA)
    stage.wait(25)
    stage.press("5")
    assert isinstance(stage.till.phase, NobodySignedIn)


def test_no_code_stands_in_a_repr() -> None:
    stage = scanned()
    stage.press("500#")
    assert all(ANNA not in each for each in stage.seen)
