"""What the units start: a link to mount from, or a sentence for a person."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from device.storage import __main__ as program
from device.storage import complaining, finding, preparing
from device.storage.boot_settings import BootSettings
from device.storage.deciding import Refused, Why
from device.storage.finding import Place
from device.storage.preparing import Machine, Ready


class Appliance:
    """The program's surroundings, in a folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run_folder = folder / "run"
        self.boot = folder / "boot"
        for each in (self.run_folder, self.boot):
            each.mkdir()
        self.place: Place | None = Place(folder / "card", 1000, folder / "part4")
        self.outcome: Ready | Refused = Ready(folder / "part4", "none")
        self.asked: list[BootSettings | Refused] = []
        self.is_mounted = True
        monkeypatch.setattr(program, "RUN_FOLDER", self.run_folder)
        monkeypatch.setattr(program, "BOOT", self.boot)
        monkeypatch.setattr(program, "KEPT_SETTINGS", folder / "settings.toml")
        monkeypatch.setattr(Path, "is_mount", self._is_mount)
        monkeypatch.setattr(finding, "find", self._find)
        monkeypatch.setattr(preparing, "prepare", self._prepare)

    def _is_mount(self) -> bool:
        return self.is_mounted

    def _find(self, _cmdline: str, _pause: Callable[[], None]) -> Place | None:
        return self.place

    def _prepare(self, _machine: Machine, _place: Place, asked: BootSettings | Refused) -> object:
        self.asked.append(asked)
        return self.outcome

    def why(self) -> str:
        return (self.run_folder / "why").read_text("utf-8")


@pytest.fixture
def appliance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Appliance:
    return Appliance(tmp_path, monkeypatch)


def test_a_partition_that_is_ready_is_linked_to_be_mounted(appliance: Appliance) -> None:
    (appliance.boot / "railtix.toml").write_text('encryption = "tpm"\n')
    for _ in range(2):
        assert program.main(["prepare"]) == 0
    assert isinstance(appliance.outcome, Ready)
    assert (appliance.run_folder / "device").readlink() == appliance.outcome.device
    assert appliance.asked == [BootSettings("tpm")] * 2


def test_one_that_is_not_is_no_link_but_a_sentence(appliance: Appliance) -> None:
    appliance.outcome = Refused(Why.DAMAGED)
    assert program.main(["prepare"]) == 1
    assert not (appliance.run_folder / "device").exists()
    assert appliance.why().startswith(Why.DAMAGED)

    appliance.place = None
    assert program.main(["prepare"]) == 1
    assert appliance.why().startswith(Why.NOT_FOUND)


def test_a_boot_partition_that_is_not_there_asked_for_something_unknown(
    appliance: Appliance,
) -> None:
    appliance.is_mounted = False
    program.main(["prepare"])
    (asked,) = appliance.asked
    assert isinstance(asked, Refused)
    assert asked.why == Why.SETTING


def test_settings_are_taken_up_or_refused_with_their_line(
    appliance: Appliance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["settings"]) == 0
    (appliance.boot / "pos.toml").write_text("[nonsense]\n")
    assert program.main(["settings"]) == 1
    assert "stay as they were" in capsys.readouterr().out
    assert not (tmp_path / "settings.toml").exists()


@pytest.mark.parametrize("why", [None, "because of this"])
def test_what_is_wrong_is_said_even_where_nobody_knows_what(
    appliance: Appliance,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    why: str | None,
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    shown: list[Path] = []

    def show_fault(offered: Path, _parts: ExitStack) -> None:
        shown.append(offered)

    monkeypatch.setattr(complaining, "show_fault", show_fault)
    if why is not None:
        (appliance.run_folder / "why").write_text(why)
    assert program.main(["complain"]) == 0
    assert (why or complaining.UNKNOWN) in capsys.readouterr().out
    assert shown == [appliance.boot / "pos.toml"]
    assert sum(waited) == 600


@pytest.mark.parametrize("arguments", [[], ["format"], ["prepare", "now"]])
def test_nothing_else_is_understood(arguments: list[str]) -> None:
    assert program.main(arguments) == 2
