"""Cards, as they come from the flashing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.device.storage.card import Card


@pytest.fixture
def new_card(tmp_path: Path) -> Callable[[], Card]:
    """As it was flashed, as many as are asked for."""

    def new() -> Card:
        folder = tmp_path / f"card-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return Card(folder)

    return new


@pytest.fixture
def card(new_card: Callable[[], Card]) -> Card:
    return new_card()
