from pathlib import Path

import pytest

from tests.device.slots.machine import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "m")
