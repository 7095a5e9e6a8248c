"""The HTTP edge on each database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloud.api.edge import Edge


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
