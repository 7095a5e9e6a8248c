"""A badge without a PIN: whoever holds it chooses one at the first sign-in, and only then."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from cloud.operations.staff.change_pin import CHOOSE_AGAIN_WITHIN, change_pin
from cloud.operations.staff.issue_badge import CHOOSE_WITHIN, issue_badge
from cloud.operations.till import choose_pin as choosing
from cloud.operations.till import sign_in as signing_in
from cloud.operations.till.badge_and_pin import Holder
from cloud.store.tables import badges, outcomes, sign_in_failures, staff_assignments, staff_sessions
from protocol.ids import DeviceId, IdempotencyKey, StaffId
from protocol.messages import Approved, ChoosePin, Declined, Reason, SignedIn
from protocol.policy import Badge, sign_badge
from protocol.sealing import seal_pin
from tests.cloud.floor import EVENT, PIN, Floor, Till
from tests.cloud.operations.giving_back import add_staff, approve, sold

CHOSEN = "83041729"
one_database = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def choose(floor: Floor, till: Till, pin: str = CHOSEN, **changes: Any) -> ChoosePin:
    envelope = till.sign_in(floor)
    said: dict[str, Any] = {
        "device_id": till.device_id,
        "key": envelope.key,
        "journal": envelope.journal,
        "sent_at_ms": envelope.sent_at_ms,
        "badge": floor.badge_qr,
    } | changes
    public = floor.keys.pin.private.public_key()
    sealed = seal_pin(pin, public, DeviceId(till.device_id), IdempotencyKey(said["key"]))
    said.setdefault("sealed_pin", sealed)
    return ChoosePin(**said)


def unset(floor: Floor, staff_id: str = "mia") -> None:
    """As a badge is that was printed just now."""
    with floor.database.transaction() as connection:
        connection.execute(
            update(badges)
            .where(badges.c.staff_id == staff_id)
            .values(pin_hash=None, choose_until=floor.now() + CHOOSE_WITHIN)
        )


def declined(floor: Floor, till: Till, request: Any, reason: Reason) -> None:
    assert floor.ask_one(till, request) == Declined(reason)
    [record] = floor.audit(subject=request.key)
    assert record.outcome == reason.value


def has_pin(floor: Floor) -> bool:
    with floor.database.reading() as connection:
        kept = connection.execute(select(badges.c.pin_hash).where(badges.c.staff_id == "mia"))
        return kept.scalar_one() is not None


def test_a_badge_without_a_pin_gets_the_one_keyed_twice_and_signs_in_with_it(floor: Floor) -> None:
    till, other, guest = floor.add_till("till-1"), floor.add_till("till-2"), floor.add_guest()
    unset(floor)
    declined(floor, till, till.sign_in(floor, CHOSEN), Reason.PIN_NOT_SET)
    request = choose(floor, till)
    signed_in = floor.ask_one(till, request)
    assert isinstance(signed_in, SignedIn)
    assert (signed_in.staff_id, signed_in.stall_id) == ("mia", "bar")
    sale = till.deduct(floor.qr(guest), session_id=signed_in.session_id)
    assert isinstance(floor.ask_one(till, sale), Approved)
    [record] = floor.audit(subject=request.key)
    assert (record.action, record.outcome, record.actor) == (
        "choose_pin",
        "signed_in",
        "staff:mia",
    )
    assert isinstance(floor.ask_one(other, other.sign_in(floor, CHOSEN)), SignedIn)
    declined(floor, other, other.sign_in(floor, PIN), Reason.PIN_WRONG)


def test_the_same_choice_again_gets_the_same_answer_and_changes_nothing(floor: Floor) -> None:
    till = floor.add_till()
    unset(floor)
    request = choose(floor, till)
    signed_in = floor.ask_one(till, request)
    assert isinstance(signed_in, SignedIn)
    assert floor.ask_one(till, request) == signed_in
    # Also once the desk has set another: an old message brings no old PIN back.
    changed = change_pin(
        floor.database, EVENT, StaffId("mia"), "6027", actor="token:ana", now=floor.now()
    )
    assert getattr(changed, "choose_until", "refused") is None
    assert floor.ask_one(till, request) == signed_in
    declined(floor, till, till.sign_in(floor, CHOSEN), Reason.PIN_WRONG)
    assert isinstance(floor.ask_one(till, till.sign_in(floor, "6027")), SignedIn)


@one_database
def test_whoever_never_heard_the_answer_gets_in_with_the_pin_they_keyed(floor: Floor) -> None:
    """The power went between the commit and the answer."""
    till = floor.add_till()
    unset(floor)
    floor.ask_one(till, choose(floor, till))
    assert isinstance(floor.ask_one(till, till.sign_in(floor, CHOSEN)), SignedIn)


def test_of_two_appliances_that_choose_at_once_one_wins(floor: Floor) -> None:
    tills = [floor.add_till("till-1"), floor.add_till("till-2")]
    unset(floor)
    pins = [CHOSEN, "60417285"]
    requests = [choose(floor, till, pin) for till, pin in zip(tills, pins, strict=True)]
    answers: dict[int, Any] = {}

    def ask(number: int) -> None:
        answers[number] = floor.ask_one(tills[number], requests[number])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [number for number in range(2) if isinstance(answers[number], SignedIn)]
    assert len(won) == 1
    assert answers[1 - won[0]] == Declined(Reason.PIN_SET_ALREADY)
    till = tills[won[0]]
    assert isinstance(floor.ask_one(till, till.sign_in(floor, pins[won[0]])), SignedIn)
    declined(floor, till, till.sign_in(floor, pins[1 - won[0]]), Reason.PIN_WRONG)


@one_database
@pytest.mark.parametrize("pin", ["123", "123456789", "0000", "1234", "8765"])
def test_a_pin_that_everybody_tries_first_is_refused_before_it_is_keyed_twice(
    floor: Floor, pin: str
) -> None:
    till = floor.add_till()
    unset(floor)
    declined(floor, till, till.sign_in(floor, pin), Reason.PIN_NOT_ALLOWED)
    declined(floor, till, choose(floor, till, pin), Reason.PIN_NOT_ALLOWED)
    assert not has_pin(floor)


@one_database
def test_a_pin_sealed_for_another_request_is_not_set(floor: Floor) -> None:
    till = floor.add_till()
    unset(floor)
    earlier = till.sign_in(floor, CHOSEN)
    pasted = choose(floor, till, sealed_pin=earlier.sealed_pin)
    declined(floor, till, pasted, Reason.PIN_WRONG)
    assert not has_pin(floor)


@one_database
def test_a_badge_that_lay_about_for_two_weeks_lets_nobody_choose(floor: Floor) -> None:
    till = floor.add_till()
    unset(floor)
    floor.pass_time(seconds=CHOOSE_WITHIN.total_seconds() - 1)
    declined(floor, till, till.sign_in(floor, CHOSEN), Reason.PIN_NOT_SET)
    floor.pass_time(seconds=1)
    declined(floor, till, till.sign_in(floor, CHOSEN), Reason.PIN_CHOICE_OVER)
    declined(floor, till, choose(floor, till), Reason.PIN_CHOICE_OVER)
    assert not has_pin(floor)
    # Ops open it again, for a day.
    change_pin(floor.database, EVENT, StaffId("mia"), actor="token:ana", now=floor.now())
    floor.pass_time(seconds=CHOOSE_AGAIN_WITHIN.total_seconds() - 1)
    assert isinstance(floor.ask_one(till, choose(floor, till)), SignedIn)


@one_database
def test_a_pin_is_chosen_only_at_the_badges_event_with_a_badge_that_counts(floor: Floor) -> None:
    till = floor.add_till()
    unset(floor)
    stale = choose(floor, till, sent_at_ms=till.now_ms() - 31_000)
    declined(floor, till, stale, Reason.SIGN_IN_STALE)
    forged = sign_badge(Badge(1, floor.badge_id, "mia", EVENT), till.private, "b1")
    declined(floor, till, choose(floor, till, badge=forged), Reason.BADGE_INVALID)
    with floor.database.transaction() as connection:
        connection.execute(update(staff_assignments).values(stall_id="grill"))
    declined(floor, till, choose(floor, till), Reason.STAFF_NOT_ASSIGNED)
    with floor.database.transaction() as connection:
        connection.execute(update(staff_assignments).values(stall_id=None))
        connection.execute(update(badges).values(revoked_at=floor.now()))
    declined(floor, till, choose(floor, till), Reason.BADGE_INVALID)
    with floor.database.transaction() as connection:
        connection.execute(update(badges).values(revoked_at=None))
    floor.revoke(till)
    declined(floor, till, choose(floor, till), Reason.DEVICE_REVOKED)
    assert not has_pin(floor)


@one_database
def test_choosing_over_a_pin_is_a_try_that_locks_and_is_audited(floor: Floor) -> None:
    till = floor.add_till()
    for _ in range(5):
        declined(floor, till, choose(floor, till), Reason.PIN_SET_ALREADY)
    declined(floor, till, choose(floor, till), Reason.LOCKED_OUT)
    declined(floor, till, till.sign_in(floor), Reason.LOCKED_OUT)
    [locked] = floor.audit(action="badge_locked")
    assert (locked.actor, locked.subject, locked.device_id) == (
        "device:till-1",
        floor.badge_id,
        "till-1",
    )
    assert (locked.detail["tried_by"], locked.detail["tries"]) == ("choose_pin", 5)


@one_database
def test_a_lock_out_holds_for_choosing_too_until_ops_forget_the_pin(floor: Floor) -> None:
    till = floor.add_till()
    for _ in range(5):
        declined(floor, till, till.sign_in(floor, "9999"), Reason.PIN_WRONG)
    [locked] = floor.audit(action="badge_locked")
    assert locked.detail["tried_by"] == "sign_in"
    assert locked.detail["until"] == (floor.now() + timedelta(seconds=30)).isoformat()
    unset(floor)
    declined(floor, till, till.sign_in(floor, CHOSEN), Reason.LOCKED_OUT)
    declined(floor, till, choose(floor, till), Reason.LOCKED_OUT)
    change_pin(floor.database, EVENT, StaffId("mia"), actor="token:ana", now=floor.now())
    assert isinstance(floor.ask_one(till, choose(floor, till)), SignedIn)
    with floor.database.reading() as connection:
        assert connection.execute(select(sign_in_failures)).all() == []


@one_database
def test_a_supervisor_without_a_pin_approves_nothing_and_chooses_none_by_it(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    sale = sold(floor, till, guest)
    add_staff(floor)
    unset(floor, "sue")
    for _ in range(2):
        declined(floor, till, approve(floor, till, sale, pin=CHOSEN), Reason.PIN_NOT_SET)
    with floor.database.transaction() as connection:
        connection.execute(update(badges).values(choose_until=floor.now()))
    declined(floor, till, approve(floor, till, sale, pin=CHOSEN), Reason.PIN_CHOICE_OVER)


@one_database
def test_wrong_pins_over_a_refund_lock_the_supervisors_badge_and_are_audited(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    sale = sold(floor, till, guest)
    add_staff(floor)
    for _ in range(5):
        wrong = approve(floor, till, sale, pin="9999")
        assert floor.ask_one(till, wrong) == Declined(Reason.PIN_WRONG)
    assert floor.ask_one(till, approve(floor, till, sale)) == Declined(Reason.LOCKED_OUT)
    [locked] = floor.audit(action="badge_locked")
    assert (locked.detail["staff"], locked.detail["tried_by"]) == ("sue", "approve")


def revoke_now(floor: Floor) -> None:
    with floor.database.transaction() as connection:
        connection.execute(update(badges).values(revoked_at=floor.now()))


def forget_now(floor: Floor) -> None:
    change_pin(floor.database, EVENT, StaffId("mia"), actor="token:ana", now=floor.now())


def replace_now(floor: Floor) -> None:
    issue_badge(
        floor.database, floor.keys, EVENT, StaffId("mia"), actor="token:ana", now=floor.now()
    )


@one_database
@pytest.mark.parametrize(
    ("meanwhile", "reason"),
    [
        (revoke_now, Reason.BADGE_INVALID),
        (forget_now, Reason.PIN_WRONG),
        (replace_now, Reason.BADGE_INVALID),
    ],
    ids=["revoked", "forgotten", "replaced"],
)
def test_a_badge_that_changed_while_its_pin_was_compared_lets_nobody_in(
    floor: Floor,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Callable[[Floor], None],
    reason: Reason,
) -> None:
    till = floor.add_till()

    def knows(pin: str | None, holder: Holder) -> bool:
        meanwhile(floor)
        return pin == PIN

    monkeypatch.setattr(signing_in, "knows_pin", knows)
    declined(floor, till, till.sign_in(floor), reason)
    with floor.database.reading() as connection:
        assert len(connection.execute(select(staff_sessions)).all()) == 1, "the one from before"


@one_database
def test_a_badge_that_was_revoked_while_its_pin_was_hashed_gets_none(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    till = floor.add_till()
    unset(floor)

    def hash_late(pin: str) -> str:
        revoke_now(floor)
        return f"hash of {len(pin)} digits"

    monkeypatch.setattr(choosing, "hash_pin", hash_late)
    declined(floor, till, choose(floor, till), Reason.BADGE_INVALID)
    assert not has_pin(floor)


@one_database
def test_a_chosen_pin_appears_in_nothing_that_is_kept(floor: Floor) -> None:
    till = floor.add_till()
    unset(floor)
    request = choose(floor, till)
    floor.ask_one(till, request)
    assert CHOSEN not in repr(request)
    assert CHOSEN not in repr(floor.audit())
    with floor.database.reading() as connection:
        assert CHOSEN not in repr(connection.execute(select(outcomes)).all())
        kept = connection.execute(select(badges.c.pin_hash)).scalar_one()
    assert kept.startswith("$argon2id$")
