"""After a restore of the cloud's database the till says again what the backup did not hold."""

from device.till.contents import (
    AskForHeartbeat,
    AskToCancel,
    AskToPostAgain,
    AskToPostOffline,
)
from device.till.entries import Resent, SaleAnswered, SaleOpened
from device.till.events import LinkDown, LinkUp, SettledRecalled
from device.till.resending import AT_ONCE_MAX, settled_sales
from protocol.messages import (
    Cancelled,
    Declined,
    HeartbeatAnswered,
    PostedOffline,
    Reason,
    Resend,
    UnderReview,
)
from protocol.money import Money
from tests.device.alone import cut_off
from tests.device.stage import (
    Stage,
    a_wallet_qr,
    approved,
    cancelling,
    confirm_cancel,
    declined,
    ready,
)

RESTORE = "restore-000000000001"


def sold(times: int, stage: Stage | None = None) -> Stage:
    stage = stage or ready()
    for number in range(times):
        stage.press("500#")
        stage.show(a_wallet_qr(number))
        stage.answer(approved())
        stage.press("*")
    return stage


def asked(stage: Stage, from_entry: int = 0) -> Stage:
    """The cloud's next answers to heartbeats ask for it."""
    stage.resend = Resend(RESTORE, from_entry)
    stage.take(LinkDown())
    stage.take(LinkUp())
    return stage


def posted_again(stage: Stage) -> list[AskToPostAgain]:
    return [each.content for each in stage.sent if isinstance(each.content, AskToPostAgain)]


def answer_all(stage: Stage) -> None:
    """Answer everything in the outbox, and what follows it."""
    while stage.till.outbox:
        message = stage.till.outbox[0]
        sent = next(
            each for each in reversed(stage.sent) if each.request_hash == message.request_hash
        )
        is_cancel = isinstance(sent.content, AskToCancel)
        stage.answer(Cancelled(None) if is_cancel else approved(), sent)


def test_every_approved_sale_is_said_again_with_the_clouds_own_reply() -> None:
    stage = asked(sold(2))
    again = posted_again(stage)
    opened = [entry for entry in stage.journal if isinstance(entry, SaleOpened)]
    assert [each.sale for each in again] == opened
    assert {each.token for each in again} == {"signed.reply.token"}
    assert [stage.journal[each.number - 1] for each in again] == opened
    answer_all(stage)
    assert stage.journal[-1] == Resent(RESTORE)


def test_a_cancelled_sale_is_cancelled_again_for_the_backup_may_hold_its_deduct() -> None:
    stage = cancelling()
    confirm_cancel(stage)
    before = len([each for each in stage.sent if isinstance(each.content, AskToCancel)])
    asked(stage)
    cancels = [each for each in stage.sent if isinstance(each.content, AskToCancel)]
    assert len(cancels) == before + 1
    answer_all(stage)
    assert Resent(RESTORE) in stage.journal


def test_what_was_in_the_backup_and_what_was_declined_is_not_said_again() -> None:
    stage = sold(2)
    stage.press("500#")
    stage.show(a_wallet_qr(7))
    stage.answer(declined(Reason.INSUFFICIENT_FUNDS, 0))
    stage.press("*")
    second = [n for n, entry in enumerate(stage.journal, 1) if isinstance(entry, SaleOpened)][1]
    asked(stage, from_entry=second)
    assert [each.number for each in posted_again(stage)] == [second]


def test_with_nothing_to_say_it_is_done_at_once() -> None:
    stage = asked(ready())
    assert stage.journal[-1] == Resent(RESTORE)
    assert posted_again(stage) == []


def test_only_a_few_are_on_their_way_at_once_and_sales_go_on_meanwhile() -> None:
    stage = asked(sold(AT_ONCE_MAX + 5))
    assert len(posted_again(stage)) == AT_ONCE_MAX
    sold(1, stage)
    answer_all(stage)
    assert len(posted_again(stage)) == AT_ONCE_MAX + 5
    assert Resent(RESTORE) in stage.journal


def test_once_done_it_is_said_in_heartbeats_and_not_done_again_even_after_a_power_cut() -> None:
    stage = asked(sold(1))
    answer_all(stage)
    stage.wait(40)
    assert len(posted_again(stage)) == 1
    content = stage.last(AskForHeartbeat).content
    assert isinstance(content, AskForHeartbeat)
    assert content.resent_for == RESTORE
    stage.cut_power()
    stage.connect()
    stage.wait(40)
    assert len(posted_again(stage)) == 1
    assert stage.recalls == 1


def test_a_power_cut_in_the_middle_begins_it_anew() -> None:
    stage = asked(sold(3))
    stage.cut_power()
    stage.connect()
    answer_all(stage)
    assert stage.journal[-1] == Resent(RESTORE)
    assert len(posted_again(stage)) == 6


def test_a_second_restore_is_a_second_time() -> None:
    stage = asked(sold(1))
    answer_all(stage)
    stage.resend = Resend("restore-000000000002", 0)
    stage.wait(20)
    assert len(posted_again(stage)) == 2


def test_whatever_the_cloud_says_of_it_one_answer_is_enough() -> None:
    stage = asked(sold(2))
    first, second = posted_again(stage)
    by_key = {each.content.key: each for each in stage.sent}
    stage.answer(UnderReview("review-1"), by_key[first.key])
    stage.answer(Declined(Reason.KEY_REUSED), by_key[second.key])
    assert stage.journal[-1] == Resent(RESTORE)


def test_a_line_that_went_down_is_taken_up_with_the_next_heartbeat() -> None:
    stage = asked(sold(1))
    sent = stage.last(AskToPostAgain)
    stage.take(LinkDown())
    stage.answer(approved(), sent)
    assert Resent(RESTORE) not in stage.journal
    stage.take(LinkUp())
    assert stage.journal[-1] == Resent(RESTORE)


def test_a_journal_that_could_not_be_read_is_read_with_the_next_heartbeat() -> None:
    stage = sold(1)
    stage.failing_recalls = True
    asked(stage)
    assert posted_again(stage) == []
    stage.failing_recalls = False
    stage.wait(16)
    assert stage.recalls == 2
    assert len(posted_again(stage)) == 1


def test_a_heartbeats_answer_that_is_not_ours_asks_for_nothing() -> None:
    stage = sold(1)
    old = stage.last(AskForHeartbeat)
    stage.answer(HeartbeatAnswered(0, 1, resend=Resend(RESTORE, 0)), old)
    assert stage.recalls == 0


def test_what_was_read_for_another_restore_or_for_none_is_let_go() -> None:
    stage = sold(1)
    stage.take(SettledRecalled(RESTORE, ()))
    assert stage.till.resending is None
    stage.failing_recalls = True
    asked(stage)
    stage.take(SettledRecalled("restore-000000000002", ()))
    assert Resent(RESTORE) not in stage.journal


def test_entries_about_sales_opened_earlier_are_passed_over() -> None:
    stage = sold(1)
    opened = next(n for n, entry in enumerate(stage.journal) if isinstance(entry, SaleOpened))
    later = list(enumerate(stage.journal, 1))[opened + 1 :]
    assert any(isinstance(entry, SaleAnswered) for _, entry in later)
    assert settled_sales(later) == ()


def test_offline_sales_are_said_again_by_the_clouds_reply_or_else_as_they_were() -> None:
    """Posted: the reply proves it. On a person's list: nothing does, so it is judged once more."""
    stage = cut_off()
    for number in range(2):
        stage.sell(number)
    opened = [entry for entry in stage.journal if isinstance(entry, SaleOpened)]
    stage.connect()
    stage.wait(0.1)
    posted, listed = stage.uploads
    stage.answer(PostedOffline("0198", Money(500, "EUR"), 0, False, 1), posted)
    stage.answer(UnderReview("review-1"), listed)
    asked(stage)
    stage.wait(0.1)
    (again,) = posted_again(stage)
    assert (again.sale, again.token) == (opened[0], "signed.reply.token")
    anew = stage.uploaded[-1]
    assert anew == AskToPostOffline(opened[1], stage.acceptances[1], anew.number)
    assert stage.journal[anew.number - 1] == opened[1]
    assert Resent(RESTORE) not in stage.journal
    stage.answer(UnderReview("review-2"), stage.uploads[-1])
    answer_all(stage)
    assert stage.journal[-1] == Resent(RESTORE)


def test_an_offline_sale_that_waits_for_its_answer_is_not_said_again_besides() -> None:
    stage = cut_off()
    stage.sell()
    stage.boot()
    asked(stage)
    stage.wait(0.1)
    assert len(stage.uploads) == 1
    assert posted_again(stage) == []
    assert settled_sales(enumerate(stage.journal, 1)) == ()
