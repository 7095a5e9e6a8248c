"""The workers' round: what fails is paused, then each policy says what its appliance is due."""

from pathlib import Path

import pytest
from sqlalchemy import event
from structlog.testing import capture_logs

from cloud.metrics import UPDATE_ANNOUNCEMENTS, UPDATE_PAUSES
from cloud.operations.updates.release_update import Bundle, Terms, release_update
from cloud.worker import announcing
from cloud.worker.announcing import Announcing
from protocol.updates import Progress, System, UpdateState
from tests.cloud.floor import Floor

NEW, COMPATIBLE = "0.7.0", "railtix-pos-debian"


@pytest.fixture
def floor(tmp_path: Path) -> Floor:
    return Floor(f"sqlite:///{tmp_path / 'cloud.sqlite'}", tmp_path / "keys")


def test_a_round_tells_the_fleet_then_pauses_what_too_many_came_back_from(floor: Floor) -> None:
    tills = [floor.add_till(f"till-{number}") for number in range(3)]
    for till in tills:
        said = System(image="0.6.0", compatible=COMPATIBLE, slot="A")
        floor.ask(till, till.heartbeat(system=said))
    bundle = Bundle("a" * 64, NEW, COMPATIBLE, 5)
    release_update(floor.database, bundle, Terms("stable", 100), actor="ana", now=floor.now())
    rounds = Announcing(floor.desk)
    before = UPDATE_ANNOUNCEMENTS._value.get(), UPDATE_PAUSES._value.get()
    rounds.go_round()
    floor.pass_time(minutes=40)
    for till in tills:
        progress = Progress(version=NEW, state=UpdateState.ROLLED_BACK, why="three tries")
        said = System(image="0.6.0", compatible=COMPATIBLE, slot="A", update=progress)
        floor.ask(till, till.heartbeat(system=said))
    with capture_logs() as logs:
        rounds.go_round()
    assert [each["event"] for each in logs if each["log_level"] == "error"] == ["update_paused"]
    after = UPDATE_ANNOUNCEMENTS._value.get(), UPDATE_PAUSES._value.get()
    assert (after[0] - before[0], after[1] - before[1]) == (6, 1)
    assert [row.action for row in floor.audit() if row.action.startswith("update")] == [
        "update_released",
        "updates_announced",
        "update_paused",
        "updates_announced",
    ]
    floor.close()


def test_a_round_in_which_nothing_changed_writes_nothing(floor: Floor) -> None:
    floor.add_till()
    said: list[str] = []

    def listen(_c: object, _k: object, statement: str, *_rest: object) -> None:
        said.append(statement)

    event.listen(floor.database.engine, "before_cursor_execute", listen)
    Announcing(floor.desk).go_round()
    assert said
    assert all(each.startswith(("SELECT", "BEGIN")) and "IMMEDIATE" not in each for each in said)
    floor.close()


def test_a_round_that_failed_is_followed_by_the_next(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "EVERY_S", 0.01)
    rounds = Announcing(floor.desk)
    went: list[int] = []

    def fail() -> None:
        went.append(1)
        raise RuntimeError("an odd policy")

    monkeypatch.setattr(rounds, "go_round", fail)
    rounds.start()
    try:
        for _ in range(6000):
            if len(went) >= 3 or not rounds._thread.is_alive():
                break
            rounds._stopping.wait(0.01)
    finally:
        rounds.stop(60)
    assert len(went) >= 3
    assert not rounds._thread.is_alive()
    floor.close()
