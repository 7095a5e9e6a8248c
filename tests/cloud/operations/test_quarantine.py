"""An appliance whose journal contradicts itself: noticed, stopped and released, in a database."""

from typing import Any

from msgspec.structs import replace
from sqlalchemy import select

from cloud.metrics import REGISTRY
from cloud.operations.fleet.release_device import release_device
from cloud.operations.refusals import Code, Refusal
from cloud.operations.till.opening import Arrived
from cloud.store.tables import devices, review_entries
from protocol.messages import (
    Approved,
    Declined,
    HeartbeatAnswered,
    JournalPosition,
    LastReceiptRequest,
    Reason,
    UnderReview,
)
from tests.cloud.floor import Floor, Till

DECLINED = Declined(Reason.DEVICE_QUARANTINED)
ENVELOPE = ("device_id", "key", "journal", "sent_at_ms")


def device(floor: Floor, till: Till) -> Any:
    with floor.database.reading() as connection:
        return connection.execute(
            select(devices).where(devices.c.device_id == till.device_id)
        ).one()


def fork(floor: Floor, till: Till) -> None:
    """A heartbeat, and another one that says otherwise of the same entry."""
    beat = till.heartbeat()
    assert isinstance(floor.ask_one(till, beat), HeartbeatAnswered)
    forked = replace(beat.journal, head="B" * 43)
    assert floor.ask_one(till, till.heartbeat(journal=forked)) == DECLINED


def release(floor: Floor, till: Till) -> Any:
    floor.pass_time(seconds=1)
    return release_device(
        floor.database, till.device_id, "one card", actor="ops:ana", now=floor.now()
    )


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_fork_stops_everything_but_what_was_answered_before(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    sold, unsent = till.deduct(floor.qr(guest)), till.deduct(floor.qr(guest))
    approved = floor.ask_one(till, sold)
    before = count("railtix_pos_quarantines_total", cause="journal_forked")
    fork(floor, till)
    assert count("railtix_pos_quarantines_total", cause="journal_forked") == before + 1
    [record] = floor.audit(action="device_quarantined")
    assert (record.device_id, record.detail["cause"]) == ("till-1", "journal_forked")
    assert device(floor, till).quarantine_cause == "journal_forked"
    assert floor.ask_one(till, till.deduct(floor.qr(guest))) == DECLINED
    assert floor.ask_one(till, till.balance(floor.qr(guest))) == DECLINED
    assert floor.ask_one(till, till.heartbeat()) == DECLINED
    assert floor.ask_one(till, till.sign_in(floor)) == DECLINED
    receipt = LastReceiptRequest(
        session_id=till.session_id,
        **{name: getattr(till.heartbeat(), name) for name in ENVELOPE},
    )
    assert floor.ask_one(till, receipt) == DECLINED
    assert floor.ask_one(till, sold) == approved
    answers = floor.ask(till, till.cancel(sold), till.accept_offline(unsent))
    assert [type(each) for each in answers] == [UnderReview, UnderReview]
    assert {entry.reason for entry in floor.reviews()} == {"device_quarantined"}
    assert len(floor.deducts(guest)) == 1
    assert len(floor.audit(action="device_quarantined")) == 1


def test_a_clone_that_sells_under_the_same_entry_is_stopped_in_its_very_batch(
    floor: Floor,
) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    sold = till.deduct(floor.qr(guest))
    assert isinstance(floor.ask_one(till, sold), Approved)
    twin = till.deduct(floor.qr(guest), entry=sold.entry)
    assert floor.ask(till, twin, till.deduct(floor.qr(guest))) == [DECLINED, DECLINED]
    assert device(floor, till).quarantine_cause == "journal_entry_twice"
    assert len(floor.deducts(guest)) == 1


def test_a_sale_from_before_what_was_settled_is_a_clones(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    early = till.deduct(floor.qr(guest))
    till.entry += 5
    floor.ask(till, till.heartbeat())
    assert floor.ask_one(till, early) == DECLINED
    assert device(floor, till).quarantine_cause == "journal_entry_unseen"


def test_a_replayed_heartbeat_is_told_what_is_known_and_an_old_copy_is_found_out(
    floor: Floor,
) -> None:
    till = floor.add_till()
    old = till.heartbeat()
    floor.ask(till, old, till.heartbeat(), till.heartbeat())
    known = floor.ask_one(till, old).journal_known
    assert (known.epoch, known.last) == (till.epoch, 3)
    assert floor.ask_one(till, old).journal_known == known
    assert device(floor, till).quarantined_at is None
    behind = till.heartbeat(journal=old.journal, journal_told=known)
    assert floor.ask_one(till, behind) == DECLINED
    assert device(floor, till).quarantine_cause == "journal_went_back"


def test_nobody_is_quarantined_by_anothers_heartbeat(floor: Floor) -> None:
    till, other = floor.add_till("till-1"), floor.add_till("till-2")
    floor.ask(till, till.heartbeat())
    forged = replace(other.heartbeat(), device_id="till-1")
    floor.answer([_arrived(floor, other, forged)])
    assert device(floor, till).quarantined_at is None
    assert isinstance(floor.ask_one(till, till.heartbeat()), HeartbeatAnswered)


def _arrived(floor: Floor, till: Till, request: Any) -> Arrived:
    return Arrived(till.sign(request), till.device_id, floor.now())


def test_a_released_appliance_sells_on_and_a_clone_is_found_out_again(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    sold = till.deduct(floor.qr(guest))
    floor.ask(till, sold)
    fork(floor, till)
    released = release(floor, till)
    assert (released.status, released.quarantined_at) == ("active", None)
    [record] = floor.audit(action="device_released")
    assert (record.actor, record.detail["reason"]) == ("ops:ana", "one card")
    assert record.detail["cause"] == "journal_forked"
    refusal = release(floor, till)
    assert isinstance(refusal, Refusal)
    assert refusal.code is Code.DEVICE_NOT_QUARANTINED
    floor.pass_time(seconds=1)
    # What the clone did before the release is no evidence any more, wherever the journal stands.
    again = till.deduct(floor.qr(guest), entry=sold.entry)
    back = JournalPosition(till.epoch, 1, 2, "C" * 43)
    assert isinstance(floor.ask_one(till, again), Approved)
    assert isinstance(floor.ask_one(till, till.heartbeat(journal=back)), HeartbeatAnswered)
    assert device(floor, till).journal_last == 1
    twin = till.deduct(floor.qr(guest), entry=again.entry)
    assert floor.ask_one(till, twin) == DECLINED
    assert release(floor, till).status == "active"


def test_what_an_appliance_lost_before_its_release_is_left_to_a_person(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    known = till.deduct(floor.qr(guest))
    floor.ask(till, known)
    beat = till.heartbeat()
    floor.ask(till, beat)
    lost = till.deduct(floor.qr(guest))
    assert isinstance(floor.ask_one(till, lost), Approved)
    # Its card is put back to where it stood before that sale.
    told = floor.ask_one(till, till.heartbeat(journal=replace(beat.journal, last=0))).journal_known
    behind = till.heartbeat(journal=replace(beat.journal, last=0), journal_told=told)
    assert floor.ask_one(till, behind) == DECLINED
    release(floor, till)
    assert isinstance(floor.ask_one(till, till.heartbeat(journal=beat.journal)), HeartbeatAnswered)
    # The journal grows past the lost sale's number, as if that were settled.
    till.entry += 10
    floor.ask(till, till.heartbeat())
    with floor.database.reading() as connection:
        [entry] = connection.execute(select(review_entries)).all()
    assert (entry.key, entry.reason, entry.state) == (lost.key, "device_quarantined", "open")


def test_a_shortfall_and_a_double_spend_are_counted_and_denied_to_every_till(
    floor: Floor,
) -> None:
    here, there = floor.add_till("till-1"), floor.add_till("till-2")
    poor, copied = floor.add_guest(300), floor.add_guest(5000)
    short = count("railtix_pos_offline_shortfall_cents_total", currency="EUR")
    double = count("railtix_pos_offline_double_spends_total")
    empty = floor.ask_one(here, here.heartbeat()).denied
    assert (empty.is_whole, empty.added, empty.more) == (True, (), False)
    assert floor.ask_one(here, here.heartbeat(denied_version=empty.version)).denied is None
    qr = floor.qr(copied)
    floor.ask(here, here.accept_offline(here.deduct(floor.qr(poor), 500)))
    floor.ask(here, here.accept_offline(here.deduct(qr)))
    floor.ask(there, there.accept_offline(there.deduct(qr)))
    assert count("railtix_pos_offline_shortfall_cents_total", currency="EUR") == short + 200
    assert count("railtix_pos_offline_double_spends_total") == double + 1
    floor.pass_time(seconds=3)
    told = floor.ask_one(there, there.heartbeat(denied_version=empty.version)).denied
    assert set(told.added) == {poor.payer_id, copied.payer_id}
    assert told.is_whole
    assert floor.ask_one(there, there.heartbeat(denied_version=told.version)).denied is None
