from pathlib import Path

import pytest

from device import settings
from device.settings import SettingsError, load


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pos.toml"
    path.write_text(text)
    return path


def test_a_file_with_a_broker_is_enough(tmp_path: Path) -> None:
    loaded = load(written(tmp_path, '[broker]\nhost = "mq.example"\n'), {})
    assert (loaded.broker.host, loaded.broker.port) == ("mq.example", 8883)
    assert loaded.state.path == Path("/var/lib/railtix")
    assert loaded.hardware.kind == "pi"


def test_the_environment_overrides_the_file_and_an_argument_both(tmp_path: Path) -> None:
    path = written(tmp_path, '[broker]\nhost = "a"\nport = 1\n[state]\ndirectory = "/a"\n')
    environment = {
        "RAILTIX_BROKER_HOST": "b",
        "RAILTIX_BROKER_PORT": "2",
        "RAILTIX_STATE_DIRECTORY": "/b",
        "RAILTIX_HARDWARE_CAMERA_WIDTH": "640",
        "RAILTIX_HARDWARE_BUZZER": "4",
        "RAILTIX_DATABASE_URL": "another program's",
        "PATH": "/bin",
    }
    loaded = load(path, environment)
    assert (loaded.broker.host, loaded.broker.port) == ("b", 2)
    assert loaded.state.directory == "/b"
    assert (loaded.hardware.camera.width, loaded.hardware.buzzer) == (640, 4)
    assert load(path, environment, tmp_path).state.path == tmp_path


def test_without_a_file_the_environment_can_be_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "DEFAULT_PATH", tmp_path / "none.toml")
    assert load(None, {"RAILTIX_BROKER_HOST": "mq"}).broker.host == "mq"


@pytest.mark.parametrize(
    ("text", "environment", "named"),
    [
        ('[broker]\nhost = "a"\nport = 0\n', {}, "broker.port"),
        ('[broker]\nhost = "a"\nport = "many"\n', {}, "broker.port"),
        ('[broker]\nhost = ""\n', {}, "broker.host"),
        ('[broker]\nhots = "a"\n', {}, "hots"),
        ("[state]\n", {}, "broker"),
        ("broker = 1\n", {}, "broker"),
        ("broker = 1\n", {"RAILTIX_BROKER_HOST": "a"}, "broker must be a table"),
        ("[broker\n", {}, "pos.toml"),
        ('[broker]\nhost = "a"\n[hardware]\nkind = "toaster"\n', {}, "hardware.kind"),
        ('[broker]\nhost = "a"\n[hardware]\nkind = "simulated"\n', {}, "socket"),
        ('[broker]\nhost = "a"\n', {"RAILTIX_BROKER_POTR": "1"}, "RAILTIX_BROKER_POTR"),
        ('[broker]\nhost = "a"\n', {"RAILTIX_BROKER_PORT": "x"}, "broker.port"),
    ],
)
def test_a_wrong_setting_is_named(
    tmp_path: Path, text: str, environment: dict[str, str], named: str
) -> None:
    with pytest.raises(SettingsError, match=named):
        load(written(tmp_path, text), environment)


def test_a_file_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"missing\.toml"):
        load(tmp_path / "missing.toml", {})
    with pytest.raises(SettingsError, match="directory"):
        load(tmp_path, {})
