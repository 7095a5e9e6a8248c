from dataclasses import replace

from device.till.entries import (
    CancelReason,
    EpochBegan,
    MessageClosed,
    PolicyTaken,
    SaleAnswered,
    SaleCancelled,
    SessionBegan,
    SessionEnded,
)
from device.till.events import LinkDown, LinkUp
from device.till.standing import Standing
from device.till.states import Asking, deadline_of
from protocol.messages import Reason
from tests.device.stage import a_session, approved, asking, booted, declined, ready


def test_the_newest_policy_and_session_stand() -> None:
    standing = Standing()
    for number, entry in enumerate(
        (
            EpochBegan("e", 0),
            PolicyTaken(1, "old"),
            PolicyTaken(2, "new"),
            SessionBegan(a_session(), "t"),
        ),
        1,
    ):
        standing = standing.after(number, entry)
    assert standing.policy == PolicyTaken(2, "new")
    assert standing.session == SessionBegan(a_session(), "t")
    assert standing.after(5, SessionEnded(a_session().session_id, None)).session is None


def test_an_entry_about_a_sale_nobody_opened_changes_nothing() -> None:
    standing = Standing()
    for entry in (
        SaleAnswered("k", approved(), "t"),
        SaleAnswered("k", declined(Reason.UNKNOWN_PAYER), "t"),
        SaleCancelled("k", CancelReason.STAFF),
        MessageClosed("k", "cancel", "t"),
    ):
        assert replace(standing.after(1, entry), record=standing.record) == standing


def test_a_decision_about_one_sale_leaves_the_others_open() -> None:
    sale = asking().standing.sales[0].sale
    other = ready()
    other.press("700#")
    second = other.standing.sales[0].sale
    standing = Standing().after(1, sale).after(2, second)
    assert sale.key != second.key or sale.amount != second.amount
    answered = standing.after(3, SaleCancelled("unknown", CancelReason.STAFF))
    assert answered.sales == standing.sales


def test_a_till_that_waits_for_staff_alone_has_no_deadline() -> None:
    assert deadline_of(booted().till) is None


def test_a_link_that_comes_back_is_asked_once_for_all_the_times_it_was_away() -> None:
    stage = asking()
    assert isinstance(stage.till.phase, Asking)
    times = stage.till.phase.resend_at
    stage.take(LinkDown())
    stage.now_s = times[1] + 0.1
    stage.take(LinkUp())
    stage.tick()
    assert isinstance(stage.till.phase, Asking)
    assert stage.till.phase.resend_at == times[2:]
    stage.wait(0.1)


def test_a_till_that_asks_without_a_link_waits_for_the_answers_time_alone() -> None:
    till = asking().till
    assert isinstance(till.phase, Asking)
    assert till.phase.resend_at
    cut_off = replace(till, link=replace(till.link, is_up=False), alone_until=0.0)
    assert deadline_of(cut_off) == till.phase.until
    up = replace(till, link=replace(till.link, is_up=True))
    due = deadline_of(up)
    assert due is not None
    assert due <= till.phase.resend_at[0]
