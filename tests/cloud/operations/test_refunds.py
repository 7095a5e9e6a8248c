"""Refunds at a stall, on both databases, without the wire."""

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from cloud.operations.till.opening import Arrived
from cloud.operations.till.pos import SignedReply, answer_batch
from cloud.store.tables import devices, policies, staff_assignments
from protocol.messages import (
    ApprovalGranted,
    Approved,
    Cancelled,
    Declined,
    PostedOffline,
    Reason,
    Refund,
    Refunded,
    SaleName,
    UnderReview,
)
from protocol.money import Money
from tests.cloud.floor import EVENT, START, Floor, Till, eur
from tests.cloud.operations.giving_back import (
    add_staff,
    approval_rows,
    approve,
    make_mia_a_supervisor,
    refund,
    refunds_of,
    set_terms,
    sold,
)


def test_a_sale_goes_back_to_the_wallet_that_paid_it(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = till.deduct(floor.qr(guest), 350)
    approved = floor.ask_one(till, sale)
    refunded = floor.ask_one(till, refund(till, sale))
    assert isinstance(refunded, Refunded)
    assert (refunded.amount, refunded.left_in_cents, refunded.balance) == (eur(350), 0, eur(2000))
    assert floor.balance(guest) == 2000
    [row] = refunds_of(floor, guest)
    assert str(row.id) == refunded.transaction_id
    assert str(row.reversal_of_transaction_id) == approved.transaction_id
    assert (row.created_by, row.device_id, row.staff_id) == ("staff:mia", "till-1", "mia")
    assert (row.event_id, row.stall_id) == (EVENT, "bar")
    [record] = floor.audit(action="refund")
    assert (record.actor, record.outcome, record.detail) == (
        "staff:mia",
        "refunded",
        {"sale": f"till-1/{sale.key}"},
    )


def test_the_same_refund_again_is_the_same_answer_and_no_second_posting(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = sold(floor, till, guest)
    asked = refund(till, sale, 100)
    first = floor.ask_one(till, asked)
    assert isinstance(first, Refunded)
    assert floor.ask(till, asked, asked) == [first, first]
    assert floor.balance(guest) == 1750


def test_a_refunds_key_stands_for_that_refund_alone(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = sold(floor, till, guest)
    asked = refund(till, sale, 100)
    floor.ask(till, asked)
    reused = Declined(Reason.KEY_REUSED)
    assert floor.ask_one(till, refund(till, sale, 200, key=asked.key)) == reused
    other_sale = till.deduct(floor.qr(guest), 100, key=asked.key)
    assert floor.ask_one(till, other_sale) == reused
    assert floor.ask_one(till, till.cancel(other_sale)) == reused
    assert isinstance(floor.ask_one(till, till.accept_offline(other_sale)), UnderReview)
    assert floor.ask_one(till, till.sign_in(floor, key=asked.key)) == reused
    assert floor.ask_one(till, refund(till, sale, 100, key=sale.key)) == reused
    cancelled = till.deduct(floor.qr(guest))
    floor.ask(till, till.cancel(cancelled))
    assert floor.ask_one(till, refund(till, sale, 100, key=cancelled.key)) == reused
    assert floor.balance(guest) == 1750


def test_a_refused_refund_stays_refused_under_its_key(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = till.deduct(floor.qr(guest), 350)
    early = refund(till, sale)
    assert floor.ask_one(till, early) == Declined(Reason.SALE_UNKNOWN)
    floor.ask(till, sale)
    assert floor.ask_one(till, early) == Declined(Reason.SALE_UNKNOWN)
    assert isinstance(floor.ask_one(till, refund(till, sale)), Refunded)


def test_parts_never_add_up_to_more_than_the_sale(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = sold(floor, till, guest, 350)
    answers = floor.ask(
        till,
        refund(till, sale, 200),
        refund(till, sale, 151),
        refund(till, sale, 100),
        refund(till, sale),
        refund(till, sale),
        refund(till, sale, 1),
    )
    assert isinstance(answers[0], Refunded)
    assert answers[0].left_in_cents == 150
    assert answers[1] == Declined(Reason.OVER_WHAT_IS_LEFT)
    assert isinstance(answers[2], Refunded)
    assert isinstance(answers[3], Refunded)
    assert (answers[3].amount, answers[3].balance) == (eur(50), eur(2000))
    assert answers[4:] == [Declined(Reason.NOTHING_LEFT)] * 2
    assert floor.balance(guest) == 2000


def test_a_sale_and_its_refund_and_its_cancel_in_one_batch_see_each_other(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = till.deduct(floor.qr(guest), 350)
    answers = floor.ask(till, sale, refund(till, sale, 100), till.cancel(sale), refund(till, sale))
    assert isinstance(answers[0], Approved)
    assert isinstance(answers[1], Refunded)
    assert answers[2] == Cancelled(eur(250))
    assert answers[3] == Declined(Reason.NOTHING_LEFT)
    assert floor.balance(guest) == 2000


def test_an_offline_sale_is_refunded_once_it_is_uploaded(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = till.accept_offline(till.deduct(floor.qr(guest), 350))
    assert floor.ask_one(till, refund(till, sale)) == Declined(Reason.SALE_UNKNOWN)
    assert isinstance(floor.ask_one(till, sale), PostedOffline)
    assert isinstance(floor.ask_one(till, refund(till, sale)), Refunded)
    assert floor.balance(guest) == 2000


def test_the_window_of_an_offline_sale_begins_when_the_till_took_it(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = till.accept_offline(till.deduct(floor.qr(guest), 350))
    floor.pass_time(minutes=31)
    assert isinstance(floor.ask_one(till, sale), PostedOffline)
    assert floor.ask_one(till, refund(till, sale)) == Declined(Reason.APPROVAL_NEEDED)


def test_another_appliance_of_the_stall_refunds_what_this_one_sold(floor: Floor) -> None:
    till, other = floor.add_till("till-1"), floor.add_till("till-2")
    guest = floor.add_guest(2000)
    sale = sold(floor, till, guest)
    assert isinstance(floor.ask_one(other, refund(other, sale)), Refunded)


def declines(floor: Floor, till: Till, asked: Refund, reason: Reason) -> None:
    assert floor.ask_one(till, asked) == Declined(reason)
    [record] = floor.audit(subject=asked.key)
    assert (record.action, record.outcome) == ("refund", reason.value)


def test_each_refusal_has_its_name(floor: Floor) -> None:
    till, grill = floor.add_till("till-1"), floor.add_till("till-2", stall_id="grill")
    guest = floor.add_guest(2000)
    sale = sold(floor, till, guest)
    nobody = SaleName("till-9", "k" * 22)
    declines(floor, till, refund(till, sale, sale=nobody), Reason.SALE_UNKNOWN)
    declines(floor, grill, refund(grill, sale), Reason.SALE_ELSEWHERE)
    declines(floor, till, refund(till, sale, 0), Reason.AMOUNT_NOT_POSITIVE)
    declines(floor, till, refund(till, sale, -5), Reason.AMOUNT_NOT_POSITIVE)
    declines(floor, till, refund(till, sale, 351), Reason.OVER_WHAT_IS_LEFT)
    declines(floor, till, refund(till, sale, amount=Money(100, "CHF")), Reason.WRONG_CURRENCY)
    declines(floor, till, refund(till, sale, stall_id="grill"), Reason.DEVICE_ELSEWHERE)
    declines(floor, till, refund(till, sale, policy_version=7), Reason.POLICY_UNKNOWN)
    declines(floor, till, refund(till, sale, session_id="s" * 22), Reason.SESSION_UNKNOWN)
    declines(floor, till, refund(till, sale, session_id=grill.session_id), Reason.SESSION_UNKNOWN)
    declines(floor, till, refund(till, sale, approval_id="a" * 22), Reason.APPROVAL_UNKNOWN)
    declines(floor, till, refund(till, sale, approval_id=nobody_s_id()), Reason.APPROVAL_UNKNOWN)
    declined_sale = till.deduct(floor.qr(floor.add_guest(100)), 350)
    floor.ask(till, declined_sale)
    declines(floor, till, refund(till, declined_sale), Reason.SALE_UNKNOWN)
    asked = refund(till, sale, 50)
    floor.ask(till, asked)
    itself = SaleName(asked.device_id, asked.key)
    declines(floor, till, refund(till, sale, sale=itself), Reason.SALE_UNKNOWN)
    assert floor.balance(guest) == 1700


def nobody_s_id() -> str:
    return "01920000-0000-7000-8000-000000000000"


def test_nobody_refunds_without_a_standing_session(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = sold(floor, till, guest)
    with floor.database.transaction() as connection:
        connection.execute(update(staff_assignments).values(stall_id="grill"))
    declines(floor, till, refund(till, sale), Reason.STAFF_NOT_ASSIGNED)
    with floor.database.transaction() as connection:
        connection.execute(update(devices).values(stall_id="grill"))
    declines(floor, till, refund(till, sale), Reason.DEVICE_ELSEWHERE)
    floor.pass_time(hours=12)
    declines(floor, till, refund(till, sale), Reason.SESSION_EXPIRED)
    floor.ask(till, till.sign_out())
    declines(floor, till, refund(till, sale), Reason.SESSION_ENDED)
    floor.revoke(till)
    declines(floor, till, refund(till, sale), Reason.DEVICE_REVOKED)


def test_an_expired_policy_gives_nothing_back(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = sold(floor, till, guest)
    soon = floor.policy(till.device_id, "bar", 2, None)
    with floor.database.transaction() as connection:
        connection.execute(
            policies.insert().values(
                device_id=till.device_id,
                version=2,
                jws=soon,
                issued_at=floor.now(),
                expires_at=floor.now(),
            )
        )
    floor.pass_time(days=4)
    till.session_id = floor.ask_one(till, till.sign_in(floor)).session_id
    declines(floor, till, refund(till, sale, policy_version=2), Reason.POLICY_EXPIRED)


def test_a_sale_that_a_person_judges_is_not_refunded_meanwhile(floor: Floor) -> None:
    till, guest = floor.add_till("till-1"), floor.add_guest(2000)
    other = floor.add_till("till-2")
    sale = sold(floor, till, guest)
    floor.revoke(till)
    assert isinstance(floor.ask_one(till, till.cancel(sale)), UnderReview)
    declines(floor, other, refund(other, sale), Reason.SALE_UNDER_REVIEW)
    assert floor.balance(guest) == 1650


# More than one person.


def test_above_the_limit_and_after_the_window_a_supervisor_is_asked_once(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(20_000)
    dear, cheap = sold(floor, till, guest, 2001), sold(floor, till, guest, 2000)
    declines(floor, till, refund(till, dear), Reason.APPROVAL_NEEDED)
    floor.ask(till, refund(till, dear), refund(till, dear))
    floor.pass_time(minutes=30)
    assert isinstance(floor.ask_one(till, refund(till, cheap, 1000)), Refunded)
    floor.pass_time(seconds=1)
    declines(floor, till, refund(till, cheap), Reason.APPROVAL_NEEDED)
    first, second = approval_rows(floor)
    assert (first.state, first.reason, first.amount_in_cents) == (
        "waiting",
        "over_staff_limit",
        2001,
    )
    assert (second.state, second.reason, second.amount_in_cents) == (
        "waiting",
        "refund_window_over",
        1000,
    )
    assert (first.asked_by, first.event_id, first.stall_id) == ("staff:mia", EVENT, "bar")


def test_small_parts_are_no_way_around_the_limit(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(20_000)
    sale = sold(floor, till, guest, 10_000)
    answers = floor.ask(till, refund(till, sale, 1500), refund(till, sale, 501))
    assert isinstance(answers[0], Refunded)
    assert answers[1] == Declined(Reason.APPROVAL_NEEDED)


@pytest.mark.parametrize(
    ("terms", "last_day"),
    [
        ({"refund_deadline": START + timedelta(days=3)}, 3),
        ({"ends_at": START + timedelta(days=1)}, 15),
        ({}, 60),
    ],
)
def test_after_the_deadline_nobody_gives_back(
    floor: Floor, terms: dict[str, object], last_day: int
) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = sold(floor, till, guest)
    set_terms(floor, staff_session_s=86_400, **terms)
    floor.pass_time(days=last_day)
    new = floor.add_till("till-2")
    declines(floor, new, refund(new, sale), Reason.APPROVAL_NEEDED)
    floor.pass_time(seconds=1)
    declines(floor, new, refund(new, sale), Reason.REFUND_DEADLINE_PASSED)
    add_staff(floor)
    late = floor.ask_one(new, approve(floor, new, sale))
    assert late == Declined(Reason.REFUND_DEADLINE_PASSED)


def test_an_approval_allows_one_refund_of_this_sale_and_amount(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(20_000)
    add_staff(floor)
    sale, other = sold(floor, till, guest, 5000), sold(floor, till, guest, 5000)
    declines(floor, till, refund(till, sale, 3000), Reason.APPROVAL_NEEDED)
    asked = approve(floor, till, sale, 3000)
    granted = floor.ask_one(till, asked)
    assert isinstance(granted, ApprovalGranted)
    assert granted.amount == eur(3000)
    assert floor.ask_one(till, asked) == granted
    [row] = approval_rows(floor)
    assert (row.state, row.asked_by, row.decided_by) == ("granted", "staff:mia", "staff:sue")
    [record] = floor.audit(action="approve")
    assert (record.actor, record.outcome) == ("staff:sue", "approval_granted")
    assert record.detail["approval"] == granted.approval_id

    by = {"approval_id": granted.approval_id}
    declines(floor, till, refund(till, sale, 3001, **by), Reason.APPROVAL_UNKNOWN)
    declines(floor, till, refund(till, other, 3000, **by), Reason.APPROVAL_UNKNOWN)
    first, again = refund(till, sale, 3000, **by), refund(till, sale, 3000, **by)
    answers = floor.ask(till, first, first, again)
    assert isinstance(answers[0], Refunded)
    assert answers[1] == answers[0]
    assert answers[2] == Declined(Reason.OVER_WHAT_IS_LEFT)
    [row] = approval_rows(floor)
    assert (row.state, str(row.posted_transaction_id)) == ("used", answers[0].transaction_id)
    assert floor.balance(guest) == 13_000


def test_an_approval_counts_once_though_enough_is_left(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(20_000)
    add_staff(floor)
    sale = sold(floor, till, guest, 9000)
    granted = floor.ask_one(till, approve(floor, till, sale, 3000))
    by = {"approval_id": granted.approval_id}
    answers = floor.ask(till, refund(till, sale, 3000, **by), refund(till, sale, 3000, **by))
    assert isinstance(answers[0], Refunded)
    assert answers[1] == Declined(Reason.APPROVAL_USED)
    declines(floor, till, refund(till, sale, 3000, **by), Reason.APPROVAL_USED)
    assert len(refunds_of(floor, guest)) == 1


def test_an_approval_for_all_that_is_left_says_how_much_that_is(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(20_000)
    add_staff(floor)
    sale = sold(floor, till, guest, 5000)
    floor.ask(till, refund(till, sale, 500))
    granted = floor.ask_one(till, approve(floor, till, sale))
    assert granted.amount == eur(4500)
    refunded = floor.ask_one(till, refund(till, sale, approval_id=granted.approval_id))
    assert isinstance(refunded, Refunded)
    assert floor.balance(guest) == 20_000


def test_an_approval_is_for_a_few_minutes_and_one_appliance(floor: Floor) -> None:
    till, other, guest = floor.add_till("till-1"), floor.add_till("till-2"), floor.add_guest(20_000)
    add_staff(floor)
    sale = sold(floor, till, guest, 5000)
    granted = floor.ask_one(till, approve(floor, till, sale))
    by = {"approval_id": granted.approval_id}
    declines(floor, other, refund(other, sale, **by), Reason.APPROVAL_UNKNOWN)
    floor.pass_time(minutes=5)
    declines(floor, till, refund(till, sale, **by), Reason.APPROVAL_EXPIRED)
    assert floor.balance(guest) == 15_000


def test_a_waiting_approval_is_no_approval(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(20_000)
    sale = sold(floor, till, guest, 5000)
    floor.ask(till, refund(till, sale))
    [row] = approval_rows(floor)
    by = {"approval_id": str(row.approval_id)}
    declines(floor, till, refund(till, sale, **by), Reason.APPROVAL_UNKNOWN)


def test_nobody_approves_their_own_refund(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(20_000)
    add_staff(floor)
    sale = sold(floor, till, guest, 5000)
    make_mia_a_supervisor(floor)
    own = approve(floor, till, sale, badge=floor.badge_qr)
    assert floor.ask_one(till, own) == Declined(Reason.SAME_PERSON)
    granted = floor.ask_one(till, approve(floor, till, sale))
    # Then the supervisor signs in there herself, with the approval that she gave.
    till.session_id = floor.ask_one(
        till, till.sign_in(floor, pin="8642", badge=approve(floor, till, sale).badge)
    ).session_id
    by = {"approval_id": granted.approval_id}
    declines(floor, till, refund(till, sale, **by), Reason.SAME_PERSON)
    assert floor.balance(guest) == 15_000


def test_only_supervisors_with_their_pin_approve(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(20_000)
    add_staff(floor, "kim", is_supervisor=False)
    add_staff(floor)
    sale = sold(floor, till, guest, 5000)

    def refuses(reason: Reason, **how: Any) -> None:
        asked = approve(floor, till, sale, **how)
        assert floor.ask_one(till, asked) == Declined(reason)
        [record] = floor.audit(subject=asked.key)
        assert (record.action, record.outcome) == ("approve", reason.value)

    refuses(Reason.NOT_A_SUPERVISOR, staff_id="kim")
    refuses(Reason.BADGE_INVALID, staff_id="eve")
    refuses(Reason.BADGE_INVALID, badge="WIFI:T:WPA;;")
    refuses(Reason.DEVICE_ELSEWHERE, stall_id="grill")
    refuses(Reason.SESSION_UNKNOWN, session_id="s" * 22)
    for _ in range(5):
        refuses(Reason.PIN_WRONG, pin="0000")
    refuses(Reason.LOCKED_OUT)
    floor.pass_time(seconds=30)
    assert isinstance(floor.ask_one(till, approve(floor, till, sale)), ApprovalGranted)
    refuses(Reason.PIN_WRONG, pin="0000")
    stale = approve(floor, till, sale)
    floor.pass_time(seconds=31)
    assert floor.ask_one(till, stale) == Declined(Reason.SIGN_IN_STALE)
    floor.revoke(till)
    refuses(Reason.DEVICE_REVOKED)


def test_a_supervisor_approves_nothing_that_cannot_be_given_back(floor: Floor) -> None:
    till, grill = floor.add_till("till-1"), floor.add_till("till-2", stall_id="grill")
    guest = floor.add_guest(20_000)
    add_staff(floor)
    sale, unsold = sold(floor, till, guest, 5000), till.deduct(floor.qr(guest), 100)
    for at, asked, reason in (
        (till, approve(floor, till, unsold), Reason.SALE_UNKNOWN),
        (grill, approve(floor, grill, sale), Reason.SALE_ELSEWHERE),
        (till, approve(floor, till, sale, 5001), Reason.OVER_WHAT_IS_LEFT),
        (till, approve(floor, till, sale, 0), Reason.AMOUNT_NOT_POSITIVE),
    ):
        assert floor.ask_one(at, asked) == Declined(reason)
    floor.revoke(grill)
    third = floor.add_till("till-3")
    other = sold(floor, third, guest, 100)
    floor.revoke(third)
    floor.ask(third, third.cancel(other))
    assert floor.ask_one(till, approve(floor, till, other)) == Declined(Reason.SALE_UNDER_REVIEW)
    assert approval_rows(floor) == []


def test_an_approvals_key_answers_that_question_alone(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(20_000)
    add_staff(floor)
    sale = sold(floor, till, guest, 5000)
    asked = approve(floor, till, sale)
    floor.ask(till, asked)
    reused = Declined(Reason.KEY_REUSED)
    assert floor.ask_one(till, approve(floor, till, sale, 100, key=asked.key)) == reused
    assert floor.ask_one(till, refund(till, sale, key=asked.key)) == reused
    assert floor.ask_one(till, till.sign_in(floor, key=asked.key)) == reused


# At once.


def at_once(floor: Floor, asked: Sequence[tuple[Till, Refund]]) -> list[object]:
    """Each in a batch of its own, from as many threads as there are requests."""
    answers: list[object] = []
    start = threading.Barrier(len(asked))

    def ask(till: Till, request: Refund) -> None:
        arrived = Arrived(till.sign(request), till.device_id, floor.now())
        start.wait()
        [answer] = answer_batch(floor.desk, [arrived])
        assert isinstance(answer, SignedReply)
        answers.append(answer.reply.outcome)

    threads = [threading.Thread(target=ask, args=each) for each in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_of_a_hundred_refunds_of_a_sale_at_once_one_takes_effect(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = sold(floor, till, guest)
    answers = at_once(floor, [(till, refund(till, sale)) for _ in range(100)])
    refunded = [each for each in answers if isinstance(each, Refunded)]
    assert len(refunded) == 1
    assert answers.count(Declined(Reason.NOTHING_LEFT)) == 99
    assert floor.balance(guest) == 2000


def test_of_a_refund_sent_a_hundred_times_at_once_one_takes_effect(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = sold(floor, till, guest)
    answers = at_once(floor, [(till, refund(till, sale, 100))] * 100)
    assert isinstance(answers[0], Refunded)
    assert answers == [answers[0]] * 100
    assert floor.balance(guest) == 1750


def test_parts_at_once_from_two_appliances_never_exceed_the_sale(floor: Floor) -> None:
    till, other, guest = floor.add_till("till-1"), floor.add_till("till-2"), floor.add_guest(2000)
    sale = sold(floor, till, guest, 1000)
    answers = at_once(floor, [(at, refund(at, sale, 300)) for at in (till, other) * 10])
    assert len([each for each in answers if isinstance(each, Refunded)]) == 3
    assert answers.count(Declined(Reason.OVER_WHAT_IS_LEFT)) == 17
    assert floor.balance(guest) == 1900
