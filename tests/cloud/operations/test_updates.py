"""Who is told of which version: by channel, hardware and percentage; of what is paused, nobody."""

import threading
from collections.abc import Iterable
from datetime import timedelta

import pytest
from sqlalchemy import insert, select, update

from cloud.operations.event.issue_policy import issue_policies
from cloud.operations.fleet.read_devices import Trouble, read_device
from cloud.operations.proof.figures import read_figures
from cloud.operations.refusals import Code, Refusal
from cloud.operations.updates.announce_updates import announce_updates
from cloud.operations.updates.pause_failing import is_failing, pause_failing
from cloud.operations.updates.read_updates import Counts, Status, read_updates
from cloud.operations.updates.release_update import (
    Bundle,
    Chosen,
    Terms,
    pause_update,
    release_update,
    resume_update,
    roll_out,
)
from cloud.operations.updates.set_channel import set_channel
from cloud.store.progress import keep_progress
from cloud.store.tables import device_updates, devices, events, policies
from protocol.ids import DeviceId
from protocol.policy import Policy, Update, find, open_policy
from protocol.updates import Progress, System, UpdateState, in_rollout
from tests.cloud.floor import EVENT, Floor, Till

OLD, NEW, NEWER = "0.6.0+202611230215", "0.7.0+202611240900", "0.7.1+202611250900"
DEBIAN, RPIOS = "railtix-pos-debian", "railtix-pos-rpios"
ANA = "token:ana"


def bundle(version: str, compatible: str = DEBIAN) -> Bundle:
    return Bundle(
        f"{version}{compatible}".encode().hex().ljust(64, "0")[-64:], version, compatible, 9
    )


def release(
    floor: Floor, version: str, percent: int = 100, compatible: str = DEBIAN, **terms: object
) -> Refusal | None:
    channel = str(terms.pop("channel", "stable"))
    floor.pass_time(seconds=1)
    wanted = Terms(channel, percent, allow_downgrade=bool(terms.get("allow_downgrade")))
    return release_update(
        floor.database, bundle(version, compatible), wanted, actor=ANA, now=floor.now()
    )


def system(compatible: str = DEBIAN, image: str = OLD, update: Progress | None = None) -> System:
    return System(image=image, compatible=compatible, slot="A", update=update)


def add_till(floor: Floor, device_id: str = "till-1", compatible: str = DEBIAN) -> Till:
    till = floor.add_till(device_id)
    floor.ask(till, till.heartbeat(system=system(compatible)))
    return till


def announce(floor: Floor) -> dict[DeviceId, int]:
    with floor.database.transaction() as connection:
        return announce_updates(connection, floor.keys, floor.now())


def told(floor: Floor, device_id: str = "till-1") -> str | None:
    """The version that the newest policy announces."""
    update = announced(floor, device_id)
    return None if update is None else update.version


def announced(floor: Floor, device_id: str = "till-1") -> Update | None:
    with floor.database.reading() as connection:
        jws = connection.execute(
            select(policies.c.jws)
            .where(policies.c.device_id == device_id)
            .order_by(policies.c.version.desc())
            .limit(1)
        ).scalar_one()
    policy = open_policy(jws.encode(), find((floor.keys.policy.named,)), DeviceId(device_id), 0)
    assert isinstance(policy, Policy)
    return policy.update if isinstance(policy.update, Update) else None


def code_of(answer: object) -> Code | None:
    return answer.code if isinstance(answer, Refusal) else None


def counts(floor: Floor, version: str) -> Counts:
    status = read_updates(floor.database, version)
    assert isinstance(status, Status)
    return status.releases[0].counts


def test_a_release_reaches_the_policy_once_and_says_what_to_fetch(floor: Floor) -> None:
    add_till(floor)
    assert announce(floor) == {}
    assert release(floor, NEW) is None
    assert announce(floor) == {"till-1": 2}
    assert announce(floor) == {}
    assert announced(floor) == Update(
        version=NEW,
        sha256=bundle(NEW).sha256,
        size=9,
        compatible=DEBIAN,
        channel="stable",
        rollout_percent=100,
    )
    [record] = floor.audit(action="updates_announced")
    assert record.detail == {"policies": {"till-1": 2}}
    [record] = floor.audit(action="update_released")
    assert (record.actor, record.subject) == (ANA, NEW)
    assert counts(floor, NEW).announced == 1


def test_a_changed_price_says_the_update_again(floor: Floor) -> None:
    add_till(floor)
    release(floor, NEW)
    with floor.database.transaction() as connection:
        issue_policies(connection, floor.keys, EVENT, floor.now())
    assert told(floor) == NEW
    assert announce(floor) == {}


def test_an_appliance_that_names_no_slot_never_hears_of_updates(floor: Floor) -> None:
    """An older firmware would refuse that policy, and sell by old prices."""
    till = floor.add_till()
    release(floor, NEW)
    for said in (till.heartbeat(), till.heartbeat(system=System(image=OLD, compatible=DEBIAN))):
        floor.ask(till, said)
        assert announce(floor) == {}
    floor.ask(till, till.heartbeat(system=system()))
    assert announce(floor) == {"till-1": 2}
    floor.ask(till, till.heartbeat())
    assert announce(floor) == {"till-1": 3}, "it was flashed with something else meanwhile"
    assert told(floor) is None


def test_hearing_of_an_update_is_no_leave_to_sell_on_after_the_event(floor: Floor) -> None:
    add_till(floor)
    ended = floor.now() - timedelta(days=30)
    with floor.database.transaction() as connection:
        connection.execute(update(events).values(ends_at=ended))
    release(floor, NEW)
    announce(floor)
    assert told(floor) == NEW
    with floor.database.reading() as connection:
        until = select(policies.c.expires_at).where(policies.c.version == 2)
        assert connection.execute(until).scalar_one() == ended + timedelta(days=2)


def test_a_release_for_other_hardware_is_not_announced_and_hides_no_other(floor: Floor) -> None:
    add_till(floor)
    add_till(floor, "till-2", RPIOS)
    release(floor, NEW)
    release(floor, NEWER, compatible=RPIOS)
    announce(floor)
    assert (told(floor), told(floor, "till-2")) == (NEW, NEWER)


def test_a_growing_percentage_takes_nobody_out_and_a_smaller_one_stops_who_is_out(
    floor: Floor,
) -> None:
    names = [f"till-{number}" for number in range(12)]
    for name in names:
        add_till(floor, name)
    release(floor, NEW, 0)
    among: set[str] = set()
    for percent in (0, 30, 60, 100):
        assert roll_out(floor.database, Chosen(NEW), percent, actor=ANA, now=floor.now()) is None
        issued = announce(floor)
        now_among = {name for name in names if told(floor, name) == NEW}
        assert now_among == {each for each in names if in_rollout(DeviceId(each), NEW, percent)}
        assert among <= now_among
        assert set(issued) == now_among - among, "only those who come in get a policy"
        among = now_among
    roll_out(floor.database, Chosen(NEW), 30, actor=ANA, now=floor.now())
    announce(floor)
    assert {name for name in names if told(floor, name) == NEW} == {
        each for each in names if in_rollout(DeviceId(each), NEW, 30)
    }
    assert len(floor.audit(action="update_rollout_changed")) == 4


def test_those_outside_the_latest_rollout_still_get_the_release_before(floor: Floor) -> None:
    add_till(floor)
    release(floor, NEW)
    release(floor, NEWER, 0)
    announce(floor)
    assert told(floor) == NEW
    roll_out(floor.database, Chosen(NEWER), 100, actor=ANA, now=floor.now())
    announce(floor)
    assert told(floor) == NEWER


def test_a_paused_release_is_announced_to_nobody_until_it_is_resumed(floor: Floor) -> None:
    add_till(floor)
    release(floor, NEW)
    announce(floor)
    for _ in range(2):
        assert pause_update(floor.database, Chosen(NEW), "odd", actor=ANA, now=floor.now()) is None
    announce(floor)
    assert told(floor) is None
    assert resume_update(floor.database, Chosen(NEW), actor=ANA, now=floor.now()) is None
    announce(floor)
    assert told(floor) == NEW
    [record] = floor.audit(action="update_paused")
    assert record.detail == {"channel": "stable", "compatible": DEBIAN, "paused_why": "odd"}


def test_an_appliance_hears_its_own_channel_and_keeps_what_it_runs_when_it_comes_back(
    floor: Floor,
) -> None:
    add_till(floor)
    release(floor, NEW)
    release(floor, NEWER, channel="beta")
    announce(floor)
    assert told(floor) == NEW
    for channel, version in (("beta", NEWER), ("stable", NEW), ("stable", NEW)):
        set_channel(floor.database, DeviceId("till-1"), channel, actor=ANA, now=floor.now())
        announce(floor)
        update = announced(floor)
        assert update is not None
        assert (update.version, update.allow_downgrade) == (version, False)
    assert [row.subject for row in floor.audit(action="device_channel_set")] == ["beta", "stable"]
    nowhere = set_channel(floor.database, DeviceId("till-1"), "gamma", actor=ANA, now=floor.now())
    assert code_of(nowhere) is Code.CHANNEL_UNKNOWN
    assert code_of(release(floor, NEWER, channel="gamma")) is Code.CHANNEL_UNKNOWN


def test_an_older_version_is_released_only_on_purpose(floor: Floor) -> None:
    add_till(floor)
    release(floor, NEW)
    assert code_of(release(floor, OLD)) is Code.RELEASE_OLDER
    assert release(floor, OLD, compatible=RPIOS) is None, "other hardware has its own order"
    assert release(floor, OLD, allow_downgrade=True) is None
    announce(floor)
    update = announced(floor)
    assert update is not None
    assert (update.version, update.allow_downgrade) == (OLD, True)


def test_pausing_what_came_after_a_downgrade_takes_nobody_back(floor: Floor) -> None:
    add_till(floor)
    release(floor, OLD, allow_downgrade=True)
    release(floor, NEW)
    pause_update(floor.database, Chosen(NEW), "odd", actor=ANA, now=floor.now())
    announce(floor)
    update = announced(floor)
    assert update is not None
    assert (update.version, update.allow_downgrade) == (OLD, False)


def test_a_version_is_one_bundle(floor: Floor) -> None:
    release(floor, NEW)
    terms = Terms("beta", 100)
    other = Bundle("f" * 64, NEW, DEBIAN, 9)
    renamed = Bundle(bundle(NEW).sha256, NEWER, DEBIAN, 9)
    for each in (other, renamed):
        answer = release_update(floor.database, each, terms, actor=ANA, now=floor.now())
        assert code_of(answer) is Code.BUNDLE_DIFFERS


def test_two_who_release_different_bundles_under_one_version_leave_one(floor: Floor) -> None:
    start, answers = threading.Barrier(4), list[Code | None]()

    def go(digit: str) -> None:
        start.wait()
        one = Bundle(digit * 64, NEW, DEBIAN, 9)
        answers.append(
            code_of(
                release_update(
                    floor.database, one, Terms("stable", 100), actor=ANA, now=floor.now()
                )
            )
        )

    threads = [threading.Thread(target=go, args=(digit,)) for digit in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers, key=str) == [None, *[Code.BUNDLE_DIFFERS] * 3]


def test_many_who_announce_at_once_issue_one_policy(floor: Floor) -> None:
    add_till(floor)
    release(floor, NEW)
    start, issued = threading.Barrier(4), list[dict[DeviceId, int]]()

    def go() -> None:
        start.wait()
        issued.append(announce(floor))

    threads = [threading.Thread(target=go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(issued, key=len) == [{}, {}, {}, {"till-1": 2}]


def test_a_revoked_appliance_and_one_at_no_stall_are_told_nothing(floor: Floor) -> None:
    add_till(floor)
    release(floor, NEW)
    for change in ({"status": "revoked"}, {"status": "active", "stall_id": None}):
        with floor.database.transaction() as connection:
            connection.execute(update(devices).values(**change))
        assert announce(floor) == {}


def test_what_was_never_released_is_neither_paused_nor_shown(floor: Floor) -> None:
    release(floor, NEW)
    now = floor.now()
    for answer in (
        pause_update(floor.database, Chosen(OLD), "x", actor=ANA, now=now),
        resume_update(floor.database, Chosen(NEW, "beta"), actor=ANA, now=now),
        roll_out(floor.database, Chosen(NEW, None, RPIOS), 5, actor=ANA, now=now),
        read_updates(floor.database, OLD),
    ):
        assert code_of(answer) is Code.RELEASE_UNKNOWN


def tried(floor: Floor, states: Iterable[str], after: timedelta = timedelta(0)) -> None:
    """So many appliances that came so far with the version."""
    now = floor.now() + after
    rows = [(f"tried-{number}", state) for number, state in enumerate(states)]
    with floor.database.transaction() as connection:
        connection.execute(device_updates.delete())
        connection.execute(devices.delete().where(devices.c.device_id.startswith("tried-")))
        for name, state in rows:
            connection.execute(
                insert(devices).values(device_id=name, compatible=DEBIAN, created_at=now)
            )
            connection.execute(
                insert(device_updates).values(
                    device_id=name, version=NEW, state=state, percent=0, why="", since=now
                )
            )


def pause(floor: Floor) -> int:
    with floor.database.transaction() as connection:
        return len(pause_failing(connection, floor.now()))


@pytest.mark.parametrize(
    ("rolled_back", "of", "is_too_many"),
    [(2, 2, False), (3, 3, True), (3, 59, True), (3, 60, False), (6, 100, True), (5, 100, False)],
)
def test_more_than_two_and_more_than_one_of_twenty_are_too_many(
    rolled_back: int, of: int, is_too_many: bool
) -> None:
    assert is_failing(rolled_back, of) is is_too_many


def test_a_release_that_too_many_came_back_from_is_paused_by_itself(floor: Floor) -> None:
    release(floor, NEW)
    release(floor, NEW, channel="beta")
    floor.pass_time(seconds=5)
    tried(floor, ["rolled_back", "rolled_back", "confirmed", "refused", "fetching"])
    assert pause(floor) == 0
    tried(floor, ["rolled_back", "rolled_back", "rolled_back", "confirmed", "refused"])
    assert pause(floor) == 1
    assert pause(floor) == 0
    [record] = floor.audit(action="update_paused")
    assert record.actor == "cloud:updates"
    assert record.detail == {
        "compatible": DEBIAN,
        "channels": ["beta", "stable"],
        "paused_why": "3 of the 4 appliances that tried it went back to the version before",
        "rolled_back": ["tried-0", "tried-1", "tried-2"],
    }
    status = read_updates(floor.database)
    assert isinstance(status, Status)
    assert all(each.paused_at is not None for each in status.releases)


def test_after_somebody_resumed_it_only_new_roll_backs_pause_it_again(floor: Floor) -> None:
    release(floor, NEW)
    floor.pass_time(seconds=5)
    tried(floor, ["rolled_back"] * 3)
    assert pause(floor) == 1
    floor.pass_time(seconds=5)
    resume_update(floor.database, Chosen(NEW), actor=ANA, now=floor.now())
    assert pause(floor) == 0
    tried(floor, ["rolled_back"] * 3, timedelta(seconds=1))
    assert pause(floor) == 1


def test_those_who_pass_it_over_for_a_newer_one_still_count_as_having_tried_it(
    floor: Floor,
) -> None:
    """Else pausing a release would pause the one before it, and so on down the line."""
    release(floor, NEW)
    floor.pass_time(seconds=5)
    tried(floor, ["rolled_back"] * 3 + ["confirmed"] * 57)
    assert pause(floor) == 0
    older = Progress(version=NEW, state=UpdateState.REFUSED, why="it is no newer than what runs")
    with floor.database.transaction() as connection:
        said = [(f"tried-{number}", older, floor.now()) for number in range(3, 60)]
        keep_progress(connection, said)
    assert pause(floor) == 0


def has_trouble(floor: Floor, device_id: str) -> bool:
    with floor.database.reading() as connection:
        device = read_device(connection, DeviceId(device_id), floor.now())
    return Trouble.UPDATE in device.problems


def failed_updates(floor: Floor) -> int:
    with floor.database.reading() as connection:
        return read_figures(connection, floor.now()).devices_update_failed


def test_who_runs_something_newer_than_it_hears_of_has_failed_no_update(floor: Floor) -> None:
    """The newest is paused, and the one before is due: by older firmware's word it is refused."""
    states = {
        "till-1": UpdateState.CONFIRMED,
        "till-2": UpdateState.ROLLED_BACK,
        # It went from the oldest to the newest.
        "till-3": None,
    }
    tills = {name: add_till(floor, name) for name in states}
    release(floor, NEW)
    for name, state in states.items():
        progress = None if state is None else Progress(version=NEW, state=state)
        floor.ask(tills[name], tills[name].heartbeat(system=system(update=progress)))
    announce(floor)
    assert [has_trouble(floor, name) for name in tills] == [False, True, False]
    assert failed_updates(floor) == 1

    release(floor, NEWER)
    pause_update(floor.database, Chosen(NEWER), "odd", actor=ANA, now=floor.now())
    older = system(image=NEWER, update=Progress(version=NEW, state=UpdateState.REFUSED))
    for till in tills.values():
        floor.ask(till, till.heartbeat(system=older))
    announce(floor)
    assert {told(floor, name) for name in tills} == {NEW}
    found = counts(floor, NEW)
    assert (found.announced, found.confirmed, found.rolled_back, found.refused) == (3, 1, 1, 1)
    assert not any(has_trouble(floor, name) for name in tills)
    assert failed_updates(floor) == 0

    # Now they are to go back to it, and those who cannot are for somebody to see to.
    release(floor, NEW, allow_downgrade=True)
    announce(floor)
    assert [has_trouble(floor, name) for name in tills] == [False, True, True]
    assert failed_updates(floor) == 2


def test_the_status_counts_each_channels_appliances_and_names_them(floor: Floor) -> None:
    release(floor, NEW)
    release(floor, NEW, channel="beta")
    first, second = add_till(floor), add_till(floor, "till-2")
    set_channel(floor.database, second.device_id, "beta", actor=ANA, now=floor.now())
    announce(floor)
    for till, state, why in (
        (first, UpdateState.ROLLED_BACK, "it was not confirmed in three tries"),
        (second, UpdateState.CONFIRMED, ""),
    ):
        progress = Progress(version=NEW, state=state, why=why)
        image = NEW if state is UpdateState.CONFIRMED else OLD
        floor.ask(till, till.heartbeat(system=system(image=image, update=progress)))
    status = read_updates(floor.database, NEW)
    assert isinstance(status, Status)
    by_channel = {each.channel: each.counts for each in status.releases}
    assert by_channel["stable"] == Counts(1, 0, 0, 0, 0, 0, 0, 0, 1)
    assert by_channel["beta"] == Counts(1, 1, 0, 0, 0, 0, 1, 0, 0)
    assert [(each.device_id, each.state, each.why, each.image) for each in status.tries] == [
        ("till-1", "rolled_back", "it was not confirmed in three tries", OLD),
        ("till-2", "confirmed", "", NEW),
    ]
