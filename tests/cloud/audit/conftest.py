"""The databases that the audit log is tested on, and a log over a small event."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloud.audit.log import Log
from tests.cloud.floor import Floor


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgres_url")
    return f"sqlite:///{tmp_path / 'cloud.sqlite'}"


@pytest.fixture
def floor(database_url: str, tmp_path: Path) -> Iterator[Floor]:
    floor = Floor(database_url, tmp_path / "keys")
    yield floor
    floor.close()


@pytest.fixture
def log(floor: Floor, tmp_path: Path) -> Log:
    return Log(floor, tmp_path / "audit" / "checkpoint.jws")
