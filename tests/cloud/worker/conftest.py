"""A floor on the real clock, a worker on the real broker, one stall on the wire."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloud.worker.worker import Worker
from tests.cloud.floor import Floor
from tests.cloud.wire import Line, WireTill
from venue.servers import Broker, Credentials


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def floor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Floor]:
    url = f"sqlite:///{tmp_path / 'cloud.sqlite'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    floor = Floor(url, tmp_path / "keys", starts_at=None)
    yield floor
    floor.close()


@pytest.fixture
def start_worker(
    floor: Floor, broker: Broker, worker_credentials: list[Credentials]
) -> Iterator[Callable[[], Worker]]:
    """Starts a worker, subscribed; all are stopped at the end."""
    running: list[Worker] = []

    def start() -> Worker:
        worker = Worker(floor.desk, Line.of(broker, worker_credentials[len(running)]))
        running.append(worker)
        worker.start()
        assert worker.wait_until_subscribed(20)
        return worker

    yield start
    for worker in running:
        worker.stop()


@pytest.fixture
def stall(
    floor: Floor, broker: Broker, certify_device: Callable[[str], Credentials]
) -> Iterator[WireTill]:
    with WireTill.at(floor, broker, certify_device("till-1")) as stall:
        yield stall
