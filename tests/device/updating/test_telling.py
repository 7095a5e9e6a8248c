from typing import Any

import pytest
from msgspec import structs

from device.updating.deciding import decide
from device.updating.facts import Bundle, GivenUp, Known, Record
from device.updating.slots import Slots
from device.updating.telling import progress_of
from protocol.updates import Progress, Update, UpdateState

OLD, NEW = "0.2.0+202611230300", "0.3.0+202611240300"
SHA = "a" * 64
ANNOUNCED = Update(
    version=OLD,
    sha256=SHA,
    size=300_000_000,
    compatible="railtix-pos-debian",
    channel="stable",
    rollout_percent=100,
)
CONFIRMED = Progress(version=NEW, state=UpdateState.CONFIRMED)
GIVEN_UP = GivenUp(version=OLD, sha256=SHA, why="it did not prove itself", was_started=True)


def told(**changes: Any) -> Progress | None:
    """By an appliance that runs the newer version, and hears of the one before."""
    known: dict[str, Any] = {
        "running": NEW,
        "boot_id": "boot-1",
        "slots": Slots(compatible="railtix-pos-debian", booted="A", primary="A"),
        "announced": ANNOUNCED,
        "is_marked": True,
        "free_bytes": 4 * 1024**3,
    }
    here = Known(**(known | changes))
    return progress_of(here, decide(here))


@pytest.mark.parametrize("is_marked", [True, False])
@pytest.mark.parametrize("bundle", [Bundle(), Bundle(ANNOUNCED.size, is_whole=True)])
@pytest.mark.parametrize(
    "record",
    [Record(), Record(newest=CONFIRMED), Record(newest=CONFIRMED, given_up=(GIVEN_UP,))],
    ids=["flashed", "confirmed", "left the older one before"],
)
def test_of_what_is_older_than_what_runs_nothing_is_told(
    record: Record, bundle: Bundle, is_marked: bool
) -> None:
    """A newer release was paused, and the one before is due: nobody refuses it by staying."""
    here: dict[str, Any] = {"record": record, "bundle": bundle, "is_marked": is_marked}
    assert told(**here) == told(announced=None, **here) == record.newest


def test_what_runs_is_told_as_confirmed_before_its_slot_is_called_good_too() -> None:
    announced = structs.replace(ANNOUNCED, version=NEW)
    for is_marked in (True, False):
        here: dict[str, Any] = {
            "record": Record(newest=CONFIRMED),
            "announced": announced,
            "is_marked": is_marked,
        }
        assert told(**here) == CONFIRMED


def test_what_is_for_other_hardware_is_refused() -> None:
    foreign = structs.replace(ANNOUNCED, version="0.4.0", compatible="railtix-pos-rpios")
    progress = told(announced=foreign, record=Record(newest=CONFIRMED))
    assert progress is not None
    assert (progress.version, progress.state) == ("0.4.0", UpdateState.REFUSED)


def test_an_older_one_that_is_to_be_installed_is_told_of_step_by_step() -> None:
    back = structs.replace(ANNOUNCED, allow_downgrade=True)
    progress = told(announced=back, record=Record(newest=CONFIRMED), bundle=Bundle(3_000_000))
    assert progress == Progress(version=OLD, state=UpdateState.FETCHING, percent=1)
    progress = told(announced=back, record=Record(newest=CONFIRMED, given_up=(GIVEN_UP,)))
    assert progress is not None
    assert (progress.version, progress.state) == (OLD, UpdateState.ROLLED_BACK)
