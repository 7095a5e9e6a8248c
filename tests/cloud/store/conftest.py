"""The databases that the cloud's core is tested on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloud.floor import Floor


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "postgresql":
        return request.getfixturevalue("empty_postgres_url")
    return f"sqlite:///{tmp_path / 'cloud.sqlite'}"


@pytest.fixture
def floor(database_url: str, tmp_path: Path) -> Iterator[Floor]:
    """The event on a clock that stands until a test moves it."""
    floor = Floor(database_url, tmp_path / "keys")
    yield floor
    floor.close()
