"""Settings brought on the boot partition."""

from pathlib import Path

import pytest

from device.settings import SettingsError
from device.storage.settings_file import take_up


def test_good_settings_are_taken_up_and_bad_ones_change_nothing(tmp_path: Path) -> None:
    offered, kept = tmp_path / "pos.toml", tmp_path / "settings.toml"
    assert "as before" in take_up(offered, kept)
    assert not kept.exists()

    offered.write_text('[hardware.printer]\nkind = "none"\n')
    assert "taken up" in take_up(offered, kept)
    assert kept.read_bytes() == offered.read_bytes()
    assert "already" in take_up(offered, kept)

    offered.write_text('[hardware.printer]\nkind = "none"\nwidth = 3\n')
    with pytest.raises(SettingsError, match=r"pos\.toml:3"):
        take_up(offered, kept)
    assert "width" not in kept.read_text()

    offered.unlink()
    take_up(offered, kept)
    assert kept.exists(), "what was taken up once stays without the file"


def test_a_draft_that_a_power_cut_left_is_written_over(tmp_path: Path) -> None:
    offered, kept = tmp_path / "pos.toml", tmp_path / "settings.toml"
    (tmp_path / ".settings.toml.new").write_text("[hard")
    offered.write_text("[journal]\nkeep_days = 80\n")
    take_up(offered, kept)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["pos.toml", "settings.toml"]
