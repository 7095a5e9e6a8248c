"""Refunds and their approvals in the console, on both databases."""

from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from cloud.access.roles import Grant, Holder, Role
from cloud.ledger.facts import ApprovalState
from cloud.operations.desk.decide_approval import list_approvals
from cloud.operations.desk.refund_sale import Asked, SaleRefunded
from cloud.operations.refusals import Code
from cloud.store.tables import approvals
from protocol.messages import ApprovalGranted, Declined, Reason, Refunded
from tests.cloud.floor import EVENT, Floor, eur
from tests.cloud.operations.console import (
    ELSEWHERE,
    FAY,
    SUE,
    TOM,
    at_once,
    decide,
    new_key,
    refund_at_desk,
    refuses,
)
from tests.cloud.operations.giving_back import (
    add_staff,
    approval_rows,
    approve,
    refund,
    refunds_of,
    set_terms,
    sold,
)

ADA = Holder("console:ada", (Grant(Role.SUPERVISOR, EVENT), Grant(Role.FINANCE, EVENT)))


def test_a_supervisor_gives_back_alone_what_staff_may(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = sold(floor, till, guest, 350)
    key = new_key()
    done = refund_at_desk(floor, sale, 100, key=key)
    assert (done.state, done.amount, done.left_in_cents) == (Asked.DONE, eur(100), 250)
    assert refund_at_desk(floor, sale, 100, key=key) == done
    refuses(refund_at_desk(floor, sale, 101, key=key), Code.KEY_REUSED)
    assert floor.balance(guest) == 1750
    [row] = refunds_of(floor, guest)
    assert (row.created_by, row.event_id, row.stall_id) == ("console:sue", EVENT, "bar")
    assert row.correlation_id == sale.correlation_id
    [record] = floor.audit(action="sale_refunded")
    assert (record.actor, record.subject) == ("console:sue", done.transaction_id)
    assert refund_at_desk(floor, sale, holder=FAY).amount == eur(250)


def test_beyond_that_the_desk_asks_a_second_person_too(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(20_000)
    sale = sold(floor, till, guest, 5000)
    asked = refund_at_desk(floor, sale)
    assert (asked.state, asked.amount, asked.left_in_cents) == (Asked.WAITING, eur(5000), 5000)
    refuses(decide(floor, asked.approval_id, SUE), Code.SAME_PERSON)
    same = Holder("supervisor:sue", SUE.grants)
    refuses(decide(floor, asked.approval_id, same), Code.SAME_PERSON)
    granted = decide(floor, asked.approval_id, TOM)
    assert granted.state is ApprovalState.USED
    assert floor.balance(guest) == 20_000
    [record] = floor.audit(action="approval_decided")
    assert (record.actor, record.outcome, record.detail["asked_by"]) == (
        "console:tom",
        "granted",
        "console:sue",
    )


def test_a_refund_that_staff_were_refused_is_granted_in_the_console(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(20_000)
    sale = sold(floor, till, guest, 5000)
    assert floor.ask_one(till, refund(till, sale, 3000)) == Declined(Reason.APPROVAL_NEEDED)
    page = list_approvals(floor.database, SUE, state=ApprovalState.WAITING, limit=9, cursor=None)
    assert page is not None
    ([waiting], next_cursor) = page
    assert (waiting.asked_by, waiting.amount, next_cursor) == ("staff:mia", eur(3000), None)
    mia = Holder("console:mia", SUE.grants)
    refuses(decide(floor, waiting.approval_id, mia), Code.SAME_PERSON)
    refuses(decide(floor, waiting.approval_id, FAY), Code.APPROVAL_UNKNOWN)
    refuses(decide(floor, waiting.approval_id, ELSEWHERE), Code.APPROVAL_UNKNOWN)
    key = new_key()
    granted = decide(floor, waiting.approval_id, SUE, key=key)
    assert decide(floor, waiting.approval_id, SUE, key=key) == granted
    refuses(decide(floor, waiting.approval_id, TOM), Code.APPROVAL_ENDED)
    assert floor.balance(guest) == 18_000
    by = {"approval_id": waiting.approval_id}
    assert floor.ask_one(till, refund(till, sale, 3000, **by)) == Declined(Reason.OVER_WHAT_IS_LEFT)


def test_what_was_given_back_meanwhile_is_not_granted_again(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(20_000)
    add_staff(floor)
    sale = sold(floor, till, guest, 9000)
    asked = refund_at_desk(floor, sale, 3000)
    granted = floor.ask_one(till, approve(floor, till, sale, 3000))
    assert isinstance(granted, ApprovalGranted)
    by = {"approval_id": granted.approval_id}
    assert isinstance(floor.ask_one(till, refund(till, sale, 3000, **by)), Refunded)
    refuses(decide(floor, asked.approval_id, TOM), Code.APPROVAL_OUTDATED)
    assert floor.balance(guest) == 14_000
    refused = decide(floor, asked.approval_id, TOM, grant=False)
    assert refused.state is ApprovalState.REFUSED
    refuses(decide(floor, asked.approval_id, TOM), Code.APPROVAL_ENDED)


def test_an_approval_at_the_appliance_answers_what_waited(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(20_000)
    add_staff(floor)
    sale = sold(floor, till, guest, 9000)
    floor.ask(till, refund(till, sale, 3000))
    floor.ask(till, approve(floor, till, sale, 3000))
    [row] = approval_rows(floor)
    refuses(decide(floor, row.approval_id, TOM), Code.APPROVAL_ENDED)


def test_each_refusal_at_the_desk_has_its_name(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(20_000)
    sale, unsold = sold(floor, till, guest, 500), till.deduct(floor.qr(guest))
    refuses(refund_at_desk(floor, unsold), Code.SALE_UNKNOWN)
    refuses(refund_at_desk(floor, sale, holder=ELSEWHERE), Code.SALE_UNKNOWN)
    refuses(refund_at_desk(floor, sale, 501), Code.OVER_WHAT_IS_LEFT)
    refuses(refund_at_desk(floor, sale, 0), Code.AMOUNT_OUT_OF_RANGE)
    refund_at_desk(floor, sale)
    refuses(refund_at_desk(floor, sale), Code.NOTHING_LEFT)
    refuses(decide(floor, "01920000-0000-7000-8000-000000000000", TOM), Code.APPROVAL_UNKNOWN)
    other = sold(floor, till, guest, 500)
    floor.revoke(till)
    floor.ask(till, till.cancel(other))
    refuses(refund_at_desk(floor, other), Code.SALE_UNDER_REVIEW)
    set_terms(floor, refund_deadline=floor.now() - timedelta(seconds=1))
    late = floor.add_till("till-2")
    refuses(refund_at_desk(floor, sold(floor, late, guest)), Code.REFUND_DEADLINE_PASSED)


def test_what_waits_is_not_granted_after_the_deadline_or_under_review(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(20_000)
    sale, other = sold(floor, till, guest, 5000), sold(floor, till, guest, 5000)
    asked, second = refund_at_desk(floor, sale), refund_at_desk(floor, other)
    floor.revoke(till)
    floor.ask(till, till.cancel(other))
    refuses(decide(floor, second.approval_id, TOM), Code.SALE_UNDER_REVIEW)
    set_terms(floor, refund_deadline=floor.now() - timedelta(seconds=1))
    refuses(decide(floor, asked.approval_id, TOM), Code.REFUND_DEADLINE_PASSED)
    assert floor.balance(guest) == 10_000


def test_the_table_itself_refuses_an_approval_by_the_asker_or_by_nobody(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(20_000)
    refund_at_desk(floor, sold(floor, till, guest, 5000))
    for values in (
        {"state": "used", "decided_by": "console:sue"},
        {"state": "used"},
        {"state": "granted"},
    ):
        with pytest.raises(IntegrityError), floor.database.transaction() as connection:
            connection.execute(update(approvals).values(**values))


def test_the_list_is_paged_and_narrowed_to_ones_events_and_kinds(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(20_000)
    for cents in (2001, 2002, 2003):
        refund_at_desk(floor, sold(floor, till, guest, cents))
    first = list_approvals(floor.database, FAY, state=None, limit=2, cursor=None)
    assert first is not None
    assert [each.amount for each in first[0]] == [eur(2003), eur(2002)]
    second = list_approvals(floor.database, FAY, state=None, limit=2, cursor=first[1])
    assert second is not None
    assert ([each.amount for each in second[0]], second[1]) == ([eur(2001)], None)
    empty = list_approvals(floor.database, ELSEWHERE, state=None, limit=2, cursor=None)
    assert empty == ([], None)
    nobody = Holder("console:ops", (Grant(Role.OPS),))
    assert list_approvals(floor.database, nobody, state=None, limit=2, cursor=None) == ([], None)
    assert list_approvals(floor.database, FAY, state=None, limit=2, cursor="AAAA") is None
    assert list_approvals(floor.database, FAY, state=None, limit=2, cursor="A") is None


# At once.


def test_of_a_hundred_refunds_at_desks_at_once_one_takes_effect(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = sold(floor, till, guest)
    answers = at_once([lambda: refund_at_desk(floor, sale)] * 100)
    assert len([each for each in answers if isinstance(each, SaleRefunded)]) == 1
    assert floor.balance(guest) == 2000


def test_of_one_request_sent_a_hundred_times_at_once_one_takes_effect(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale, key = sold(floor, till, guest), new_key()
    answers = at_once([lambda: refund_at_desk(floor, sale, 50, key=key)] * 100)
    assert isinstance(answers[0], SaleRefunded)
    assert answers == [answers[0]] * 100
    assert floor.balance(guest) == 1700


def test_desk_and_appliance_at_once_never_give_back_more_than_the_sale(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = sold(floor, till, guest, 1000)
    asked = [refund(till, sale, 300) for _ in range(10)]
    answers = at_once(
        [lambda each=each: floor.ask_one(till, each) for each in asked]
        + [lambda: refund_at_desk(floor, sale, 300)] * 10
    )
    done = [each for each in answers if isinstance(each, Refunded | SaleRefunded)]
    assert len(done) == 3
    assert floor.balance(guest) == 1900


def test_of_many_grants_at_once_one_takes_effect(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(20_000)
    asked = refund_at_desk(floor, sold(floor, till, guest, 9000), 3000)
    others = [TOM, Holder("console:ann", TOM.grants), ADA] * 10
    answers = at_once([lambda each=each: decide(floor, asked.approval_id, each) for each in others])
    assert len([each for each in answers if getattr(each, "state", None) == "used"]) == 1
    assert floor.balance(guest) == 14_000
