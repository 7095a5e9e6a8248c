import pytest

from device.till.contents import AskToApprove, AskToRefund
from device.till.entries import (
    RefundAbandoned,
    RefundAnswered,
    RefundOpened,
    RefundShown,
    SaleOpened,
    SessionEnded,
)
from device.till.events import LinkDown, LinkUp
from device.till.receipt import Columns
from device.till.refunding import RECEIPT_WAIT_S
from device.till.signals import Light, Sound
from device.till.states import (
    JournalBroken,
    KeyingPin,
    KeyingRefund,
    NobodySignedIn,
    Ready,
    ReceiptWanted,
    Refunding,
    SupervisorWanted,
)
from protocol.messages import (
    ApprovalGranted,
    Declined,
    Reason,
    Refunded,
    SaleName,
    SignedOut,
)
from protocol.money import Money
from protocol.receipt_qr import write
from tests.device.stage import (
    EPOCH_MS,
    OTHER_KEY,
    PIN,
    Stage,
    a_badge,
    a_session,
    a_wallet_qr,
    asking,
    declined,
    ready,
)

SALE = SaleName("till-7", "sale-00000000000001")
RECEIPT = write(SALE)
OTHER_RECEIPT = write(SaleName("till-1", "sale-00000000000002"))


def given(cents: int = 300, left: int = 200) -> Refunded:
    return Refunded(
        transaction_id="0198c0df",
        amount=Money(cents, "EUR"),
        left_in_cents=left,
        balance=Money(1800, "EUR"),
        code="RF7-42P1",
        at_ms=EPOCH_MS,
    )


def keying(receipt: str = RECEIPT) -> Stage:
    stage = ready()
    stage.press("B")
    stage.show(receipt)
    return stage


def refunding(amount: str = "300") -> Stage:
    """The refund is journaled and out."""
    stage = keying()
    stage.press(f"{amount}#")
    assert isinstance(stage.till.phase, Refunding)
    return stage


def asked_for_a_supervisor() -> Stage:
    stage = refunding()
    stage.answer(declined(Reason.APPROVAL_NEEDED), stage.last(AskToRefund))
    return stage


def approving() -> Stage:
    """Badge and PIN of a supervisor are out."""
    stage = asked_for_a_supervisor()
    stage.show(a_badge())
    stage.press(f"{PIN}#")
    return stage


def refund_of(stage: Stage) -> RefundOpened:
    content = stage.last(AskToRefund).content
    assert isinstance(content, AskToRefund)
    return content.refund


def words(stage: Stage) -> str:
    columns = [f"{e.left} {e.right}" for e in stage.slips[-1].lines if isinstance(e, Columns)]
    return " ".join((*stage.texts(), *columns))


def entries(stage: Stage) -> list[str]:
    return [
        type(each).__name__
        for each in stage.journal
        if isinstance(each, RefundOpened | RefundAnswered | RefundShown | RefundAbandoned)
    ]


def test_b_asks_for_the_receipts_code() -> None:
    stage = ready()
    stage.press("B")
    assert (stage.light, stage.sounds[-1]) == (Light.SHOW_RECEIPT, Sound.CLICK)
    assert stage.is_looking
    stage.show(RECEIPT)
    assert (stage.light, stage.sounds[-1]) == (Light.KEY_THE_AMOUNT, Sound.SCANNED)
    assert stage.till.phase == KeyingRefund(SALE, stage.now_s + 60)


def test_a_refund_is_journaled_before_it_is_asked_for_and_gives_a_slip_and_its_own_light() -> None:
    stage = refunding()
    refund = refund_of(stage)
    assert stage.journal[-1] == refund
    assert (refund.sale, refund.amount, refund.approval_id) == (SALE, Money(300, "EUR"), None)
    assert stage.last(AskToRefund).expiry_s is None
    stage.answer(given())
    assert (stage.light, stage.sounds[-1]) == (Light.REFUNDED, Sound.REFUNDED)
    assert "REFUND" in words(stage)
    assert "Given back 3.00 EUR" in words(stage)
    assert "Credits now 18.00 EUR" in words(stage)
    assert "Left of this sale 2.00 EUR" in words(stage)
    assert "RF7-42P1" in words(stage)
    assert entries(stage) == ["RefundOpened", "RefundAnswered", "RefundShown"]
    assert stage.till.outbox == ()
    stage.wait(2)
    assert stage.light is Light.READY
    assert stage.standing.refunds == ()


def test_green_is_no_refunds_light() -> None:
    stage = refunding()
    stage.answer(given())
    assert Light.APPROVED not in stage.lights


def test_the_hash_key_alone_gives_back_all_that_is_left() -> None:
    stage = refunding("")
    assert refund_of(stage).amount is None


def test_nothing_and_more_than_money_can_be_are_refused_here() -> None:
    for keys, said in (("0#", "Nothing is not an amount"), ("9" * 20 + "#", "more than is left")):
        stage = keying()
        sent = len(stage.sent)
        stage.press(keys)
        assert stage.light is Light.DECLINED
        assert said in words(stage)
        assert len(stage.sent) == sent
        assert entries(stage) == []


def test_keys_while_the_amount_is_keyed() -> None:
    stage = keying()
    stage.press("12")
    stage.press("A")
    assert stage.sounds[-1] is Sound.DECLINED
    stage.press("*")
    assert stage.till.phase == KeyingRefund(SALE, stage.now_s + 60)
    stage.press("9" * 40)
    assert stage.sounds[-1] is Sound.DECLINED
    stage.hold("*")
    assert isinstance(stage.till.phase, Ready)
    stage = keying()
    stage.press("*")
    assert isinstance(stage.till.phase, Ready)


@pytest.mark.parametrize(
    "code",
    [a_wallet_qr(), a_badge(), "RTSALE1:till-1", "RTSALE2:a:b", ""],
    ids=["a wallet QR", "a badge", "too few parts", "another mark", "nothing"],
)
def test_any_other_code_is_no_receipt(code: str) -> None:
    stage = ready()
    stage.press("B")
    stage.show(code)
    assert stage.light is Light.REFRESH_QR
    stage.show(code)
    stage.wait(3)
    assert stage.light is Light.SHOW_RECEIPT
    stage.show(code)
    assert stage.lights.count(Light.REFRESH_QR) == 1
    stage.show(RECEIPT)
    assert isinstance(stage.till.phase, KeyingRefund)


def test_a_star_or_a_minute_ends_the_wait_for_a_receipt() -> None:
    stage = ready()
    stage.press("B5")
    assert isinstance(stage.till.phase, ReceiptWanted)
    assert stage.sounds[-1] is Sound.DECLINED
    stage.press("*")
    assert isinstance(stage.till.phase, Ready)
    stage.press("B")
    stage.wait(RECEIPT_WAIT_S)
    assert isinstance(stage.till.phase, Ready)
    stage = keying()
    stage.wait(60)
    assert isinstance(stage.till.phase, Ready)


def test_offline_there_are_no_refunds() -> None:
    stage = ready()
    stage.take(LinkDown())
    stage.press("B")
    assert stage.light is Light.DECLINED
    assert "No refund" in words(stage)
    stage = keying()
    stage.take(LinkDown())
    stage.press("#")
    assert "No refund" in words(stage)
    assert entries(stage) == []


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (Reason.SALE_UNKNOWN, "upload it first"),
        (Reason.SALE_ELSEWHERE, "another stall"),
        (Reason.SALE_UNDER_REVIEW, "looking into"),
        (Reason.NOTHING_LEFT, "given back before"),
        (Reason.REFUND_DEADLINE_PASSED, "too late"),
        (Reason.KEY_REUSED, "Ask at the desk"),
    ],
)
def test_a_refusal_says_on_paper_what_to_do_next(reason: Reason, said: str) -> None:
    stage = refunding()
    stage.answer(declined(reason))
    assert stage.light is Light.DECLINED
    assert "Nothing was given back" in words(stage)
    assert said in words(stage)
    assert "Asked 3.00 EUR" in words(stage)
    assert stage.standing.refunds == ()
    assert stage.till.outbox == ()


def test_too_much_shows_what_is_left_where_it_is_known() -> None:
    stage = refunding()
    stage.answer(given(300, left=200))
    stage.wait(6)
    stage.press("B")
    stage.show(RECEIPT)
    stage.press("300#")
    stage.answer(declined(Reason.OVER_WHAT_IS_LEFT), stage.last(AskToRefund))
    assert "Left of this sale 2.00 EUR" in words(stage)
    stage.wait(6)
    stage.press("B")
    stage.show(OTHER_RECEIPT)
    stage.press("300#")
    stage.answer(declined(Reason.OVER_WHAT_IS_LEFT), stage.last(AskToRefund))
    assert "Left of this sale" not in words(stage)


def test_a_session_that_is_over_ends_with_the_refusal() -> None:
    stage = refunding()
    stage.answer(declined(Reason.SESSION_ENDED))
    assert any(isinstance(each, SessionEnded) for each in stage.journal)
    stage.wait(3)
    assert isinstance(stage.till.phase, NobodySignedIn)


# No answer.


def test_without_an_answer_nobody_knows_and_the_outbox_goes_on_asking() -> None:
    stage = refunding()
    sent = stage.last(AskToRefund)
    stage.wait(4)
    assert (stage.light, stage.sounds[-1]) == (Light.FAULT, Sound.FAULT)
    assert "Nobody knows yet" in words(stage)
    assert stage.again[:2] == [sent.request_hash] * 2
    stage.wait(30)
    assert stage.light is Light.READY
    assert stage.again.count(sent.request_hash) >= 4
    assert [each.refund for each in stage.standing.refunds] == [refund_of(stage)]


def test_an_answer_that_comes_late_is_a_slip_and_disturbs_no_sale() -> None:
    stage = refunding()
    sent = stage.last(AskToRefund)
    stage.wait(10)
    stage.press("500#")
    light = stage.light
    stage.answer(given(), sent)
    assert stage.light is light
    assert "Given back 3.00 EUR" in words(stage)
    assert entries(stage) == ["RefundOpened", "RefundAnswered", "RefundShown"]
    assert stage.till.outbox == ()


def test_a_refund_that_needs_a_supervisor_and_says_so_late_is_asked_for_anew() -> None:
    stage = refunding()
    sent = stage.last(AskToRefund)
    stage.wait(10)
    stage.answer(declined(Reason.APPROVAL_NEEDED), sent)
    assert isinstance(stage.till.phase, Ready)
    assert "A supervisor must agree" in words(stage)
    assert stage.standing.refunds == ()


def test_the_same_receipt_resumes_the_open_refund_under_its_key() -> None:
    stage = refunding()
    sent = stage.last(AskToRefund)
    stage.wait(10)
    before = len(stage.again)
    stage.press("B")
    stage.show(RECEIPT)
    assert isinstance(stage.till.phase, Refunding)
    assert stage.again[before:] == [sent.request_hash]
    assert [each for each in entries(stage) if each == "RefundOpened"] == ["RefundOpened"]
    stage.answer(given(), sent)
    assert stage.light is Light.REFUNDED


def test_another_receipt_is_another_refund() -> None:
    stage = refunding()
    stage.wait(10)
    stage.press("B")
    stage.show(OTHER_RECEIPT)
    stage.press("#")
    keys = [each.refund.key for each in stage.standing.refunds]
    assert len(set(keys)) == 2


def test_a_held_star_stops_waiting_and_cancels_nothing() -> None:
    stage = refunding()
    sent = stage.last(AskToRefund)
    stage.press("5#*")
    assert isinstance(stage.till.phase, Refunding)
    stage.hold("*")
    assert stage.light is Light.FAULT
    assert len(stage.till.outbox) == 1
    stage.answer(given(), sent)
    assert stage.standing.refunds == ()


def test_an_answer_nobody_could_have_given_settles_nothing() -> None:
    stage = refunding()
    sent = stage.last(AskToRefund)
    stage.answer(declined(Reason.MALFORMED), sent)
    stage.answer(declined(Reason.UNSUPPORTED_VERSION), sent)
    stage.answer(SignedOut("session-0123456789"), sent)
    stage.answer(given(), sent, {"request_hash": "x" * 43})
    stage.answer(given(), sent, {"key": "another-key-00000000"})
    assert isinstance(stage.till.phase, Refunding)
    assert len(stage.standing.refunds) == 1
    stage.answer(given(), sent)
    assert stage.light is Light.REFUNDED


def test_a_replayed_answer_prints_no_second_slip() -> None:
    stage = refunding()
    sent = stage.last(AskToRefund)
    stage.answer(given(), sent)
    slips = len(stage.slips)
    stage.answer(given(), sent)
    assert len(stage.slips) == slips
    assert entries(stage).count("RefundAnswered") == 1


def test_a_refund_waits_for_the_link() -> None:
    stage = refunding()
    sent = stage.last(AskToRefund)
    stage.take(LinkDown())
    stage.wait(20)
    again = len(stage.again)
    stage.take(LinkUp())
    assert sent.request_hash in stage.again[again:]


# Power and disk.


def test_after_a_power_cut_an_open_refund_is_asked_again_under_its_key_and_told() -> None:
    stage = refunding()
    key = stage.last(AskToRefund).content.key
    stage.cut_power()
    sent = stage.last(AskToRefund)
    assert sent.content.key == key
    stage.connect()
    stage.answer(given(), sent)
    assert "Given back 3.00 EUR" in words(stage)
    assert stage.standing.refunds == ()


@pytest.mark.parametrize("answer", [given(), declined(Reason.NOTHING_LEFT)])
def test_an_answer_that_was_journaled_and_perhaps_not_told_is_told_after_the_power_cut(
    answer: Refunded | Declined,
) -> None:
    stage = refunding()
    stage.answer(answer, stage.last(AskToRefund))
    assert isinstance(stage.journal.pop(), RefundShown)
    slips, sent = len(stage.slips), len(stage.sent)
    stage.cut_power()
    assert len(stage.slips) == slips + 1
    assert ("COPY" in words(stage)) == isinstance(answer, Refunded)
    assert not any(isinstance(each.content, AskToRefund) for each in stage.sent[sent:])
    assert stage.standing.refunds == ()
    stage.cut_power()
    assert len(stage.slips) == slips + 1


def test_whatever_entry_the_power_is_cut_after_the_refund_is_given_once_and_told() -> None:
    whole = refunding()
    whole.answer(given(), whole.last(AskToRefund))
    for written in range(len(whole.journal) + 1):
        stage = refunding()
        stage.answer(given(), stage.last(AskToRefund))
        stage.journal = stage.journal[:written]
        stage.slips.clear()
        was_open = bool(stage.standing.refunds)
        was_answered = any(each.answer is not None for each in stage.standing.refunds)
        stage.cut_power()
        if was_open and not was_answered:
            stage.connect()
            stage.answer(given(), stage.last(AskToRefund))
        assert len([s for s in stage.slips if was_open]) == was_open
        assert stage.standing.refunds == ()


def test_a_refund_that_could_not_be_journaled_is_never_asked_for() -> None:
    stage = keying()
    stage.failing_writes = True
    stage.press("300#")
    assert isinstance(stage.till.phase, JournalBroken)
    assert stage.light is Light.FAULT
    assert not any(isinstance(each.content, AskToRefund) for each in stage.sent)
    assert stage.till.outbox == ()
    stage.failing_writes = False
    stage.wait(6)
    assert stage.standing.refunds == ()
    assert not any(isinstance(each.content, AskToRefund) for each in stage.sent)


def test_a_refund_that_was_written_after_all_is_abandoned() -> None:
    stage = keying()
    stage.failing_writes = True
    stage.press("300#")
    phase = stage.till.phase
    assert isinstance(phase, JournalBroken)
    (abandoned,) = (each for each in phase.unwritten if isinstance(each, RefundAbandoned))
    opened = RefundOpened(
        key=abandoned.key,
        correlation_id="c",
        session_id="session-0123456789",
        initials="AL",
        event_id="summer",
        stall_id="bar",
        policy_version=1,
        sale=SALE,
        amount=None,
        approval_id=None,
        at_ms=EPOCH_MS,
    )
    stage.journal.append(opened)
    stage.failing_writes = False
    stage.wait(6)
    assert stage.journal[-1] == abandoned
    assert stage.standing.refunds == ()
    assert not any(isinstance(each.content, AskToRefund) for each in stage.sent)


def test_an_answer_that_could_not_be_journaled_is_asked_for_again_and_told_then() -> None:
    stage = refunding()
    stage.failing_writes = True
    stage.answer(given(), stage.last(AskToRefund))
    assert stage.light is Light.FAULT
    assert Light.REFUNDED not in stage.lights
    stage.failing_writes = False
    stage.wait(6)
    again = stage.last(AskToRefund)
    stage.answer(given(), again)
    assert "Given back 3.00 EUR" in words(stage)
    assert stage.standing.refunds == ()


def test_a_light_that_shines_is_not_taken_back_by_a_failing_note() -> None:
    stage = refunding()
    answered = len(stage.lights)

    def fail_after_the_light() -> None:
        stage.failing_writes = True

    stage.after_print = fail_after_the_light
    stage.answer(given(), stage.last(AskToRefund))
    stage.after_print = None
    assert stage.lights[answered:] == [Light.REFUNDED]
    stage.failing_writes = False
    stage.wait(6)
    assert stage.standing.refunds == ()


def test_an_unawaited_answer_that_could_not_be_journaled_lights_no_fault() -> None:
    stage = refunding()
    sent = stage.last(AskToRefund)
    stage.wait(10)
    stage.failing_writes = True
    stage.answer(given(), sent)
    assert stage.light is Light.OFFLINE_NOT_ALLOWED


# A supervisor.


def test_what_one_person_may_not_give_back_alone_asks_for_a_supervisors_badge() -> None:
    stage = asked_for_a_supervisor()
    assert (stage.light, stage.sounds[-1]) == (Light.SUPERVISOR, Sound.DECLINED)
    assert stage.is_looking
    assert "Supervisor?" in words(stage)
    stage.show(a_badge())
    assert (stage.light, stage.is_looking) == (Light.KEY_THE_AMOUNT, False)
    stage.press(f"{PIN}#")
    content = stage.last(AskToApprove).content
    assert isinstance(content, AskToApprove)
    assert (content.sale, content.amount) == (SALE, Money(300, "EUR"))
    assert content.session_id == "session-0123456789"
    assert stage.light is Light.ASKING


def test_a_granted_approval_refunds_under_a_new_key() -> None:
    stage = approving()
    first = refund_of(stage)
    stage.answer(
        ApprovalGranted("approval-0000000001", Money(300, "EUR"), EPOCH_MS + 300_000),
        stage.last(AskToApprove),
    )
    second = refund_of(stage)
    assert second.key != first.key
    assert (second.sale, second.amount) == (SALE, Money(300, "EUR"))
    assert second.approval_id == "approval-0000000001"
    assert stage.journal[-1] == second
    stage.answer(given(), stage.last(AskToRefund))
    assert stage.light is Light.REFUNDED


def test_all_that_is_left_is_refunded_as_the_supervisor_saw_it() -> None:
    stage = refunding("")
    stage.answer(declined(Reason.APPROVAL_NEEDED), stage.last(AskToRefund))
    assert "all that is left" in words(stage)
    stage.show(a_badge())
    stage.press(f"{PIN}#")
    stage.answer(ApprovalGranted("approval-0000000001", Money(900, "EUR"), EPOCH_MS))
    assert refund_of(stage).amount == Money(900, "EUR")


def test_the_supervisors_pin_stands_in_no_repr_and_no_entry() -> None:
    stage = approving()
    stage.answer(ApprovalGranted("approval-0000000001", Money(300, "EUR"), EPOCH_MS))
    assert all(PIN not in each for each in stage.seen)
    assert all(a_badge() not in each for each in stage.seen)
    assert all(PIN not in repr(each) for each in stage.journal)


@pytest.mark.parametrize(
    "reason",
    [
        Reason.PIN_WRONG,
        Reason.PIN_NOT_SET,
        Reason.PIN_CHOICE_OVER,
        Reason.NOT_A_SUPERVISOR,
        Reason.SAME_PERSON,
        Reason.LOCKED_OUT,
    ],
)
def test_a_refused_supervisor_may_try_again_or_call_another(reason: Reason) -> None:
    stage = approving()
    stage.answer(declined(reason), stage.last(AskToApprove))
    assert stage.light is Light.DECLINED
    assert "Not approved" in words(stage)
    stage.wait(2)
    assert stage.light is Light.SUPERVISOR
    stage.show(a_badge())
    assert isinstance(stage.till.phase, KeyingPin)


def test_a_refusal_about_the_sale_ends_it() -> None:
    stage = approving()
    stage.answer(declined(Reason.OVER_WHAT_IS_LEFT), stage.last(AskToApprove))
    stage.wait(2)
    assert isinstance(stage.till.phase, Ready)
    stage = approving()
    stage.answer(declined(Reason.SESSION_EXPIRED), stage.last(AskToApprove))
    stage.wait(2)
    assert isinstance(stage.till.phase, NobodySignedIn)


def test_an_approval_nobody_answers_gives_nothing_back() -> None:
    stage = approving()
    sent = stage.last(AskToApprove)
    stage.wait(4)
    assert stage.light is Light.FAULT
    stage.answer(ApprovalGranted("approval-0000000001", Money(300, "EUR"), EPOCH_MS), sent)
    assert stage.standing.refunds == ()


def test_an_answer_to_another_approval_is_ignored() -> None:
    stage = approving()
    granted = ApprovalGranted("approval-0000000001", Money(300, "EUR"), EPOCH_MS)
    stage.answer(granted, stage.last(AskToApprove), {"request_hash": "x" * 43})
    stage.answer(given(), stage.last(AskToApprove))
    assert stage.light is Light.ASKING


def test_an_approval_granted_while_the_link_fell_gives_nothing_back() -> None:
    stage = approving()
    stage.take(LinkDown())
    stage.answer(
        ApprovalGranted("approval-0000000001", Money(300, "EUR"), EPOCH_MS),
        stage.last(AskToApprove),
    )
    assert stage.light is Light.DECLINED
    assert stage.standing.refunds == ()


def test_a_pin_keyed_before_the_badge_is_no_amount() -> None:
    stage = asked_for_a_supervisor()
    stage.press("1234#")
    assert isinstance(stage.till.phase, SupervisorWanted)
    stage.press("12")
    stage.wait(0.1)
    stage.wait(90)
    assert isinstance(stage.till.phase, Ready)
    assert not any(isinstance(each, SaleOpened) for each in stage.journal)


def test_another_events_badge_is_no_supervisors() -> None:
    stage = asked_for_a_supervisor()
    stage.show(a_badge(key=OTHER_KEY))
    assert stage.light is Light.REFRESH_QR
    stage.show(a_badge(key=OTHER_KEY))
    stage.wait(3)
    assert stage.light is Light.SUPERVISOR


def test_a_minute_and_a_half_without_a_supervisor_ends_it() -> None:
    stage = asked_for_a_supervisor()
    stage.wait(90)
    assert isinstance(stage.till.phase, Ready)
    stage = asked_for_a_supervisor()
    stage.show(a_badge())
    stage.press("*")
    assert isinstance(stage.till.phase, Ready)


def test_a_session_that_runs_out_meanwhile_ends_the_refund() -> None:
    stage = ready(session=a_session(expires_in_s=30))
    stage.press("B")
    stage.show(RECEIPT)
    stage.press("12")
    stage.wait(40)
    stage.press("#")
    assert isinstance(stage.till.phase, NobodySignedIn)
    assert entries(stage) == []


def test_a_refund_disturbs_no_sale_that_is_being_asked() -> None:
    stage = asking()
    stage.press("B")
    assert stage.light is Light.ASKING
