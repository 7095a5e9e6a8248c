import pytest

from device.till.contents import AskForHeartbeat, AskToCancel, AskToDeduct
from device.till.entries import (
    CancelReason,
    LightShown,
    MessageClosed,
    SaleAnswered,
    SaleCancelled,
    SaleOpened,
    SessionEnded,
)
from device.till.events import LinkDown, LinkUp
from device.till.receipt import Columns
from device.till.signals import Light, Sound
from device.till.states import Asking, KeyingAmount, NobodySignedIn, Ready, Scanning, Showing
from protocol.messages import (
    BalanceShown,
    Cancelled,
    HeartbeatAnswered,
    Outcome,
    Reason,
    UnderReview,
)
from protocol.money import Money
from tests.device.stage import (
    a_wallet_qr,
    approved,
    asking,
    cancelling,
    confirm_cancel,
    declined,
    ready,
    scanning,
)

FRESH_QR = [each for each in Reason if each.startswith("token_")] + [Reason.NOT_A_WALLET_QR]


def test_an_approval_is_journaled_before_the_green_light_and_its_showing_after() -> None:
    stage = asking()
    sale = stage.journal[-1]
    assert isinstance(sale, SaleOpened)
    stage.answer(approved())
    assert stage.journal[-2:] == [
        SaleAnswered(sale.key, approved(), "signed.reply.token"),
        LightShown(sale.key),
    ]
    assert (stage.light, stage.sounds[-1]) == (Light.APPROVED, Sound.APPROVED)
    assert Columns("Credits left", "15.00 EUR") in stage.slips[-1].lines
    assert stage.accounts[-1].outcome == "approved"
    assert stage.standing.sales == ()


def test_after_two_seconds_of_green_the_till_is_ready() -> None:
    stage = asking()
    stage.answer(approved())
    stage.wait(1.9)
    assert stage.light is Light.APPROVED
    stage.wait(0.2)
    assert stage.light is Light.READY
    assert stage.till.phase == Ready()


def test_the_next_key_does_not_wait_for_the_green_light() -> None:
    stage = asking()
    stage.answer(approved())
    stage.press("3")
    assert stage.till.phase == KeyingAmount("3")


def test_too_little_money_is_red_and_prints_what_is_left() -> None:
    stage = asking()
    stage.answer(declined(Reason.INSUFFICIENT_FUNDS, balance=120))
    assert (stage.light, stage.sounds[-1]) == (Light.DECLINED, Sound.DECLINED)
    assert Columns("Credits left", "1.20 EUR", bold=True) in stage.slips[-1].lines
    assert not stage.is_looking
    stage.wait(2)
    assert stage.till.phase == Ready()
    assert stage.standing.sales == ()


@pytest.mark.parametrize("reason", FRESH_QR)
def test_a_refused_qr_gets_a_new_key_for_the_same_purchase_and_scanning_goes_on(
    reason: Reason,
) -> None:
    stage = asking()
    first = stage.journal[-1]
    assert isinstance(first, SaleOpened)
    stage.answer(declined(reason))
    answered, second = stage.journal[-2:]
    assert isinstance(answered, SaleAnswered)
    assert isinstance(second, SaleOpened)
    assert second.key != first.key
    assert (second.correlation_id, second.amount) == (first.correlation_id, first.amount)
    assert (stage.light, stage.sounds[-1]) == (Light.REFRESH_QR, Sound.REFRESH_QR)
    assert stage.is_looking
    stage.wait(3)
    assert stage.light is Light.SHOW_QR
    stage.show(a_wallet_qr(2))
    assert stage.sent[-1].content.key == second.key
    stage.answer(approved())
    assert stage.light is Light.APPROVED


def test_the_qr_the_cloud_refused_is_not_asked_about_again_while_it_stays_in_view() -> None:
    stage = asking()
    stage.answer(declined(Reason.TOKEN_ALREADY_USED))
    sent = len([each for each in stage.sent if isinstance(each.content, AskToDeduct)])
    for _ in range(4):
        stage.wait(1.0)
        stage.show(a_wallet_qr())
    assert len([each for each in stage.sent if isinstance(each.content, AskToDeduct)]) == sent


@pytest.mark.parametrize(
    "reason",
    [
        Reason.SESSION_ENDED,
        Reason.SESSION_EXPIRED,
        Reason.SESSION_UNKNOWN,
        Reason.STAFF_NOT_ASSIGNED,
    ],
)
def test_a_session_the_cloud_does_not_know_any_more_ends_here_too(reason: Reason) -> None:
    stage = asking()
    stage.answer(declined(reason))
    assert stage.light is Light.DECLINED
    assert stage.journal[-1] == SessionEnded("session-0123456789", None)
    stage.wait(2)
    assert stage.till.phase == NobodySignedIn()
    assert stage.standing.session is None


@pytest.mark.parametrize(
    "reason",
    [
        Reason.DEVICE_REVOKED,
        Reason.DEVICE_ELSEWHERE,
        Reason.UNKNOWN_PAYER,
        Reason.AMOUNT_OVER_LIMIT,
    ],
)
def test_any_other_refusal_is_red_and_ends_the_sale(reason: Reason) -> None:
    stage = asking()
    stage.answer(declined(reason))
    assert stage.light is Light.DECLINED
    assert stage.accounts[-1].outcome == reason.value
    assert stage.standing.sales == ()


def test_a_key_that_was_used_for_something_else_is_cancelled() -> None:
    stage = asking()
    stage.answer(declined(Reason.KEY_REUSED))
    assert stage.light is Light.FAULT
    assert isinstance(stage.sent[-1].content, AskToCancel)
    assert isinstance(stage.journal[-1], SaleCancelled)
    assert stage.journal[-1].why is CancelReason.KEY_REUSED


@pytest.mark.parametrize("reason", [Reason.UNSUPPORTED_VERSION, Reason.MALFORMED])
def test_a_request_the_cloud_could_not_read_is_cancelled_for_another_worker_may_have(
    reason: Reason,
) -> None:
    stage = asking()
    stage.answer(declined(reason))
    assert stage.light is Light.FAULT
    assert isinstance(stage.sent[-1].content, AskToCancel)
    assert isinstance(stage.journal[-1], SaleCancelled)
    assert stage.journal[-1].why is CancelReason.NOT_READ


def test_a_key_that_the_cloud_says_is_cancelled_is_red() -> None:
    stage = asking()
    stage.answer(Cancelled(None))
    assert stage.light is Light.DECLINED
    assert stage.standing.sales == ()


@pytest.mark.parametrize(
    "forged",
    [
        {"key": "another-key-00000"},
        {"request_hash": "x" * 43},
        {"answers": "cancel"},
        {"answers": "balance"},
        {"answers": "sign_in"},
        {"answers": "heartbeat"},
    ],
    ids=["key", "hash", "cancel", "balance", "sign in", "heartbeat"],
)
def test_a_reply_that_answers_another_request_is_ignored_and_the_till_goes_on_waiting(
    forged: dict[str, str],
) -> None:
    stage = asking()
    entries = len(stage.journal)
    stage.answer(approved(), forged=forged)
    assert isinstance(stage.till.phase, Asking)
    assert Light.APPROVED not in stage.lights
    assert stage.notes[-1].what == "reply_ignored"
    assert len(stage.journal) == entries
    stage.answer(approved())
    assert stage.light is Light.APPROVED


@pytest.mark.parametrize(
    "outcome",
    [
        approved(cents=400),
        approved(currency="CHF"),
        BalanceShown(Money(1, "EUR")),
        UnderReview("r"),
    ],
    ids=["other amount", "other currency", "balance", "review"],
)
def test_an_outcome_that_is_not_for_this_sale_never_lights_green(outcome: Outcome) -> None:
    stage = asking()
    stage.answer(outcome)
    assert isinstance(stage.till.phase, Asking)
    stage.wait(4)
    assert stage.light is Light.FAULT
    assert Light.APPROVED not in stage.lights


def test_a_replayed_approval_lights_nothing() -> None:
    stage = asking()
    sent = stage.sent[-1]
    stage.answer(approved())
    stage.wait(3)
    greens = stage.lights.count(Light.APPROVED)
    stage.answer(approved(), sent)
    stage.press("500#")
    stage.answer(approved(), sent)
    stage.show(a_wallet_qr(2))
    stage.answer(approved(), sent)
    assert stage.lights.count(Light.APPROVED) == greens


def test_the_same_bytes_go_out_again_after_one_and_two_seconds() -> None:
    stage = asking()
    sent = stage.sent[-1]
    stage.wait(0.9)
    assert stage.again == []
    stage.wait(0.2)
    assert stage.again == [sent.request_hash]
    stage.wait(1)
    assert stage.again == [sent.request_hash] * 2
    stage.wait(1)
    assert stage.again == [sent.request_hash] * 2


def test_no_reply_in_time_is_a_fault_and_a_journaled_cancel() -> None:
    stage = asking()
    sale = stage.journal[-1]
    assert isinstance(sale, SaleOpened)
    stage.wait(3.9)
    assert stage.light is Light.ASKING
    stage.wait(0.2)
    assert (stage.light, stage.sounds[-1]) == (Light.FAULT, Sound.FAULT)
    assert stage.journal[-1] == SaleCancelled(sale.key, CancelReason.NO_REPLY)
    assert stage.sent[-1].content == AskToCancel(sale)
    assert stage.sent[-1].expiry_s is None
    assert stage.accounts[-1].outcome == "cancelled: no_reply"


def test_an_approval_after_the_cancel_changes_nothing() -> None:
    stage = asking()
    sent = stage.sent[-1]
    stage.wait(4.1)
    stage.answer(approved(), sent)
    assert stage.light is Light.FAULT
    assert len(stage.till.outbox) == 1
    assert stage.standing.sales[0].is_cancelled


def test_a_cancel_is_sent_ever_more_rarely_until_it_is_answered() -> None:
    stage = cancelling()
    hash_ = stage.last(AskToCancel).request_hash
    counts: list[int] = []
    for seconds in (1, 2, 4, 8, 16, 32, 60, 60):
        stage.wait(seconds)
        counts.append(stage.again.count(hash_))
    assert counts == [1, 2, 3, 4, 5, 6, 7, 8]
    confirm_cancel(stage)
    assert stage.till.outbox == ()
    assert isinstance(stage.journal[-1], MessageClosed)
    assert stage.standing.sales == ()
    stage.wait(200)
    assert stage.again.count(hash_) == 8


def test_a_cancel_under_review_is_in_good_hands() -> None:
    stage = cancelling()
    stage.answer(UnderReview("review-1"), stage.last(AskToCancel))
    assert stage.till.outbox == ()


@pytest.mark.parametrize(
    "forged",
    [{"key": "another-key-00000"}, {"request_hash": "x" * 43}, {"answers": "sign_out"}],
    ids=["key", "hash", "kind"],
)
def test_a_reply_to_something_else_closes_no_cancel(forged: dict[str, str]) -> None:
    stage = cancelling()
    stage.answer(Cancelled(None), stage.last(AskToCancel), forged=forged)
    assert len(stage.till.outbox) == 1


def test_a_refused_cancel_settles_nothing_and_is_sent_on() -> None:
    stage = cancelling()
    stage.answer(declined(Reason.MALFORMED), stage.last(AskToCancel))
    assert len(stage.till.outbox) == 1
    assert stage.notes[-1].what == "answer_settles_nothing"


def test_everything_unanswered_goes_out_again_on_reconnect() -> None:
    stage = cancelling()
    cancel = stage.last(AskToCancel).request_hash
    stage.wait(6)
    stage.press("500#")
    stage.show(a_wallet_qr(2))
    deduct = stage.last(AskToDeduct).request_hash
    stage.take(LinkDown())
    stage.again.clear()
    stage.wait(1.5)
    assert stage.again == []
    stage.take(LinkUp())
    assert set(stage.again) == {cancel, deduct}


def test_a_held_star_while_asking_cancels() -> None:
    stage = asking()
    stage.press("*5#")
    assert isinstance(stage.till.phase, Asking)
    assert Sound.DECLINED not in stage.sounds
    stage.hold("*")
    assert stage.light is Light.FAULT
    assert isinstance(stage.journal[-1], SaleCancelled)
    assert stage.journal[-1].why is CancelReason.STAFF


def test_whoever_keys_on_blindly_does_not_miss_the_fault_light() -> None:
    stage = cancelling()
    stage.press("500")
    assert stage.light is Light.FAULT
    assert isinstance(stage.till.phase, Showing)
    stage.press("#")
    assert stage.till.phase == Ready()
    assert stage.light is Light.READY


def test_a_fault_light_goes_after_a_while() -> None:
    stage = cancelling()
    stage.wait(5)
    assert stage.till.phase == Ready()


def test_the_next_sale_does_not_wait_for_the_cancel() -> None:
    stage = cancelling()
    stage.press("#300#")
    assert isinstance(stage.till.phase, Scanning)
    stage.show(a_wallet_qr(2))
    stage.answer(approved(300))
    assert stage.light is Light.APPROVED
    assert len(stage.till.outbox) == 1


def test_the_cloud_is_there_once_it_has_answered_and_gone_after_thirty_silent_seconds() -> None:
    stage = ready()
    stage.is_answered = False
    stage.wait(29)
    assert (stage.light, stage.reconnects) == (Light.READY, 0)
    stage.wait(16)
    assert stage.reconnects == 1
    assert stage.light is Light.OFFLINE_NOT_ALLOWED
    stage.wait(60)
    assert stage.reconnects == 1
    stage.is_answered = True
    stage.take(LinkUp())
    assert stage.light is Light.READY


def test_a_heartbeat_goes_out_on_connect_and_every_fifteen_seconds() -> None:
    stage = ready()

    def beats() -> int:
        return sum(isinstance(each.content, AskForHeartbeat) for each in stage.sent)

    before = beats()
    stage.take(LinkDown())
    stage.wait(60)
    assert beats() == before
    stage.take(LinkUp())
    assert beats() == before + 1
    stage.wait(45.5)
    assert beats() == before + 4


def test_until_the_cloud_has_answered_once_it_is_asked_more_often() -> None:
    stage = ready()
    stage.take(LinkDown())
    stage.is_answered = False
    before = len(stage.sent)
    stage.take(LinkUp())
    stage.wait(6.5)
    assert len(stage.sent) == before + 4
    assert stage.light is Light.OFFLINE_NOT_ALLOWED


def test_a_heartbeat_says_what_policy_is_journaled_and_how_much_waits() -> None:
    stage = cancelling()
    stage.take(LinkDown())
    stage.take(LinkUp())
    content = stage.last(AskForHeartbeat).content
    assert isinstance(content, AskForHeartbeat)
    assert (content.policy_version, content.queue) == (1, 1)


def test_an_old_heartbeats_answer_proves_nothing() -> None:
    stage = ready()
    old = stage.last(AskForHeartbeat)
    stage.is_answered = False
    stage.take(LinkDown())
    stage.take(LinkUp())
    stage.answer(HeartbeatAnswered(0, 1), old)
    assert stage.light is Light.OFFLINE_NOT_ALLOWED
    stage.answer(Cancelled(None), stage.last(AskForHeartbeat))
    assert stage.light is Light.OFFLINE_NOT_ALLOWED


def test_an_answer_that_came_while_the_link_was_going_down_still_counts() -> None:
    stage = asking()
    stage.take(LinkDown())
    stage.answer(approved())
    assert stage.light is Light.APPROVED
    assert isinstance(stage.till.phase, Showing)


def test_a_request_made_while_the_link_was_down_goes_out_when_it_is_back() -> None:
    stage = scanning()
    stage.take(LinkDown())
    stage.show(a_wallet_qr())
    sent = stage.last(AskToDeduct)
    stage.wait(1.5)
    stage.take(LinkUp())
    assert stage.again == [sent.request_hash]
    stage.answer(approved(), sent)
    assert stage.light is Light.APPROVED
