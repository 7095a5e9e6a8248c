"""The review list: what reaches it, and how a person ends it, on both databases."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert

from cloud.access.roles import Grant, Holder, Role
from cloud.operations.desk.end_review import Ending
from cloud.operations.desk.review_list import (
    ReviewEntry,
    ReviewState,
    find_review,
    list_reviews,
)
from cloud.operations.desk.review_unsettled import review_unsettled
from cloud.operations.fleet.register_device import revoke_device
from cloud.operations.refusals import Code
from cloud.store.tables import events
from protocol.messages import (
    Approved,
    Cancelled,
    Declined,
    JournalPosition,
    PostedOffline,
    Reason,
    Refunded,
    SignedIn,
    UnderReview,
)
from tests.cloud.floor import Floor, Till, eur
from tests.cloud.operations.console import ELSEWHERE, FAY, SUE, TOM, at_once, end, new_key, refuses
from tests.cloud.operations.giving_back import refund, refunds_of, sold


def late_upload(floor: Floor, till: Till, guest: Any, cents: int = 350) -> tuple[Any, UnderReview]:
    """An offline sale whose upload comes after 24 hours, and so goes to review."""
    sale = till.accept_offline(till.deduct(floor.qr(guest), cents))
    floor.pass_time(hours=24, seconds=5)
    answer = floor.ask_one(till, sale)
    assert isinstance(answer, UnderReview)
    return sale, answer


# Ending one.


def test_an_offline_sale_is_posted_in_full_from_what_the_appliance_signed(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(100)
    sale, review = late_upload(floor, till, guest)
    key = new_key()
    ended = end(floor, review.review_id, Ending.POST, key=key)
    assert isinstance(ended, ReviewEntry)
    assert ended.state is ReviewState.POSTED
    assert end(floor, review.review_id, Ending.POST, key=key) == ended
    assert floor.balance(guest) == -250
    row = floor.transactions(guest)[-1]
    assert (str(row.id), row.created_by, row.staff_id) == (
        ended.transaction_id,
        "console:sue",
        "mia",
    )
    assert (row.idempotency_key, row.correlation_id) == (sale.key, sale.correlation_id)
    assert row.accepted_offline_at < row.created_at
    [record] = floor.audit(action="review_ended")
    assert (record.actor, record.outcome, record.subject) == (
        "console:sue",
        "posted",
        review.review_id,
    )
    posted = floor.ask_one(till, sale)
    assert isinstance(posted, PostedOffline)
    assert (posted.transaction_id, posted.short_in_cents) == (ended.transaction_id, 250)
    assert len(floor.deducts(guest)) == 1


def test_what_was_posted_from_the_list_is_refunded_and_cancelled_like_any_sale(
    floor: Floor,
) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale, review = late_upload(floor, till, guest)
    end(floor, review.review_id, Ending.POST)
    till = floor.add_till("till-2")
    refused = floor.ask_one(till, refund(till, sale))
    assert refused == Declined(Reason.APPROVAL_NEEDED)


def test_an_offline_sale_that_is_written_off_is_never_posted(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale, review = late_upload(floor, till, guest)
    ended = end(floor, review.review_id, Ending.WRITE_OFF, FAY)
    assert ended.state is ReviewState.WRITTEN_OFF
    assert floor.ask_one(till, sale) == review
    assert floor.balance(guest) == 2000


def test_an_entry_ends_once(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    _, review = late_upload(floor, till, guest)
    end(floor, review.review_id, Ending.WRITE_OFF)
    for ending in Ending:
        refuses(end(floor, review.review_id, ending), Code.REVIEW_ENDED)
    assert floor.balance(guest) == 2000


def test_of_a_hundred_endings_at_once_one_takes_effect(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    _, review = late_upload(floor, till, guest)
    deeds: list[Callable[[], object]] = [
        lambda ending=ending: end(floor, review.review_id, ending)
        for ending in (Ending.POST, Ending.WRITE_OFF) * 50
    ]
    answers = at_once(deeds)
    assert len([each for each in answers if isinstance(each, ReviewEntry)]) == 1
    assert floor.balance(guest) in {2000, 1650}


def test_nothing_posted_is_nothing_to_reverse(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    _, review = late_upload(floor, till, guest)
    refuses(end(floor, review.review_id, Ending.REVERSE), Code.NOTHING_TO_REVERSE)
    assert end(floor, review.review_id, Ending.POST).state is ReviewState.POSTED


def test_nobody_is_charged_by_a_qr_that_is_not_theirs(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    forged = till.accept_offline(till.deduct(floor.qr(guest)[:-4] + "AAAA"))
    stranger = floor.qr(guest, sub="s" * 12)
    unknown = till.accept_offline(till.deduct(stranger))
    free = till.accept_offline(till.deduct(floor.qr(guest), 0))
    for sale in (forged, unknown, free):
        review = floor.ask_one(till, sale)
        assert isinstance(review, UnderReview)
        refuses(end(floor, review.review_id, Ending.POST), Code.NOTHING_TO_POST)
    assert floor.balance(guest) == 2000


def test_one_key_is_one_sale_on_the_list_too(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = sold(floor, till, guest, 350)
    other = till.accept_offline(till.deduct(sale.wallet_qr, 400, key=sale.key))
    review = floor.ask_one(till, other)
    assert isinstance(review, UnderReview)
    refuses(end(floor, review.review_id, Ending.POST), Code.SALE_STANDS)
    assert end(floor, review.review_id, Ending.REVERSE).state is ReviewState.REVERSED
    assert floor.balance(guest) == 2000
    assert floor.ask_one(till, sale) == Cancelled(eur(350))


def test_a_sale_that_was_cancelled_and_sold_after_all_is_posted(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = sold(floor, till, guest, 350)
    floor.ask(till, till.cancel(sale))
    upload = till.accept_offline(sale)
    review = floor.ask_one(till, upload)
    ended = end(floor, review.review_id, Ending.POST)
    assert floor.balance(guest) == 1650
    assert floor.ask_one(till, upload).transaction_id == ended.transaction_id
    assert floor.ask_one(till, upload).token_seen_before
    assert isinstance(floor.ask_one(till, refund(till, sale)), Refunded)


def test_a_sign_ins_key_keeps_its_answer_when_a_sale_under_it_is_posted(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    signing_in = till.sign_in(floor)
    signed_in = floor.ask_one(till, signing_in)
    assert isinstance(signed_in, SignedIn)
    sale = till.deduct(floor.qr(guest), 350, key=signing_in.key, session_id=signed_in.session_id)
    review = floor.ask_one(till, till.accept_offline(sale))
    assert end(floor, review.review_id, Ending.POST).state is ReviewState.POSTED
    assert floor.ask_one(till, signing_in) == signed_in
    assert floor.balance(guest) == 1650


@pytest.mark.parametrize(
    ("ending", "balance"), [(Ending.POST, 1650), (Ending.REVERSE, 2000), (Ending.WRITE_OFF, 1650)]
)
def test_a_revoked_appliances_cancel_is_believed_or_not(
    floor: Floor, ending: Ending, balance: int
) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = sold(floor, till, guest, 350)
    floor.revoke(till)
    review = floor.ask_one(till, till.cancel(sale))
    assert isinstance(review, UnderReview)
    end(floor, review.review_id, ending)
    assert floor.balance(guest) == balance


def test_a_cancel_of_nothing_keeps_nothing_and_reverses_nothing(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    floor.revoke(till)
    review = floor.ask_one(till, till.cancel(till.deduct(floor.qr(guest))))
    refuses(end(floor, review.review_id, Ending.POST), Code.NOTHING_TO_POST)
    refuses(end(floor, review.review_id, Ending.REVERSE), Code.NOTHING_TO_REVERSE)
    assert end(floor, review.review_id, Ending.WRITE_OFF).state is ReviewState.WRITTEN_OFF


def test_a_review_is_for_the_people_of_its_event(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale, review = late_upload(floor, till, guest)
    refuses(end(floor, review.review_id, Ending.POST, ELSEWHERE), Code.REVIEW_UNKNOWN)
    nobody = "01920000-0000-7000-8000-000000000000"
    refuses(end(floor, nobody, Ending.POST), Code.REVIEW_UNKNOWN)
    [row] = floor.reviews()
    refuses(find_review(floor.database, row.review_id, ELSEWHERE), Code.REVIEW_UNKNOWN)
    entry = find_review(floor.database, row.review_id, SUE)
    assert isinstance(entry, ReviewEntry)
    assert entry.said is not None
    assert (entry.said["kind"], entry.said["key"]) == ("offline_acceptance", sale.key)
    assert "wallet_qr" not in entry.said
    for holder, count in ((SUE, 1), (TOM, 1), (ELSEWHERE, 0)):
        page = list_reviews(floor.database, holder, state=ReviewState.OPEN, limit=9, cursor=None)
        assert page is not None
        assert len(page[0]) == count


def test_the_list_is_paged(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(20_000)
    floor.revoke(till)
    for _ in range(3):
        floor.ask(till, till.cancel(sold(floor, till, guest)))
    first = list_reviews(floor.database, TOM, state=None, limit=2, cursor=None)
    assert first is not None
    second = list_reviews(floor.database, TOM, state=None, limit=2, cursor=first[1])
    assert second is not None
    ids = [each.review_id for each in (*first[0], *second[0])]
    assert ids == sorted(ids, reverse=True)
    assert (len(ids), second[1]) == (3, None)
    assert list_reviews(floor.database, TOM, state=None, limit=2, cursor="AAAA") is None


# What the appliance never learned.


def heartbeat(floor: Floor, till: Till, settled_below: int, epoch: str | None = None) -> None:
    """As a till does: what the answer says is known of the journal it says again at once."""
    journal = JournalPosition(epoch or till.epoch, till.entry + 1, settled_below, "A" * 43)
    known = floor.ask_one(till, till.heartbeat(journal=journal)).journal_known
    if known is not None:
        floor.ask(till, till.heartbeat(journal=journal, journal_told=known))


def unsettled(floor: Floor) -> list[tuple[str, str]]:
    return [(row.key, row.reason) for row in floor.reviews()]


def test_a_revocation_lists_what_the_appliance_never_said_it_knows(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(20_000)
    settled = sold(floor, till, guest)
    heartbeat(floor, till, settled.entry + 1)
    unknown, cancelled = sold(floor, till, guest), sold(floor, till, guest)
    floor.ask(till, till.cancel(cancelled))
    revoke_device(floor.database, till.device_id, "lost", actor="ops:ana", now=floor.now())
    assert unsettled(floor) == [(unknown.key, "device_revoked")]
    [row] = floor.reviews()
    assert (row.kind, row.request, row.amount_in_cents) == ("deduct", None, 350)
    [record] = floor.audit(action="device_revoked")
    assert record.detail["put_on_the_review_list"] == 1
    revoke_device(floor.database, till.device_id, "lost", actor="ops:ana", now=floor.now())
    assert len(floor.reviews()) == 1


@pytest.mark.parametrize(
    ("ending", "balance"), [(Ending.POST, 1650), (Ending.REVERSE, 2000), (Ending.WRITE_OFF, 1650)]
)
def test_an_unsettled_approval_is_kept_or_given_back(
    floor: Floor, ending: Ending, balance: int
) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = sold(floor, till, guest, 350)
    revoke_device(floor.database, till.device_id, "lost", actor="ops:ana", now=floor.now())
    [row] = floor.reviews()
    entry = find_review(floor.database, row.review_id, SUE)
    assert isinstance(entry, ReviewEntry)
    assert entry.said is None
    ended = end(floor, row.review_id, ending)
    assert ended.transaction_id is not None
    assert floor.balance(guest) == balance
    again = floor.ask_one(till, sale)
    assert again == Cancelled(eur(350)) if ending is Ending.REVERSE else isinstance(again, Approved)
    assert len(refunds_of(floor, guest)) == (1 if ending is Ending.REVERSE else 0)


def test_a_new_journal_lists_what_the_one_before_had_not_settled(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(20_000)
    settled, unknown = sold(floor, till, guest), sold(floor, till, guest)
    heartbeat(floor, till, unknown.entry)
    heartbeat(floor, till, 1, epoch="another-epoch-now")
    assert unsettled(floor) == [(unknown.key, "journal_new_epoch")]
    heartbeat(floor, till, 1, epoch="another-epoch-now")
    assert len(floor.reviews()) == 1
    floor.pass_time(hours=25)
    assert review_unsettled(floor.database, floor.now()) == 0
    assert settled.key not in {row.key for row in floor.reviews()}


def test_after_a_day_an_unsettled_approval_is_listed_once(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(20_000)
    settled, unknown = sold(floor, till, guest), sold(floor, till, guest)
    heartbeat(floor, till, unknown.entry)
    silent = floor.add_till("till-2")
    never_heard_of = sold(floor, silent, guest)
    floor.pass_time(hours=24)
    assert review_unsettled(floor.database, floor.now()) == 0
    floor.pass_time(seconds=1)
    fresh = floor.add_till("till-3")
    sold(floor, fresh, guest)
    assert review_unsettled(floor.database, floor.now()) == 2
    assert review_unsettled(floor.database, floor.now()) == 0
    assert sorted(unsettled(floor)) == sorted(
        [(unknown.key, "never_settled"), (never_heard_of.key, "never_settled")]
    )
    assert settled.key not in {row.key for row in floor.reviews()}


def test_a_sale_in_a_journal_that_no_heartbeat_named_yet_is_unsettled(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(20_000)
    old = sold(floor, till, guest)
    heartbeat(floor, till, old.entry + 1)
    floor.pass_time(seconds=1)
    till.epoch = "another-epoch-now"
    new = sold(floor, till, guest)
    revoke_device(floor.database, till.device_id, "lost", actor="ops:ana", now=floor.now())
    assert unsettled(floor) == [(new.key, "device_revoked")]


def test_an_event_nobody_is_asked_about_is_for_those_of_every_event(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    with floor.database.transaction() as connection:
        connection.execute(
            insert(events).values(
                event_id="winter-fair", name="W", currency="EUR", created_at=floor.now()
            )
        )
    elsewhere = till.accept_offline(till.deduct(floor.qr(guest), event_id="winter-fair"))
    review = floor.ask_one(till, elsewhere)
    assert isinstance(review, UnderReview)
    both = Holder("console:bo", (*SUE.grants, Grant(Role.SUPERVISOR, ELSEWHERE.grants[0].event_id)))
    refuses(end(floor, review.review_id, Ending.POST, SUE), Code.REVIEW_UNKNOWN)
    refuses(end(floor, review.review_id, Ending.POST, both), Code.NOTHING_TO_POST)
    assert end(floor, review.review_id, Ending.WRITE_OFF, TOM).state is ReviewState.WRITTEN_OFF
