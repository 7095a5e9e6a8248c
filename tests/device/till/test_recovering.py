from datetime import UTC

import pytest

from device.till.contents import AskToCancel, AskToDeduct
from device.till.entries import (
    CancelReason,
    LightShown,
    MessageClosed,
    PolicyTaken,
    SaleAbandoned,
    SaleAnswered,
    SaleCancelled,
    SaleKept,
    SaleOpened,
    SessionEnded,
)
from device.till.events import JournalFailed, KeyPressed, LinkUp, PolicyArrived
from device.till.signals import Light, Sound
from device.till.states import (
    Asking,
    HandedOverAsked,
    JournalBroken,
    NobodySignedIn,
    Ready,
    Scanning,
    WaitingForPolicy,
    deadline_of,
)
from protocol.messages import Reason, SignedOut
from tests.device.stage import (
    Stage,
    a_policy,
    a_wallet_qr,
    approved,
    asking,
    booted,
    cancelling,
    confirm_cancel,
    declined,
    ready,
    scanning,
)


def approved_but_not_shown(times: int = 1) -> Stage:
    """The power goes between the journaled approval and the journaled light, `times` times."""
    stage = ready()
    for number in range(times):
        stage.press("500#")
        stage.show(a_wallet_qr(number))
        stage.answer(approved())
        assert isinstance(stage.journal.pop(), LightShown)
        if number < times - 1:
            stage.press("*")
    stage.cut_power()
    return stage


def test_a_new_appliance_waits_for_its_policy() -> None:
    assert booted().till.phase == WaitingForPolicy()


@pytest.mark.parametrize("before", [scanning, asking])
def test_a_sale_without_a_decision_is_cancelled_after_a_power_cut(before: object) -> None:
    assert callable(before)
    stage = before()
    assert isinstance(stage, Stage)
    sale = stage.standing.sales[0].sale
    stage.cut_power()
    assert stage.journal[-1] == SaleCancelled(sale.key, CancelReason.NO_DECISION_AT_START)
    assert stage.last(AskToCancel).content == AskToCancel(sale)
    assert stage.till.phase == Ready()
    confirm_cancel(stage)
    assert stage.standing.sales == ()


def test_a_cancel_without_an_answer_is_sent_again_after_a_power_cut() -> None:
    stage = cancelling()
    entries = len(stage.journal)
    stage.cut_power()
    assert len(stage.journal) == entries
    stage.again.clear()
    stage.connect()
    assert stage.again == [stage.last(AskToCancel).request_hash]
    confirm_cancel(stage)
    assert isinstance(stage.journal[-1], MessageClosed)


def test_an_approval_that_may_not_have_been_seen_is_put_to_staff_and_never_lit_green() -> None:
    stage = approved_but_not_shown()
    stage.lights.clear()
    assert isinstance(stage.till.phase, HandedOverAsked)
    assert "Handed over?" in stage.texts()
    stage.press("5A")
    assert isinstance(stage.till.phase, HandedOverAsked)
    assert stage.sounds[-1] is Sound.DECLINED
    stage.wait(3.0)
    stage.press("#")
    assert isinstance(stage.journal[-1], SaleKept)
    assert stage.till.phase == Ready()
    assert Light.APPROVED not in stage.lights
    assert stage.standing.sales == ()


def test_staff_who_did_not_hand_over_cancel_with_a_held_star() -> None:
    stage = approved_but_not_shown()
    sale = stage.standing.sales[0].sale
    stage.press("*")
    assert isinstance(stage.till.phase, HandedOverAsked)
    stage.hold("*")
    assert stage.journal[-1] == SaleCancelled(sale.key, CancelReason.NOT_HANDED_OVER)
    assert stage.last(AskToCancel).content == AskToCancel(sale)
    confirm_cancel(stage)
    assert stage.standing.sales == ()


def test_an_answer_that_the_disk_does_not_take_is_asked_for_again() -> None:
    """Told the cloud from memory, it would be forgotten by a power cut, and the next one differ."""
    stage = approved_but_not_shown()
    sale = stage.standing.sales[0].sale
    sent = len(stage.sent)
    stage.failing_writes = stage.failing_opens = True
    stage.hold("*")
    assert isinstance(stage.till.phase, JournalBroken)
    assert stage.light is Light.OFFLINE_NOT_ALLOWED, "nothing is decided: no word about a sale"
    assert len(stage.sent) == sent
    stage.failing_writes = stage.failing_opens = False
    stage.wait(20.0)
    assert isinstance(stage.till.phase, HandedOverAsked)
    assert (len(stage.sent), stage.till.outbox) == (sent, ())
    stage.hold("*")
    assert stage.journal[-1] == SaleCancelled(sale.key, CancelReason.NOT_HANDED_OVER)
    assert stage.last(AskToCancel).content == AskToCancel(sale)


def test_every_unseen_approval_is_asked_about_one_by_one() -> None:
    stage = approved_but_not_shown(times=2)
    slips = len(stage.slips)
    stage.press("#")
    assert isinstance(stage.till.phase, HandedOverAsked)
    assert len(stage.slips) == slips + 1
    stage.hold("*")
    assert stage.till.phase == Ready()


def test_the_question_comes_again_after_another_power_cut() -> None:
    stage = approved_but_not_shown()
    stage.cut_power()
    assert isinstance(stage.till.phase, HandedOverAsked)


def test_the_question_can_be_asked_before_there_is_a_policy() -> None:
    stage = approved_but_not_shown()
    stage.policy = None
    stage.cut_power()
    assert isinstance(stage.till.phase, HandedOverAsked)
    stage.press("#")
    assert stage.till.phase == WaitingForPolicy()


def test_a_full_disk_at_the_replys_fsync_is_a_fault_and_a_cancel_from_memory() -> None:
    stage = asking()
    sale = stage.standing.sales[0].sale
    stage.failing_writes = True
    stage.answer(approved())
    assert Light.APPROVED not in stage.lights
    assert (stage.light, stage.sounds[-1]) == (Light.FAULT, Sound.FAULT)
    assert stage.sent[-1].content == AskToCancel(sale)
    assert isinstance(stage.till.phase, JournalBroken)
    assert "Out of order" in stage.texts()


def test_nothing_is_sold_until_the_journal_opens_and_then_it_learns_of_the_cancel() -> None:
    stage = asking()
    sale = stage.standing.sales[0].sale
    stage.failing_writes = stage.failing_opens = True
    stage.answer(approved())
    stage.press("500#")
    stage.show(a_wallet_qr(2))
    slips, openings = len(stage.slips), stage.openings
    stage.wait(16)
    assert stage.openings == openings + 3
    assert len(stage.slips) == slips
    assert isinstance(stage.till.phase, JournalBroken)
    assert stage.light is Light.FAULT
    assert stage.again == [stage.last(AskToCancel).request_hash] * 4
    stage.failing_writes = stage.failing_opens = False
    stage.wait(5)
    assert stage.journal[-1] == SaleCancelled(sale.key, CancelReason.JOURNAL_FAULT)
    assert stage.till.phase == Ready()
    assert len([each for each in stage.till.outbox if each.content.key == sale.key]) == 1
    confirm_cancel(stage)
    assert stage.standing.sales == ()


def test_an_approval_that_reached_the_disk_after_all_is_cancelled_too() -> None:
    stage = asking()
    sale = stage.standing.sales[0].sale
    stage.failing_writes = True
    stage.answer(approved())
    stage.failing_writes = False
    stage.journal.append(SaleAnswered(sale.key, approved(), "signed.reply.token"))
    stage.wait(5)
    assert stage.till.phase == Ready()
    assert stage.standing.sales[0].is_cancelled


def test_a_decline_that_could_not_be_journaled_is_a_fault_too() -> None:
    stage = asking()
    stage.failing_writes = True
    stage.answer(declined(Reason.TOKEN_EXPIRED))
    assert stage.light is Light.FAULT
    assert isinstance(stage.sent[-1].content, AskToCancel)
    stage.failing_writes = False
    stage.wait(5)
    assert stage.till.phase == Ready()
    assert sum(isinstance(each, SaleOpened) for each in stage.journal) == 1


def test_a_decline_that_reached_the_disk_after_all_needs_no_entry_for_its_cancel() -> None:
    stage = asking()
    sale = stage.standing.sales[0].sale
    stage.failing_writes = True
    stage.answer(declined(Reason.UNKNOWN_PAYER))
    stage.failing_writes = False
    answered = SaleAnswered(sale.key, declined(Reason.UNKNOWN_PAYER), "signed.reply.token")
    stage.journal.append(answered)
    stage.wait(5)
    assert stage.journal[-1] == answered
    confirm_cancel(stage)
    assert stage.till.outbox == ()


def test_a_time_out_that_cannot_be_journaled_is_cancelled_all_the_same() -> None:
    stage = asking()
    sale = stage.standing.sales[0].sale
    stage.failing_writes = True
    stage.wait(4.1)
    assert stage.light is Light.FAULT
    assert stage.sent[-1].content == AskToCancel(sale)
    stage.failing_writes = False
    stage.wait(5)
    assert stage.journal[-1] == SaleCancelled(sale.key, CancelReason.NO_REPLY)


def test_a_green_light_is_not_taken_back_when_its_showing_cannot_be_journaled() -> None:
    stage = asking()
    key = stage.standing.sales[0].sale.key
    stage.answer(approved())
    assert isinstance(stage.journal.pop(), LightShown)
    lights = list(stage.lights)
    stage.take(JournalFailed((LightShown(key),)))
    assert stage.lights == lights
    assert Sound.FAULT not in stage.sounds
    assert not any(isinstance(each.content, AskToCancel) for each in stage.sent)
    stage.failing_opens = True
    stage.wait(5)
    assert stage.light is Light.OFFLINE_NOT_ALLOWED
    stage.failing_opens = False
    stage.wait(5)
    assert stage.journal[-1] == LightShown(key)
    assert stage.till.phase == Ready()


def test_a_journal_lost_while_asking_ends_the_sale_from_memory() -> None:
    stage = asking()
    sale = stage.standing.sales[0].sale
    stage.failing_writes = True
    stage.take(PolicyArrived(a_policy(version=2), UTC, "token"))
    assert stage.light is Light.FAULT
    assert stage.sent[-1].content == AskToCancel(sale)
    stage.failing_writes = False
    stage.wait(5)
    assert PolicyTaken(2, "token") in stage.journal
    assert stage.standing.sales[0].is_cancelled


def test_a_journal_lost_while_scanning_abandons_the_sale() -> None:
    stage = scanning()
    key = stage.standing.sales[0].sale.key
    stage.failing_writes = True
    stage.take(PolicyArrived(a_policy(version=2), UTC, "token"))
    assert not stage.is_looking
    stage.failing_writes = False
    stage.wait(5)
    assert SaleAbandoned(key) in stage.journal
    assert stage.standing.sales == ()
    assert not any(isinstance(each.content, AskToDeduct | AskToCancel) for each in stage.sent)


def test_a_sale_that_could_not_be_opened_leaves_no_trace() -> None:
    stage = ready()
    stage.failing_writes = True
    stage.press("500#")
    stage.failing_writes = False
    entries = len(stage.journal)
    stage.wait(5)
    assert stage.till.phase == Ready()
    assert len(stage.journal) == entries


def test_a_sale_that_was_written_after_all_is_abandoned() -> None:
    stage = ready()
    stage.failing_writes = True
    stage.press("500#")
    phase = stage.till.phase
    assert isinstance(phase, JournalBroken)
    stage.failing_writes = False
    opened = next(each for each in phase.unwritten if isinstance(each, SaleAbandoned))
    written = asking().standing.sales[0].sale
    stage.journal.append(
        SaleOpened(
            **{
                name: getattr(written, name)
                for name in SaleOpened.__struct_fields__
                if name != "key"
            },
            key=opened.key,
        )
    )
    stage.wait(5)
    assert stage.journal[-1] == opened
    assert stage.standing.sales == ()


def test_an_answer_that_cannot_be_journaled_is_journaled_later() -> None:
    stage = cancelling()
    stage.wait(5)
    stage.sounds.clear()
    stage.failing_writes = True
    confirm_cancel(stage)
    assert stage.light is Light.OFFLINE_NOT_ALLOWED
    assert stage.sounds == []
    stage.failing_writes = False
    stage.wait(5)
    assert isinstance(stage.journal[-1], MessageClosed)
    assert stage.till.phase == Ready()


def test_a_second_loss_while_the_journal_is_broken_raises_no_second_alarm() -> None:
    stage = cancelling()
    stage.failing_writes = stage.failing_opens = True
    stage.take(PolicyArrived(a_policy(version=2), UTC, "token"))
    slips, sounds = len(stage.slips), len(stage.sounds)
    confirm_cancel(stage)
    assert (len(stage.slips), len(stage.sounds)) == (slips, sounds)
    assert isinstance(stage.till.phase, JournalBroken)
    stage.failing_writes = stage.failing_opens = False
    stage.wait(6)
    assert {type(each) for each in stage.journal[-2:]} == {PolicyTaken, MessageClosed}


def test_a_sign_out_that_cannot_be_journaled_is_sent_and_journaled_later() -> None:
    stage = ready()
    stage.hold("D")
    stage.failing_writes = True
    stage.press("#")
    stage.answer(SignedOut("session-0123456789"))
    stage.failing_writes = False
    stage.wait(6)
    assert any(isinstance(each, SessionEnded) for each in stage.journal)
    assert stage.till.phase == NobodySignedIn()
    assert stage.standing.session is None


def test_a_journal_that_cannot_be_opened_at_all_is_tried_every_few_seconds() -> None:
    stage = Stage(failing_opens=True)
    stage.boot()
    assert isinstance(stage.till.phase, JournalBroken)
    assert stage.light is Light.OFFLINE_NOT_ALLOWED
    stage.take(KeyPressed("5"))
    stage.take(LinkUp())
    stage.failing_opens = False
    stage.wait(5)
    assert stage.till.phase == WaitingForPolicy()


def test_an_early_tick_changes_nothing() -> None:
    for stage in (ready(), scanning(), asking(), cancelling(), approved_but_not_shown()):
        before = stage.till
        stage.tick()
        assert stage.till == before


def test_a_deadline_that_has_passed_is_not_due_again() -> None:
    stage = asking()
    for _ in range(20):
        due = deadline_of(stage.till)
        assert due is not None
        stage.wait(max(0.0, due - stage.now_s))
        after = deadline_of(stage.till)
        assert after is None or after > due
    assert not isinstance(stage.till.phase, Asking | Scanning)


def test_a_number_keyed_too_early_does_not_answer_the_question() -> None:
    """Staff who key on while the appliance starts have not read the slip: their `#` is no yes."""
    stage = asking()
    stage.answer(approved())
    stage.journal.pop()
    stage.cut_power()
    stage.press("500#")
    assert isinstance(stage.till.phase, HandedOverAsked)
    assert not [each for each in stage.journal if isinstance(each, SaleKept)]
    stage.press("#")
    assert isinstance(stage.journal[-1], SaleKept)
