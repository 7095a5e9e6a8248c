"""No /data: what a person is told, and for how long."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from device.hardware.build import HardwareRefusedError
from device.hardware.settings import HardwareSettings
from device.storage import complaining
from device.storage.complaining import ROUNDS, complain, words_for
from device.storage.deciding import Refused, Why
from device.till.signals import Light


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


class FakeLamp:
    def __init__(self) -> None:
        self.shown: list[Light] = []

    def show(self, light: Light) -> None:
        self.shown.append(light)

    def off(self) -> None: ...

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("offered", "red"),
    [(None, 17), ("[hardware.lamp]\nred = 4\n", 4), ("[hardware.lamp]\nred = 'x'\n", 17)],
)
def test_the_fault_light_shines_on_the_pins_that_the_card_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offered: str | None, red: int
) -> None:
    lamp = FakeLamp()
    opened: list[HardwareSettings] = []

    def open_lamp(settings: HardwareSettings, _parts: ExitStack) -> FakeLamp:
        opened.append(settings)
        return lamp

    monkeypatch.setattr(complaining, "open_lamp", open_lamp)
    if offered is not None:
        (tmp_path / "pos.toml").write_text(offered)
    with ExitStack() as parts:
        complaining.show_fault(tmp_path / "pos.toml", parts)
    assert lamp.shown == [Light.FAULT]
    assert [each.lamp.red for each in opened] == [red]
