import threading

from sqlalchemy import delete, insert, select, update
from uuid_utils.compat import uuid7

from cloud.store.tables import badges, devices, sign_in_failures, staff, staff_assignments
from protocol.messages import Approved, Declined, Reason, SignedIn
from protocol.policy import Badge, sign_badge
from tests.cloud.floor import EVENT, PIN, Floor, Till

WRONG = "9999"


def declined(floor: Floor, till: Till, reason: Reason, **how: str) -> None:
    request = till.sign_in(floor, **how)
    assert floor.ask_one(till, request) == Declined(reason)
    [record] = floor.audit(subject=request.key)
    assert (record.action, record.outcome) == ("sign_in", reason.value)


def test_badge_and_pin_begin_a_session_that_sells(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    signed_in = floor.ask_one(till, till.sign_in(floor))
    assert isinstance(signed_in, SignedIn)
    assert (signed_in.staff_id, signed_in.initials) == ("mia", "MM")
    assert (signed_in.event_id, signed_in.stall_id) == (EVENT, "bar")
    assert signed_in.expires_at_ms == till.now_ms() + 12 * 3600 * 1000
    sale = till.deduct(floor.qr(guest), session_id=signed_in.session_id)
    assert isinstance(floor.ask_one(till, sale), Approved)
    [record] = floor.audit(action="sign_in")
    assert (record.actor, record.outcome, record.detail) == (
        "staff:mia",
        "signed_in",
        {"badge": floor.badge_id},
    )


def test_the_same_sign_in_again_is_the_same_session(floor: Floor) -> None:
    till = floor.add_till()
    request = till.sign_in(floor)
    signed_in = floor.ask_one(till, request)
    assert isinstance(signed_in, SignedIn)
    floor.pass_time(minutes=5)
    assert floor.ask_one(till, request) == signed_in


def test_a_new_sign_in_ends_the_session_before(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    assert isinstance(floor.ask_one(till, till.sign_in(floor)), SignedIn)
    earlier = till.deduct(floor.qr(guest))
    assert floor.ask_one(till, earlier) == Declined(Reason.SESSION_ENDED)


def test_wrong_pins_lock_the_badge_out_at_that_appliance_alone(floor: Floor) -> None:
    till, other = floor.add_till("till-1"), floor.add_till("till-2")
    for _ in range(5):
        declined(floor, till, Reason.PIN_WRONG, pin=WRONG)
    declined(floor, till, Reason.LOCKED_OUT)
    assert isinstance(floor.ask_one(other, other.sign_in(floor)), SignedIn)
    floor.pass_time(seconds=30)
    declined(floor, till, Reason.PIN_WRONG, pin=WRONG)
    floor.pass_time(seconds=30)
    declined(floor, till, Reason.LOCKED_OUT)
    floor.pass_time(seconds=30)
    assert isinstance(floor.ask_one(till, till.sign_in(floor)), SignedIn)
    declined(floor, till, Reason.PIN_WRONG, pin=WRONG)


def test_tries_at_once_are_all_counted(floor: Floor) -> None:
    till = floor.add_till()
    requests = [till.sign_in(floor, pin=WRONG) for _ in range(8)]
    answers: list[object] = []

    def ask(number: int) -> None:
        answers.append(floor.ask_one(till, requests[number]))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wrong = [each for each in answers if each == Declined(Reason.PIN_WRONG)]
    locked = [each for each in answers if each == Declined(Reason.LOCKED_OUT)]
    assert (len(wrong), len(locked)) == (5, 3)
    with floor.database.reading() as connection:
        assert connection.execute(select(sign_in_failures.c.count)).scalar_one() == 5


def test_an_old_sign_in_is_stale_and_no_try(floor: Floor) -> None:
    till = floor.add_till()
    old = till.sign_in(floor)
    floor.pass_time(seconds=31)
    assert floor.ask_one(till, old) == Declined(Reason.SIGN_IN_STALE)
    ahead = till.sign_in(floor, sent_at_ms=till.now_ms() + 31_000)
    assert floor.ask_one(till, ahead) == Declined(Reason.SIGN_IN_STALE)
    with floor.database.reading() as connection:
        assert connection.execute(select(sign_in_failures)).all() == []


def test_a_badge_that_is_not_ours_or_was_revoked_is_invalid(floor: Floor) -> None:
    till = floor.add_till()
    badge = Badge(1, floor.badge_id, "mia", EVENT)
    forged = sign_badge(badge, till.private, floor.keys.badge.kid)
    declined(floor, till, Reason.BADGE_INVALID, badge=forged)
    declined(floor, till, Reason.BADGE_INVALID, badge="WIFI:T:WPA;;")
    with floor.database.transaction() as connection:
        connection.execute(update(badges).values(revoked_at=floor.now()))
    declined(floor, till, Reason.BADGE_INVALID)


def test_staff_of_another_event_or_stall_do_not_sign_in(floor: Floor) -> None:
    till = floor.add_till()
    with floor.database.transaction() as connection:
        connection.execute(update(staff_assignments).values(stall_id="grill"))
    declined(floor, till, Reason.STAFF_NOT_ASSIGNED)
    with floor.database.transaction() as connection:
        connection.execute(delete(staff_assignments))
        connection.execute(
            insert(staff).values(staff_id="kim", name="Kim", initials="K", created_at=floor.now())
        )
        connection.execute(
            insert(staff_assignments).values(assignment_id=uuid7(), staff_id="kim", event_id=EVENT)
        )
    declined(floor, till, Reason.STAFF_NOT_ASSIGNED)


def test_a_revoked_or_unplaced_appliance_signs_nobody_in(floor: Floor) -> None:
    till, other = floor.add_till("till-1"), floor.add_till("till-2")
    with floor.database.transaction() as connection:
        connection.execute(
            update(devices)
            .where(devices.c.device_id == other.device_id)
            .values(event_id=None, stall_id=None)
        )
    declined(floor, other, Reason.DEVICE_ELSEWHERE)
    floor.revoke(till)
    declined(floor, till, Reason.DEVICE_REVOKED)


def test_a_pin_sealed_for_another_sign_in_is_wrong(floor: Floor) -> None:
    till = floor.add_till()
    earlier = till.sign_in(floor)
    replayed = till.sign_in(floor)
    pasted = type(replayed)(
        **{
            name: getattr(earlier if name == "sealed_pin" else replayed, name)
            for name in replayed.__struct_fields__
        }
    )
    assert floor.ask_one(till, pasted) == Declined(Reason.PIN_WRONG)


def test_a_sales_key_signs_nobody_in_and_a_sign_ins_key_sells_nothing(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    sale = till.deduct(floor.qr(guest))
    floor.ask(till, sale)
    assert floor.ask_one(till, till.sign_in(floor, key=sale.key)) == Declined(Reason.KEY_REUSED)
    signing_in = till.sign_in(floor)
    signed_in = floor.ask_one(till, signing_in)
    assert isinstance(signed_in, SignedIn)
    reused = till.deduct(floor.qr(guest), key=signing_in.key, session_id=signed_in.session_id)
    assert floor.ask_one(till, reused) == Declined(Reason.KEY_REUSED)
    assert len(floor.deducts(guest)) == 1


def test_no_pin_appears_in_what_is_kept(floor: Floor) -> None:
    till = floor.add_till()
    request = till.sign_in(floor)
    floor.ask(till, request)
    assert PIN not in repr(request)
    assert PIN not in repr(floor.audit())
