"""The HTTP edge on each database."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.cloud.api.edge import Edge
from tests.cloud.api.enrolment_office import Office


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def edge(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Edge]:
    url = f"sqlite:///{tmp_path / 'cloud.sqlite'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    edge = Edge(url, tmp_path)
    yield edge
    edge.close()


@pytest.fixture
def lone_edge(tmp_path: Path) -> Iterator[Edge]:
    """On SQLite alone, for what does not ask the database."""
    edge = Edge(f"sqlite:///{tmp_path / 'cloud.sqlite'}", tmp_path)
    yield edge
    edge.close()


@pytest.fixture(scope="session")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """Where appliances enrol; every test there makes claims and names of its own."""
    folder = tmp_path_factory.mktemp("office")
    office = Office(f"sqlite:///{folder / 'cloud.sqlite'}", folder)
    yield office
    office.close()


@pytest.fixture
def later(office: Office) -> Iterator[Callable[[timedelta], None]]:
    """Moves the office's clock, for one test."""
    before = office.floor.time

    def move(by: timedelta) -> None:
        assert office.floor.time is not None
        office.floor.time += by

    yield move
    office.floor.time = before
