"""Somebody's work at an event ends at once: badge dead, sessions over, nothing in their name."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text
from uuid_utils.compat import uuid7

from cloud.operations.event.apply_event import Applied, apply_event
from cloud.operations.event.event_document import EventDocument
from cloud.operations.event.keep_version import Edit
from cloud.operations.event.read_event import find_event
from cloud.operations.refusals import Code, Refusal
from cloud.operations.staff.issue_badge import IssuedBadge, issue_badge, make_badge
from cloud.operations.staff.print_badges import Sheet, print_badges
from cloud.operations.staff.read_staff import list_staff
from cloud.operations.staff.revoke_staff import StaffRevoked, revoke_staff
from cloud.operations.till.badge_and_pin import find_holder
from cloud.store.tables import badges, staff, staff_sessions
from protocol.ids import EventId, StaffId
from protocol.messages import Approved, Declined, Reason, SignedIn
from protocol.policy import open_badge
from tests.cloud.floor import EVENT, Floor
from tests.cloud.operations.giving_back import add_staff, approve, refund, sold

MIA = StaffId("mia")


def revoke(floor: Floor, staff_id: StaffId = MIA) -> StaffRevoked:
    revoked = revoke_staff(
        floor.database, EVENT, staff_id, "badge lost", actor="token:ana", now=floor.now()
    )
    assert isinstance(revoked, StaffRevoked)
    return revoked


def test_from_the_next_transaction_on_nothing_is_sold_or_given_back_in_their_name(
    floor: Floor,
) -> None:
    till, other, guest = floor.add_till("till-1"), floor.add_till("till-2"), floor.add_guest()
    sale = sold(floor, till, guest)
    revoked = revoke(floor)
    assert (revoked.badges, revoked.signed_out_at) == (1, ("till-1", "till-2"))
    for each in (till, other):
        refused = floor.ask_one(each, each.deduct(floor.qr(guest)))
        assert refused == Declined(Reason.SESSION_ENDED)
    assert floor.ask_one(till, refund(till, sale)).reason is Reason.SESSION_ENDED
    assert floor.ask_one(till, till.balance(floor.qr(guest))) == Declined(Reason.SESSION_ENDED)
    assert floor.ask_one(till, till.sign_in(floor)) == Declined(Reason.BADGE_INVALID)
    assert floor.balance(guest) == 1650
    [record] = floor.audit(action="staff_revoked")
    assert (record.actor, record.subject, record.event_id) == ("token:ana", "mia", EVENT)
    assert record.detail["reason"] == "badge lost"


def test_what_was_sold_before_is_answered_for_and_cancelled_as_ever(floor: Floor) -> None:
    """A revocation of a person says nothing against what the appliance did before."""
    till, guest = floor.add_till(), floor.add_guest()
    sale = till.deduct(floor.qr(guest))
    approved = floor.ask_one(till, sale)
    assert isinstance(approved, Approved)
    revoke(floor)
    assert floor.ask_one(till, sale) == approved
    floor.ask(till, till.cancel(sale))
    assert floor.balance(guest) == 2000


def test_an_idle_appliance_learns_of_it_by_its_next_heartbeat(floor: Floor) -> None:
    till = floor.add_till()
    beat = floor.ask_one(till, till.heartbeat(session_id=till.session_id))
    assert beat.session_over is None
    revoke(floor)
    beat = floor.ask_one(till, till.heartbeat(session_id=till.session_id))
    assert beat.session_over == till.session_id
    assert floor.ask_one(till, till.heartbeat()).session_over is None
    odd = floor.ask_one(till, till.heartbeat(session_id="no-uuid-but-a-key"))
    assert odd.session_over is None


def test_a_revoked_supervisor_approves_nothing(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    sale = sold(floor, till, guest)
    add_staff(floor)
    revoke(floor, StaffId("sue"))
    assert floor.ask_one(till, approve(floor, till, sale)) == Declined(Reason.BADGE_INVALID)


def test_others_go_on_selling_and_a_new_badge_lets_them_in_again(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    add_staff(floor)
    assert revoke(floor, StaffId("sue")).signed_out_at == ()
    assert isinstance(floor.ask_one(till, till.deduct(floor.qr(guest))), Approved)
    revoke(floor)
    # Said twice it is done twice: nothing more happens.
    assert revoke(floor) == StaffRevoked(MIA, EVENT, 0, ())
    badge = issue_badge(
        floor.database, floor.keys, EVENT, MIA, "6027", actor="token:ana", now=floor.now()
    )
    assert isinstance(badge, IssuedBadge)
    assert isinstance(floor.ask_one(till, till.sign_in(floor, "6027", badge=badge.jws)), SignedIn)


def test_nobody_signs_in_past_a_revocation(floor: Floor) -> None:
    """Sign-ins at four appliances and the revocation at once: whichever came first, once it is
    done no session stands."""
    tills = [floor.add_till(f"till-{number}") for number in range(4)]
    requests = [till.sign_in(floor) for till in tills]
    answers: list[Any] = []

    def ask(at: int) -> None:
        answers.append(floor.ask_one(tills[at], requests[at]))

    deeds = [threading.Thread(target=ask, args=(at,)) for at in range(4)]
    deeds.append(threading.Thread(target=lambda: revoke(floor)))
    for deed in deeds:
        deed.start()
    for deed in deeds:
        deed.join()
    assert len(answers) == 4
    with floor.database.reading() as connection:
        standing = connection.execute(
            select(staff_sessions.c.session_id).where(staff_sessions.c.ended_at.is_(None))
        ).all()
    assert standing == []


def test_whoever_is_nobody_is_not_revoked_and_not_printed(floor: Floor) -> None:
    refused = revoke_staff(
        floor.database, EVENT, StaffId("ghost"), "x", actor="token:ana", now=floor.now()
    )
    assert isinstance(refused, Refusal)
    assert refused.code is Code.STAFF_UNKNOWN
    with floor.database.transaction() as connection:
        connection.execute(
            insert(staff).values(staff_id="kim", name="Kim", initials="K", created_at=floor.now())
        )
    for event_id, staff_ids, code in (
        (EventId("nowhere"), None, Code.EVENT_UNKNOWN),
        (EVENT, [StaffId("ghost")], Code.STAFF_UNKNOWN),
        (EVENT, [MIA, StaffId("kim")], Code.STAFF_NOT_ASSIGNED),
    ):
        unprinted = printed(floor, staff_ids, event_id=event_id)
        assert isinstance(unprinted, Refusal)
        assert unprinted.code is code


def printed(
    floor: Floor,
    staff_ids: list[StaffId] | None,
    *,
    anew: bool = False,
    event_id: EventId = EVENT,
) -> Sheet | Refusal:
    return print_badges(
        floor.database,
        floor.keys,
        event_id,
        staff_ids,
        anew=anew,
        actor="token:ana",
        now=floor.now(),
    )


def badge_ids(sheet: Sheet | Refusal) -> dict[str, str]:
    assert isinstance(sheet, Sheet)
    return {
        each.member.staff_id: each.member.badge.badge_id
        for each in sheet.badges
        if each.member.badge is not None
    }


def test_a_sheet_printed_again_leaves_the_first_one_good(floor: Floor) -> None:
    add_staff(floor)
    with floor.database.transaction() as connection:
        connection.execute(badges.delete().where(badges.c.staff_id == "sue"))
    first = badge_ids(printed(floor, None))
    assert first["mia"] == floor.badge_id
    assert badge_ids(printed(floor, None)) == first
    assert badge_ids(printed(floor, [StaffId("sue")])) == {"sue": first["sue"]}
    # A badge nobody chose a PIN with in time is replaced; one with a PIN is not.
    floor.pass_time(days=15)
    later = badge_ids(printed(floor, None))
    assert (later["mia"] == first["mia"], later["sue"] == first["sue"]) == (True, False)
    anew = badge_ids(printed(floor, [MIA], anew=True))
    assert anew["mia"] != first["mia"]
    listed = list_staff(floor.database, EVENT, floor.now())
    assert not isinstance(listed, Refusal)
    mia = next(each for each in listed if each.staff_id == MIA)
    assert mia.badge is not None
    assert (mia.badge.badge_id, mia.badge.has_pin, mia.badge.is_good) == (anew["mia"], False, True)
    [sheets, *_] = floor.audit(action="badges_printed")
    assert set(sheets.detail["badges"]) == set(first.values())


@pytest.mark.postgres
def test_a_sign_in_and_a_new_badge_at_once_do_not_wait_in_a_circle(
    postgres_url: str, tmp_path: Path
) -> None:
    floor = Floor(postgres_url, tmp_path / "keys")
    till = floor.add_till()
    made: list[IssuedBadge | Refusal] = []

    def make() -> None:
        made.append(issue_badge(floor.database, floor.keys, EVENT, MIA, actor="a", now=floor.now()))

    maker = threading.Thread(target=make)
    try:
        with floor.database.transaction() as connection:
            badge = open_badge(floor.badge_qr.encode(), floor.keys.find_badge)
            assert find_holder(connection, till.device_id, badge, till.stall_id) is not None
            maker.start()
            while maker.is_alive() and not _somebody_waits(floor):
                time.sleep(0.02)
            # As a session that begins does: it names its staff.
            connection.execute(
                insert(staff_sessions).values(
                    session_id=uuid7(),
                    staff_id=MIA,
                    device_id=till.device_id,
                    event_id=EVENT,
                    stall_id=till.stall_id,
                    created_at=floor.now(),
                    expires_at=floor.now(),
                )
            )
    finally:
        maker.join()
        floor.close()
    assert isinstance(made[0], IssuedBadge)


@pytest.mark.postgres
def test_an_edit_and_a_new_badge_at_once_do_not_wait_in_a_circle(
    postgres_url: str, tmp_path: Path
) -> None:
    floor = Floor(postgres_url, tmp_path / "keys")
    document = find_event(floor.database, EVENT)
    assert isinstance(document, EventDocument)
    changed = document.model_copy(update={"sale_max_in_cents": 9_900})
    applied: list[Applied | Refusal] = []

    def apply() -> None:
        applied.append(
            apply_event(floor.database, floor.keys, EVENT, changed, Edit("a", floor.now()))
        )

    editor = threading.Thread(target=apply)
    try:
        with floor.database.transaction() as connection:
            held = select(staff.c.staff_id).where(staff.c.staff_id == MIA)
            connection.execute(held.with_for_update(key_share=True))
            editor.start()
            while editor.is_alive() and not _somebody_waits(floor):
                time.sleep(0.02)
            # The event is named by each badge; whoever edits it holds it by now.
            make_badge(connection, EVENT, MIA, None, actor="a", now=floor.now())
    finally:
        editor.join()
        floor.close()
    assert isinstance(applied[0], Applied)


def _somebody_waits(floor: Floor) -> bool:
    with floor.database.reading() as connection:
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return connection.execute(waiting).scalar_one() > 0
