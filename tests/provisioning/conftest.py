"""The cloud's HTTP edge for commands, with a small event in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloud.api.edge import Edge
from tests.provisioning.desk import Ops


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ops]:
    """Somebody at the command line, in a folder of their own, with a program's token."""
    monkeypatch.chdir(tmp_path)
    edge = Edge(f"sqlite:///{tmp_path / 'cloud.sqlite'}", tmp_path)
    yield Ops(edge, tmp_path)
    edge.close()
