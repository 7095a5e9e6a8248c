"""A price that changes at a thousand appliances holds their sales up no longer than at one."""

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, select, text, update

from cloud.operations.event.apply_event import lock_and_read
from cloud.operations.event.issue_policy import issue_policies, issue_to
from cloud.operations.fleet.register_device import Place, move_device
from cloud.operations.refusals import Refusal
from cloud.store.tables import devices, policies, products
from protocol.ids import DeviceId, StallId
from protocol.policy import Policy, find, open_policy
from tests.cloud.floor import EVENT, Floor

GRILL = StallId("grill")


def test_the_number_of_statements_does_not_grow_with_the_number_of_appliances(
    floor: Floor,
) -> None:
    told: list[int] = []
    for names in (["lone"], [f"many-{number}" for number in range(25)], []):
        with floor.database.transaction() as connection:
            _put_there(floor, connection, *names)
            wanted = [DeviceId(each) for each in names]
            with _statements(floor) as counted:
                issued = issue_to(connection, floor.keys, wanted, floor.now())
            assert issued == dict.fromkeys(wanted, 1)
        told.append(len(counted))
    assert told[1] <= told[0]


def test_each_policy_is_its_own_appliances_with_its_own_stalls_prices(floor: Floor) -> None:
    floor.add_till("till-1")
    url = "https://credits.example.org"
    with floor.database.transaction() as connection:
        _put_there(floor, connection, "till-2")
        _set_price(connection, 190)
        first = issue_policies(connection, floor.keys, EVENT, floor.now(), top_up_url=url)
        second = issue_policies(connection, floor.keys, EVENT, floor.now())
    assert (first, second) == ({"till-1": 2, "till-2": 1}, {"till-1": 3, "till-2": 2})
    bar, grill = _policy(floor, "till-1"), _policy(floor, "till-2")
    assert (bar.stall_id, grill.stall_id) == ("bar", "grill")
    assert [(each.name, each.price_in_cents) for each in grill.products] == [("Tea", 190)]
    assert "Tea" not in {each.name for each in bar.products}
    assert bar.top_up_url == grill.top_up_url == url, "as the policy before has it"


@pytest.mark.postgres
def test_an_appliance_that_comes_while_a_price_changes_sells_at_the_new_one(
    postgres_url: str, tmp_path: Path
) -> None:
    floor = Floor(postgres_url, tmp_path / "keys")
    with floor.database.transaction() as connection:
        connection.execute(insert(devices).values(device_id="till-1", created_at=floor.now()))
        _set_price(connection, 190)
    moved: list[object] = []

    def move() -> None:
        place = Place(EVENT, GRILL)
        moved.append(
            move_device(
                floor.database, floor.keys, DeviceId("till-1"), place, actor="a", now=floor.now()
            )
        )

    mover = threading.Thread(target=move)
    try:
        with floor.database.transaction() as connection:
            lock_and_read(connection, EVENT)
            _set_price(connection, 210)
            mover.start()
            _await_a_waiter(floor, mover)
            assert issue_policies(connection, floor.keys, EVENT, floor.now()) == {}
    finally:
        mover.join()
        policy = _policy(floor, "till-1")
        floor.close()
    assert not isinstance(moved[0], Refusal)
    assert [each.price_in_cents for each in policy.products] == [210]


def _put_there(floor: Floor, connection: Connection, *names: str) -> None:
    for each in names:
        row = {"device_id": each, "event_id": EVENT, "stall_id": GRILL, "created_at": floor.now()}
        connection.execute(insert(devices).values(**row))


def _set_price(connection: Connection, cents: int) -> None:
    there = (products.c.event_id == EVENT) & (products.c.stall_id == GRILL)
    tea: dict[str, Any] = {"number": 9, "name": "Tea", "price_in_cents": cents}
    changed = update(products).where(there).values(price_in_cents=cents)
    if not connection.execute(changed.returning(products.c.number)).all():
        connection.execute(insert(products).values(event_id=EVENT, stall_id=GRILL, **tea))


@contextmanager
def _statements(floor: Floor) -> Generator[list[str]]:
    seen: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        seen.append(statement)

    event.listen(floor.database.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(floor.database.engine, "before_cursor_execute", note)


def _await_a_waiter(floor: Floor, thread: threading.Thread) -> None:
    """Until the thread waits for a lock, or is done without."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    while thread.is_alive():
        with floor.database.reading() as connection:
            if connection.execute(waiting).scalar_one():
                return
        time.sleep(0.02)


def _policy(floor: Floor, device_id: str) -> Policy:
    with floor.database.reading() as connection:
        jws = connection.execute(
            select(policies.c.jws)
            .where(policies.c.device_id == device_id)
            .order_by(policies.c.version.desc())
            .limit(1)
        ).scalar_one()
    keys = find((floor.keys.policy.named,))
    policy = open_policy(jws.encode(), keys, DeviceId(device_id), 0)
    assert isinstance(policy, Policy)
    return policy
