import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from cloud.operations.fleet.read_devices import Device, Trouble, read_device
from cloud.store.database import Database
from cloud.store.presence import note_watch, read_presence
from cloud.store.tables import device_presence
from cloud.worker.mqtt5 import Message
from cloud.worker.presence import COMPARE_EVERY_S, KNOWN_MAX, WATCH_EVERY_S, Presence
from cloud.worker.worker import Worker
from protocol import topics
from protocol.ids import DeviceId
from tests.cloud.floor import Floor
from tests.cloud.wire import WireTill, eventually
from venue.servers import Broker, Credentials

TILL, OTHER = DeviceId("till-1"), DeviceId("till-2")


class Watch:
    """A worker's presence over a floor's database, and a clock that a test moves."""

    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self.presence = Presence()
        self.now_s = 1000.0

    def hears(
        self, device_id: str, online: bool, connection: str = "c1", *, keeps: bool = True
    ) -> None:
        said = {"v": 1, "online": online, "firmware": "1.2", "connection": connection}
        self.hears_bytes(device_id, json.dumps(said).encode())
        if keeps:
            self.keep()

    def hears_bytes(self, device_id: str, payload: bytes) -> None:
        self.presence.hear([Message(f"{topics.ROOT}/{device_id}/status", payload, b"", None)])

    def keep(self, after_s: float = 1.0) -> None:
        self.now_s += after_s
        self.presence.keep(self.floor.database, self.floor.now(), self.now_s)


@pytest.fixture
def still(tmp_path: Path) -> Iterator[Floor]:
    """A floor whose clock stands still; what goes over the wire is tried on both databases."""
    floor = Floor(f"sqlite:///{tmp_path / 'cloud.sqlite'}", tmp_path / "keys")
    floor.add_till(TILL)
    yield floor
    floor.close()


@pytest.fixture
def watch(still: Floor) -> Watch:
    return Watch(still)


def presence(floor: Floor) -> dict[DeviceId, bool]:
    with floor.database.reading() as connection:
        return read_presence(connection)


def device(floor: Floor, device_id: DeviceId = TILL) -> Device:
    with floor.database.reading() as connection:
        return read_device(connection, device_id, floor.now())


def test_an_appliance_that_comes_and_goes_is_online_and_offline(watch: Watch) -> None:
    began_at = watch.floor.now()
    watch.hears(TILL, online=True)
    assert (device(watch.floor).online, device(watch.floor).online_at) == (True, began_at)
    watch.floor.pass_time(seconds=20)
    watch.hears(TILL, online=False)
    assert (device(watch.floor).online, device(watch.floor).online_at) == (
        False,
        watch.floor.now(),
    )
    assert Trouble.OFFLINE in device(watch.floor).problems


def test_hearing_the_same_again_changes_nothing(watch: Watch) -> None:
    began_at = watch.floor.now()
    watch.hears(TILL, online=True)
    watch.floor.pass_time(seconds=20)
    for _ in range(3):
        watch.hears(TILL, online=True, connection="c2")
    assert device(watch.floor).online_at == began_at


def test_a_last_will_that_comes_late_ends_no_connection_that_followed(watch: Watch) -> None:
    watch.hears(TILL, online=True, connection="c1")
    watch.hears(TILL, online=True, connection="c2")
    watch.hears(TILL, online=False, connection="c1")
    assert device(watch.floor).online is True
    watch.hears(TILL, online=False, connection="c2")
    assert device(watch.floor).online is False


def test_older_firmware_that_names_no_connection_is_believed(watch: Watch) -> None:
    watch.hears_bytes(TILL, b'{"v":1,"online":true,"firmware":"0.9"}')
    watch.keep()
    assert presence(watch.floor) == {TILL: True}
    watch.hears_bytes(TILL, b'{"v":1,"online":false,"firmware":"0.9"}')
    watch.keep()
    assert presence(watch.floor) == {TILL: False}


def test_a_status_that_cannot_be_read_changes_nothing(watch: Watch) -> None:
    watch.hears(TILL, online=False)
    for payload in (
        b"",
        b"online",
        b"{}",
        b'{"online":1}',
        b'{"online":null}',
        b"\xff\xfe",
        b"[" * 900,
        b'{"online":true,"x":"' + b"a" * 1100 + b'"}',
        b'{"online":true,"connection":7}',
    ):
        watch.hears_bytes(TILL, payload)
        watch.keep()
        assert presence(watch.floor) == {TILL: False}, payload


def test_an_appliance_nobody_entered_and_a_topic_of_nobody_are_passed_over(watch: Watch) -> None:
    watch.hears("a-stranger", online=True)
    watch.hears("No+Name", online=True)
    watch.hears(TILL, online=True)
    assert presence(watch.floor) == {TILL: True}


def test_ten_thousand_statuses_are_written_once(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch.keep()
    written = 0
    transaction = watch.floor.database.transaction

    def counting() -> object:
        nonlocal written
        written += 1
        return transaction()

    monkeypatch.setattr(watch.floor.database, "transaction", counting)
    for number in range(10_000):
        watch.hears(TILL, online=number % 2 == 0, keeps=False)
    watch.keep()
    assert written == 1
    assert presence(watch.floor) == {TILL: False}
    watch.keep()
    assert written == 1


def test_names_without_end_fill_no_memory(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud.worker.presence.KNOWN_MAX", 3)
    for number in range(5):
        watch.hears(f"stranger-{number}", online=True, keeps=False)
    assert len(watch.presence._said) == 3
    assert KNOWN_MAX == 100_000


def test_two_workers_agree_though_one_writes_what_is_past(watch: Watch) -> None:
    slow = Watch(watch.floor)
    slow.hears(TILL, online=True, keeps=False)
    watch.hears(TILL, online=True)
    watch.hears(TILL, online=False)
    # The slow one writes what it heard by then, after the other wrote what is so.
    slow.keep()
    assert presence(watch.floor) == {TILL: True}
    slow.hears(TILL, online=False)
    assert presence(watch.floor) == {TILL: False}


def test_a_worker_that_died_between_two_statuses_is_made_up_for(watch: Watch) -> None:
    dying = Watch(watch.floor)
    watch.hears(TILL, online=True)
    dying.hears(TILL, online=False)
    watch.keep()
    assert presence(watch.floor) == {TILL: False}
    watch.keep(after_s=COMPARE_EVERY_S)
    assert presence(watch.floor) == {TILL: True}


def test_nobody_knows_who_is_online_while_the_broker_is_away(watch: Watch) -> None:
    watch.hears(TILL, online=True)
    watch.presence.forget()
    watch.floor.pass_time(seconds=120)
    assert device(watch.floor).online is None
    watch.floor.pass_time(seconds=120)
    assert device(watch.floor).problems[0] is Trouble.SILENT


def test_a_heartbeat_just_now_says_more_than_the_broker(watch: Watch) -> None:
    till = watch.floor.add_till(OTHER)
    watch.hears(OTHER, online=False)
    watch.floor.pass_time(seconds=10)
    watch.floor.ask(till, till.heartbeat())
    assert device(watch.floor, OTHER).online is True
    # Then it leaves, and the broker says so.
    watch.floor.pass_time(seconds=5)
    watch.hears(OTHER, online=True)
    watch.floor.pass_time(seconds=5)
    watch.hears(OTHER, online=False)
    assert device(watch.floor, OTHER).online is False
    # Over HTTPS it needs no broker.
    watch.floor.pass_time(seconds=300)
    watch.floor.ask(till, till.heartbeat())
    assert device(watch.floor, OTHER).online is True


def test_those_that_a_broker_forgot_and_that_never_came_back_are_offline(watch: Watch) -> None:
    watch.floor.add_till(OTHER)
    watch.hears(TILL, online=True)
    watch.hears(OTHER, online=True)
    watch.presence.forget()
    watch.hears(OTHER, online=True, connection="c9")
    watch.keep()
    assert presence(watch.floor) == {TILL: True, OTHER: True}
    watch.keep(after_s=COMPARE_EVERY_S)
    assert presence(watch.floor) == {TILL: False, OTHER: True}


def test_what_could_not_be_written_is_written_later(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starved(self: Database) -> None:
        raise OperationalError("disk is full", None, Exception())

    with monkeypatch.context() as full:
        full.setattr(Database, "transaction", starved)
        with pytest.raises(OperationalError):
            watch.hears(TILL, online=True)
    watch.keep()
    assert presence(watch.floor) == {TILL: True}
    assert device(watch.floor).online is True


def test_the_watch_never_goes_back(still: Floor) -> None:
    watch = Watch(still)
    watch.keep()
    with still.database.transaction() as connection:
        note_watch(connection, still.now() - timedelta(hours=1))
    assert device(still).online is None
    watch.hears(TILL, online=True)
    assert device(still).online is True
    still.pass_time(seconds=30)
    watch.keep(after_s=WATCH_EVERY_S)
    assert device(still).online is True


def test_statuses_on_the_wire_reach_the_fleet_view_and_sales_go_on(
    floor: Floor,
    broker: Broker,
    stall: WireTill,
    start_worker: Callable[[], Worker],
    certify_device: Callable[[str], Credentials],
) -> None:
    online = b'{"v":1,"online":true,"firmware":"1.2","connection":"c1"}'
    stall._client.publish(topics.status(TILL), online, 1, retain=True)
    start_worker()
    second = start_worker()
    eventually(lambda: presence(floor) == {TILL: True})
    since = _since(floor)
    for _ in range(500):
        stall._client.publish(topics.status(TILL), online, 1, retain=True)
    guest = floor.add_guest()
    assert stall.ask(stall.till.deduct(floor.qr(guest)))
    assert second.is_subscribed
    assert _since(floor) == since
    # Nobody speaks for another: the broker keeps what till-1 says of till-2 to itself.
    floor.add_till(OTHER)
    stall._client.publish(topics.status(OTHER), online, 1, retain=True)
    stall._client.publish(topics.status(TILL), online.replace(b"true", b"false"), 1, retain=True)
    eventually(lambda: presence(floor) == {TILL: False})


def _since(floor: Floor) -> object:
    with floor.database.reading() as connection:
        return connection.execute(select(device_presence.c.since)).scalar_one()
