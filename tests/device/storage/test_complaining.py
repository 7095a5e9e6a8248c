"""No /data: what a person is told, and for how long."""

from contextlib import ExitStack

import pytest

from device.hardware.build import HardwareRefusedError
from device.storage.complaining import ROUNDS, complain, words_for
from device.storage.deciding import Refused, Why


@pytest.mark.parametrize("why", list(Why))
def test_each_reason_says_what_happened_and_what_to_do(why: Why) -> None:
    said = words_for(Refused(why, "detail of it"))
    assert said.startswith(f"{why} (detail of it).\n")
    assert said.splitlines()[1].endswith(".")
    assert words_for(Refused(why)).startswith(f"{why}.\n")


def test_it_is_said_again_and_again_while_the_lamp_shines_and_then_it_is_time_to_start() -> None:
    said: list[str] = []
    waits: list[float] = []
    lamp: list[str] = []

    def show(parts: ExitStack) -> None:
        lamp.append("fault")
        parts.callback(lamp.append, "dark")

    complain("no card", said.append, waits.append, show)
    assert said == ["RAILTIX CANNOT START: no card"] * ROUNDS
    assert sum(waits) == 600
    assert lamp == ["fault", "dark"]


def test_a_lamp_that_cannot_be_lit_keeps_nobody_from_reading_it() -> None:
    said: list[str] = []

    def show(_parts: ExitStack) -> None:
        raise HardwareRefusedError("is it a Pi?")

    complain("no card", said.append, lambda _: None, show)
    assert said[0] == "is it a Pi?"
    assert len(said) == ROUNDS + 1
