"""Appliances that leave: what is refused first, what a person has to judge, what never posts."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from cloud.operations.fleet.decommission_device import decommission_device
from cloud.operations.fleet.read_devices import Device
from cloud.operations.fleet.read_leaving import LeavingSoFar, read_leaving
from cloud.operations.fleet.read_unsynced import Force
from cloud.operations.fleet.register_device import Place, move_device, revoke_device
from cloud.operations.fleet.replace_device import replace_device
from cloud.operations.fleet.retire_device import retire_replaced
from cloud.operations.refusals import Code, Refusal
from cloud.store.locks import lock_devices
from cloud.store.tables import claims, device_certificates, devices, events, stalls
from cloud.warden.superseding import IN_USE_FOR, supersede
from protocol.ids import DeviceId, EventId, StallId
from protocol.messages import (
    Approved,
    Declined,
    HeartbeatAnswered,
    JournalPosition,
    Reason,
    UnderReview,
)
from tests.cloud.floor import EVENT, Floor, Till

FORCE = Force("its screen is broken")
ELSEWHERE = Place(EventId("winter-fair"), StallId("hut"))


def decommission(floor: Floor, till: Till, force: Force | None = None) -> Device | Refusal:
    return decommission_device(
        floor.database, till.device_id, force, actor="ops:ana", now=floor.now()
    )


def settle(floor: Floor, till: Till, queue: int = 0) -> None:
    """Heartbeats until it has said what it was told: all before is settled."""
    floor.pass_time(seconds=1)
    position = JournalPosition(till.epoch, till.entry + 1, till.entry + 1, "A" * 43)
    known = floor.ask_one(till, till.heartbeat(journal=position, queue=queue)).journal_known
    if known is not None:
        floor.ask(till, till.heartbeat(journal=position, queue=queue, journal_told=known))


def sign_out(floor: Floor, till: Till) -> None:
    floor.ask(till, till.sign_out())
    settle(floor, till)


def why(refused: Device | Refusal) -> str:
    assert isinstance(refused, Refusal)
    assert refused.code is Code.DEVICE_UNSYNCED
    return refused.detail


def open_elsewhere(floor: Floor) -> None:
    with floor.database.transaction() as connection:
        connection.execute(
            insert(events).values(
                event_id=ELSEWHERE.event_id, name="W", currency="CHF", created_at=floor.now()
            )
        )
        connection.execute(
            insert(stalls).values(event_id=ELSEWHERE.event_id, stall_id="hut", name="Hut")
        )


def status_of(floor: Floor, till: Till) -> str:
    with floor.database.reading() as connection:
        return connection.execute(
            select(devices.c.status).where(devices.c.device_id == till.device_id)
        ).scalar_one()


def test_an_appliance_where_somebody_is_signed_in_stays_in_service(floor: Floor) -> None:
    till = floor.add_till()
    settle(floor, till)
    assert "Somebody is signed in there" in why(decommission(floor, till))
    assert status_of(floor, till) == "active"


def test_an_appliance_that_has_messages_left_stays_in_service(floor: Floor) -> None:
    till = floor.add_till()
    sign_out(floor, till)
    settle(floor, till, queue=3)
    assert "3 messages wait in it" in why(decommission(floor, till))


def test_an_appliance_that_was_not_heard_since_the_sign_out_stays_in_service(floor: Floor) -> None:
    till = floor.add_till()
    settle(floor, till)
    floor.pass_time(seconds=5)
    floor.ask(till, till.sign_out())
    assert "not heard since somebody could sell" in why(decommission(floor, till))
    settle(floor, till)
    assert isinstance(decommission(floor, till), Device)


def test_an_approval_the_appliance_never_said_it_knows_keeps_it_in_service(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    assert isinstance(floor.ask_one(till, till.deduct(floor.qr(guest))), Approved)
    floor.ask(till, till.sign_out())
    assert "1 approved sales" in why(decommission(floor, till))


def test_one_that_is_quarantined_is_not_believed_when_it_says_it_is_empty(floor: Floor) -> None:
    till = floor.add_till()
    sign_out(floor, till)
    with floor.database.transaction() as connection:
        connection.execute(
            update(devices)
            .where(devices.c.device_id == till.device_id)
            .values(quarantined_at=floor.now(), quarantine_cause="journal_forked")
        )
    assert "quarantined" in why(decommission(floor, till))


def test_a_synced_appliance_leaves_and_its_certificates_count_no_more(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    sale = till.deduct(floor.qr(guest))
    assert isinstance(floor.ask_one(till, sale), Approved)
    sign_out(floor, till)
    device = decommission(floor, till)
    assert isinstance(device, Device)
    assert (device.status, device.retired_reason) == ("decommissioned", "end of service")
    assert isinstance(decommission(floor, till), Device)
    [row] = [
        each
        for each in _certificates(floor)
        if each.device_id == till.device_id and each.revoked_at is not None
    ]
    assert row.revocation_reason == "decommissioned"
    assert floor.reviews() == []
    refused = floor.ask_one(till, till.deduct(floor.qr(guest)))
    assert refused == Declined(Reason.DEVICE_REVOKED)
    assert floor.balance(guest) == 1650


def test_what_a_decommissioned_appliance_uploads_late_is_for_a_person(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    offline = till.accept_offline(till.deduct(floor.qr(guest)))
    assert isinstance(decommission(floor, till, FORCE), Device)
    assert isinstance(floor.ask_one(till, offline), UnderReview)
    assert isinstance(floor.ask_one(till, till.cancel(till.deduct(floor.qr(guest)))), UnderReview)
    assert floor.balance(guest) == 2000
    found = read_leaving(floor.database, till.device_id)
    assert isinstance(found, LeavingSoFar)
    assert [each.amount_in_cents for each in found.reviews] == [350, None]
    assert (found.crl_has_it, found.session_ended_at) == (False, None)


def test_by_force_unsettled_sales_come_onto_the_review_list(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    assert isinstance(floor.ask_one(till, till.deduct(floor.qr(guest))), Approved)
    assert isinstance(decommission(floor, till, FORCE), Device)
    [review] = floor.reviews()
    assert (review.device_id, review.amount_in_cents) == (till.device_id, 350)
    [deed] = floor.audit(action="device_decommissioned")
    assert (deed.outcome, deed.detail["reason"]) == ("forced", FORCE.reason)
    assert len(deed.detail["unsynced"]) == 2


def test_what_is_revoked_is_not_decommissioned_but_the_other_way_round(floor: Floor) -> None:
    till, other = floor.add_till(), floor.add_till("till-2")
    revoke_device(floor.database, till.device_id, "lost", actor="ops:ana", now=floor.now())
    refused = decommission(floor, till, FORCE)
    assert isinstance(refused, Refusal)
    assert refused.code is Code.DEVICE_REVOKED
    decommission(floor, other, FORCE)
    left_at = floor.now()
    floor.pass_time(hours=1)
    revoke_device(floor.database, other.device_id, "stolen", actor="ops:ana", now=floor.now())
    found = read_leaving(floor.database, other.device_id)
    assert isinstance(found, LeavingSoFar)
    assert (found.status, found.left_at, found.reason) == ("revoked", left_at, "stolen")


def test_a_lost_appliance_is_revoked_before_anything_else(floor: Floor) -> None:
    till = floor.add_till("bar-1")
    made = replace_device(
        floor.database, till.device_id, actor="ops:ana", now=floor.now(), lost=Force("stolen")
    )
    assert not isinstance(made, Refusal)
    assert (made.claim.device_id, made.claim.replaces) == ("bar-2", "bar-1")
    assert (made.claim.event_id, made.claim.stall_id) == (EVENT, "bar")
    assert status_of(floor, till) == "revoked"


def test_one_that_holds_sales_is_not_replaced_unless_forced(floor: Floor) -> None:
    till = floor.add_till("bar-1")
    refused = replace_device(floor.database, till.device_id, actor="ops:ana", now=floor.now())
    assert isinstance(refused, Refusal)
    assert refused.code is Code.DEVICE_UNSYNCED
    with floor.database.reading() as connection:
        assert connection.execute(select(claims.c.claim_id)).all() == []
    made = replace_device(
        floor.database, till.device_id, actor="ops:ana", now=floor.now(), force=FORCE
    )
    assert not isinstance(made, Refusal)
    assert status_of(floor, till) == "active"


def test_the_old_one_leaves_when_the_new_one_enrols(floor: Floor) -> None:
    old, new = floor.add_till("bar-1"), floor.add_till("bar-2")
    guest = floor.add_guest()
    assert isinstance(floor.ask_one(old, old.deduct(floor.qr(guest))), Approved)
    for _ in range(2):
        with floor.database.transaction() as connection:
            lock_devices(connection, [old.device_id, new.device_id])
            retire_replaced(connection, old.device_id, by=new.device_id, now=floor.now())
    found = read_leaving(floor.database, old.device_id)
    assert isinstance(found, LeavingSoFar)
    assert (found.status, found.replaced_by) == ("decommissioned", "bar-2")
    assert len(found.reviews) == 1
    with floor.database.transaction() as connection:
        retire_replaced(connection, DeviceId("nobody"), by=new.device_id, now=floor.now())


def test_to_another_event_it_goes_once_nothing_of_the_old_one_is_left(floor: Floor) -> None:
    open_elsewhere(floor)
    till, guest = floor.add_till(), floor.add_guest()
    offline = till.accept_offline(till.deduct(floor.qr(guest)))

    def move(force: Force | None = None) -> Device | Refusal:
        return move_device(
            floor.database,
            floor.keys,
            till.device_id,
            ELSEWHERE,
            actor="ops:ana",
            now=floor.now(),
            force=force,
        )

    assert "signed in" in why(move())
    moved = move(FORCE)
    assert isinstance(moved, Device)
    assert moved.event_id == ELSEWHERE.event_id
    # The sale is the old event's, in the old event's currency, whenever it comes.
    assert not isinstance(floor.ask_one(till, offline), UnderReview | Declined)
    [deduct] = floor.deducts(guest)
    assert (deduct.event_id, deduct.currency, deduct.amount_in_cents) == (EVENT, "EUR", 350)
    [deed] = floor.audit(action="device_moved")
    assert deed.outcome == "forced"


def test_within_its_event_it_is_moved_whoever_is_signed_in(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    offline = till.accept_offline(till.deduct(floor.qr(guest)))
    place = Place(EVENT, StallId("grill"))
    moved = move_device(
        floor.database, floor.keys, till.device_id, place, actor="ops:ana", now=floor.now()
    )
    assert isinstance(moved, Device)
    assert not isinstance(floor.ask_one(till, offline), UnderReview | Declined)
    [deduct] = floor.deducts(guest)
    assert deduct.stall_id == "bar"


def _renew(floor: Floor, till: Till, thumbprint: str, **age: float) -> None:
    with floor.database.transaction() as connection:
        spki = connection.execute(
            select(device_certificates.c.spki).where(
                device_certificates.c.thumbprint == till.thumbprint
            )
        ).scalar_one()
        connection.execute(
            insert(device_certificates).values(
                thumbprint=thumbprint,
                device_id=till.device_id,
                spki=spki,
                not_before=floor.now() - timedelta(**age),
                not_after=floor.now() + timedelta(days=90),
            )
        )


def _certificates(floor: Floor) -> list[Any]:
    with floor.database.reading() as connection:
        return list(connection.execute(select(device_certificates)))


def test_both_certificates_count_until_the_new_one_was_used_for_a_minute(floor: Floor) -> None:
    till = floor.add_till()
    old, new = till.thumbprint, "N" * 43
    _renew(floor, till, new, hours=1)
    floor.ask(till, till.heartbeat())
    floor.pass_time(days=1)
    assert supersede(floor.database, floor.now()) == 0
    till.thumbprint = new
    floor.ask(till, till.heartbeat())
    assert supersede(floor.database, floor.now()) == 0
    floor.pass_time(seconds=IN_USE_FOR.total_seconds())
    assert supersede(floor.database, floor.now()) == 1
    assert supersede(floor.database, floor.now()) == 0
    standing = {row.thumbprint: row.revocation_reason for row in _certificates(floor)}
    assert standing == {old: "superseded", new: None}
    assert isinstance(floor.ask_one(till, till.heartbeat()), HeartbeatAnswered)
    till.thumbprint = old
    assert floor.ask_one(till, till.heartbeat()) == Declined(Reason.DEVICE_REVOKED)


@pytest.mark.parametrize("ends", ["before", "between"])
def test_a_revoked_appliance_is_not_superseded(floor: Floor, ends: str) -> None:
    till = floor.add_till()
    _renew(floor, till, "N" * 43, hours=1)
    till.thumbprint = "N" * 43
    floor.ask(till, till.heartbeat())
    floor.pass_time(minutes=2)
    if ends == "before":
        revoke_device(floor.database, till.device_id, "lost", actor="ops:ana", now=floor.now())
    else:
        assert supersede(floor.database, floor.now()) == 1
        revoke_device(floor.database, till.device_id, "lost", actor="ops:ana", now=floor.now())
    assert supersede(floor.database, floor.now()) == 0
    reasons = sorted(str(row.revocation_reason) for row in _certificates(floor))
    assert reasons == (
        ["key-compromise"] * 2 if ends == "before" else ["key-compromise", "superseded"]
    )
