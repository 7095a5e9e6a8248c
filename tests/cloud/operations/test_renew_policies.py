"""No till goes dumb because its policy came of age in the middle of a season."""

import threading
from datetime import timedelta

from sqlalchemy import select, update

from cloud.operations.event.issue_policy import issue_policy
from cloud.operations.event.renew_policies import renew_policies
from cloud.store.tables import devices, events, policies
from protocol.ids import DeviceId
from tests.cloud.floor import Floor

TILL = DeviceId("till-1")


def test_a_policy_that_ends_soon_is_issued_anew_once(floor: Floor) -> None:
    _till_with_policy(floor)
    assert _renew(floor) == {}
    floor.pass_time(days=41)
    assert _renew(floor) == {TILL: 3}
    assert _renew(floor) == {}
    assert _ends_in(floor) == timedelta(days=60)
    [record] = floor.audit(action="policies_renewed")
    assert record.detail == {"policies": {TILL: 3}}


def test_many_who_renew_at_once_issue_one_policy(floor: Floor) -> None:
    _till_with_policy(floor)
    floor.pass_time(days=41)
    start, renewed = threading.Barrier(4), list[dict[DeviceId, int]]()

    def renew() -> None:
        start.wait()
        renewed.append(_renew(floor))

    threads = [threading.Thread(target=renew) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(renewed, key=len) == [{}, {}, {}, {TILL: 3}]


def test_a_policy_ends_with_its_event_and_is_left_to(floor: Floor) -> None:
    ends_at = floor.now() + timedelta(days=5)
    _set_event(floor, ends_at=ends_at)
    _till_with_policy(floor)
    floor.pass_time(days=6)
    assert _renew(floor) == {}
    _set_event(floor, ends_at=ends_at + timedelta(days=10))
    assert _renew(floor) == {TILL: 3}, "unless the event goes on longer"


def test_a_revoked_appliance_and_one_at_no_stall_get_no_more(floor: Floor) -> None:
    _till_with_policy(floor)
    floor.pass_time(days=59)
    for change in ({"status": "revoked"}, {"status": "active", "stall_id": None}):
        with floor.database.transaction() as connection:
            connection.execute(update(devices).values(**change))
        assert _renew(floor) == {}


def _till_with_policy(floor: Floor) -> None:
    floor.add_till(TILL)
    with floor.database.transaction() as connection:
        assert issue_policy(connection, floor.keys, TILL, floor.now()) == 2


def _renew(floor: Floor) -> dict[DeviceId, int]:
    with floor.database.transaction() as connection:
        return renew_policies(connection, floor.keys, floor.now())


def _set_event(floor: Floor, **values: object) -> None:
    with floor.database.transaction() as connection:
        connection.execute(update(events).values(**values))


def _ends_in(floor: Floor) -> timedelta:
    with floor.database.reading() as connection:
        newest = connection.execute(
            select(policies.c.expires_at).order_by(policies.c.version.desc()).limit(1)
        ).scalar_one()
    return newest - floor.now()
