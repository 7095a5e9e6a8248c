"""What appliances say of their image and of their update is kept, each word as it changes."""

from datetime import timedelta

import pytest
from sqlalchemy import insert, select

from cloud.store.tables import bundles, device_updates, devices
from protocol.messages import HeartbeatAnswered
from protocol.updates import Progress, System, UpdateState
from tests.cloud.floor import Floor

NEW, OLD = "0.7.0+202611240900", "0.6.0+202611230215"
COMPATIBLE = "railtix-pos-debian"


def system(state: UpdateState | None = None, *, image: str = OLD, percent: int = 0) -> System:
    update = None if state is None else Progress(version=NEW, state=state, percent=percent)
    return System(image=image, compatible=COMPATIBLE, slot="A", update=update)


def enter_bundle(floor: Floor, version: str = NEW) -> None:
    row = {
        "sha256": version.encode().hex()[:64].rjust(64, "0"),
        "version": version,
        "compatible": COMPATIBLE,
        "size": 1,
        "created_at": floor.now(),
    }
    with floor.database.transaction() as connection:
        connection.execute(insert(bundles).values(**row))


def test_the_image_and_its_slot_are_kept_until_the_appliance_says_otherwise(floor: Floor) -> None:
    till = floor.add_till()
    for said, kept in (
        (till.heartbeat(system=system()), (OLD, COMPATIBLE, "A", None)),
        (
            till.heartbeat(system=System(image=NEW, compatible=COMPATIBLE)),
            (NEW, COMPATIBLE, None, None),
        ),
        (till.heartbeat(), (None, None, None, None)),
    ):
        assert isinstance(floor.ask_one(till, said), HeartbeatAnswered)
        with floor.database.reading() as connection:
            row = connection.execute(select(devices)).one()
        assert (row.image, row.compatible, row.slot, row.update_version) == kept


def test_each_state_is_kept_with_the_moment_it_began(floor: Floor) -> None:
    till = floor.add_till()
    enter_bundle(floor)
    began = floor.now()
    floor.ask_one(till, till.heartbeat(system=system(UpdateState.FETCHING, percent=10)))
    floor.pass_time(seconds=30)
    floor.ask_one(till, till.heartbeat(system=system(UpdateState.FETCHING, percent=60)))
    assert progress_of(floor) == [(NEW, "fetching", 60, began)]
    floor.pass_time(seconds=30)
    floor.ask_one(till, till.heartbeat(system=system(UpdateState.INSTALLING)))
    floor.ask_one(till, till.heartbeat(system=system(UpdateState.INSTALLING)))
    assert progress_of(floor) == [(NEW, "installing", 0, began + timedelta(seconds=60))]


@pytest.mark.parametrize("outcome", [UpdateState.CONFIRMED, UpdateState.ROLLED_BACK])
def test_refusing_what_it_tried_before_takes_nothing_back_of_what_came_of_it(
    floor: Floor, outcome: UpdateState
) -> None:
    """Older firmware says so of what is older than what it runs."""
    till = floor.add_till()
    enter_bundle(floor)
    began = floor.now()
    floor.ask_one(till, till.heartbeat(system=system(outcome)))
    floor.pass_time(seconds=30)
    for _ in range(2):
        floor.ask_one(till, till.heartbeat(system=system(UpdateState.REFUSED, image="0.8.0")))
        assert progress_of(floor) == [(NEW, outcome.value, 0, began)]
    floor.ask_one(till, till.heartbeat(system=system(UpdateState.FETCHING, percent=1)))
    floor.pass_time(seconds=30)
    floor.ask_one(till, till.heartbeat(system=system(UpdateState.REFUSED)))
    assert progress_of(floor) == [(NEW, "refused", 0, began + timedelta(seconds=60))], "tried anew"


def test_versions_that_an_appliance_makes_up_fill_no_table(floor: Floor) -> None:
    till = floor.add_till()
    for number in range(5):
        made_up = Progress(version=f"9.{number}", state=UpdateState.TRYING)
        said = System(image=OLD, compatible=COMPATIBLE, slot="A", update=made_up)
        assert isinstance(floor.ask_one(till, till.heartbeat(system=said)), HeartbeatAnswered)
    assert progress_of(floor) == []


def progress_of(floor: Floor) -> list[tuple[object, ...]]:
    of = device_updates.c
    with floor.database.reading() as connection:
        found = connection.execute(select(of.version, of.state, of.percent, of.since))
        return [tuple(row) for row in found]
