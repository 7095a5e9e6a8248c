import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from msgspec import Struct

from device import settings
from device.settings import BrokerSettings, Settings, SettingsError, load

EXAMPLE = Path(settings.__file__).parent / "systemd" / "pos.toml.example"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pos.toml"
    path.write_text(text)
    return path


def test_nothing_must_be_set_since_the_cloud_says_where_the_broker_is(tmp_path: Path) -> None:
    assert load(written(tmp_path, ""), {}) == Settings()


def test_a_broker_may_be_set(tmp_path: Path) -> None:
    loaded = load(written(tmp_path, '[broker]\nhost = "mq.example"\n'), {})
    assert loaded.broker == BrokerSettings("mq.example", 8883)
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
    assert loaded.broker == BrokerSettings("b", 2)
    assert loaded.state.directory == "/b"
    assert (loaded.hardware.camera.width, loaded.hardware.buzzer) == (640, 4)
    assert load(path, environment, tmp_path).state.path == tmp_path


def test_without_a_file_the_environment_can_be_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "DEFAULT_PATH", tmp_path / "none.toml")
    assert load(None, {"RAILTIX_BROKER_HOST": "mq"}).broker == BrokerSettings("mq")


@pytest.mark.parametrize(
    ("text", "environment", "named"),
    [
        ('[broker]\nhost = "a"\nport = 0\n', {}, "broker.port"),
        ('[broker]\nhost = "a"\nport = "many"\n', {}, "broker.port"),
        ('[broker]\nhost = ""\n', {}, "broker.host"),
        ('[broker]\nhots = "a"\n', {}, "hots"),
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


BROKER = '[broker]\nhost = "a"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            f"{BROKER}[hardware.camera]\n# slow\nexposure_us = 900_000\n",
            ":5: hardware.camera.exposure_us: Expected `int` <= 200000",
        ),
        ('[broker]\nhots = "a"\n', ":2: broker.hots: there is no such setting, was host meant?"),
        (f"{BROKER}[hardwear]\n", ":3: hardwear: there is no such setting, was hardware meant?"),
        (f"{BROKER}[x.y.z]\n", ":3: x: there is no such setting"),
        ('[broker]\nhost = "a"\nport = "8883"\n', ":3: broker.port: Expected `int`, got `str`"),
        ("# nothing\n\n[broker]\nport = 1\n", ":3: broker.host: must be set"),
        ("\n\nbroker = 1\n", ":3: broker: Expected `object | null`, got `int`"),
        (
            f"{BROKER}[hardware.keypad]\ncolumns = [\n  12,\n  16,\n  20,\n  99,\n]\n",
            ":4: hardware.keypad.columns: Expected `int` <= 27",
        ),
        (
            f"{BROKER}[hardware]\nbuzzer = 5\n",
            ":4: hardware.buzzer: GPIO 5 is wired to two parts, here and keypad.rows",
        ),
        (
            f'{BROKER}[hardware]\nkind = "simulated"\n',
            ':4: hardware.kind: "simulated" needs a socket',
        ),
        (
            f'{BROKER}[hardware]\npins = "rpigpio"\n',
            ":4: hardware.pins: Invalid enum value 'rpigpio'",
        ),
        (f"{BROKER}hardware.lamp = {{ red = 4, green = 99 }}\n", ":3: broker.hardware"),
        (f'{BROKER}[keys]\nkind = "tpm"\n', ":4: keys.kind: Invalid enum value 'tpm'"),
        (f"{BROKER}[hardware]\n[hardware.lamp]\nred = 0.5\n", ":5: hardware.lamp.red: Expected"),
        ('[broker]\nhost = "a\n', ":2: Illegal character"),
        ('[broker]\nhost = """a\n', ":3: Unterminated string"),
        ("[broker]\nport = 1\nport = 2\n", ":3: Cannot overwrite a value"),
        ('\r\n[broker]\r\nhost = "a"\r\nport = 0\r\n', ":4: broker.port: Expected `int` >= 1"),
    ],
)
def test_the_wrong_line_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "pos.toml"
    path.write_bytes(text.encode())
    with pytest.raises(SettingsError) as refused:
        load(path, {})
    assert str(refused.value).startswith(str(path))
    assert said in str(refused.value)


def test_a_line_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pos.toml"
    path.write_bytes(b"[broker]\n# caf\xe9\n")
    with pytest.raises(SettingsError, match=r"pos\.toml:2: this is not UTF-8"):
        load(path, {})


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("RAILTIX_BROKER_PORT", "many", "RAILTIX_BROKER_PORT: broker.port: Expected `int`"),
        ("RAILTIX_HARDWARE_CAMERA_WIDTH", "1", "RAILTIX_HARDWARE_CAMERA_WIDTH: hardware.camera"),
        ("RAILTIX_HARDWARE_KEYPAD_ROWS", "[1]", "RAILTIX_HARDWARE_KEYPAD_ROWS: hardware.keypad"),
        ("RAILTIX_HARDWARE_BUZZER", "5", "RAILTIX_HARDWARE_BUZZER: hardware.buzzer: GPIO 5"),
    ],
)
def test_a_wrong_variable_is_named_and_no_line_is_blamed(
    tmp_path: Path, variable: str, value: str, said: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        load(written(tmp_path, BROKER), {variable: value})
    assert str(refused.value).startswith(said)
    assert "pos.toml" not in str(refused.value)


def test_a_variable_may_be_a_list_a_number_or_text(tmp_path: Path) -> None:
    environment = {
        "RAILTIX_HARDWARE_KEYPAD_ROWS": "[2, 3, 4, 26]",
        "RAILTIX_HARDWARE_PRINTER_DEADLINE_S": "2",
        "RAILTIX_HARDWARE_CAMERA_LENS_POSITION": "fixed",
        "RAILTIX_BROKER_HOST": "10.0.0.1",
    }
    loaded = load(written(tmp_path, ""), environment)
    assert loaded.hardware.keypad.rows == (2, 3, 4, 26)
    assert loaded.hardware.printer.deadline_s == 2.0
    assert loaded.hardware.camera.lens_position == "fixed"
    assert loaded.broker == BrokerSettings("10.0.0.1")


def test_the_example_is_every_setting_with_its_default() -> None:
    text = EXAMPLE.read_text("utf-8")
    loaded = load(EXAMPLE, {})
    assert loaded == Settings()
    given = set(keys(tomllib.loads(text)))
    commented = set(re.findall(r"^#([a-z_]+) = ", text, re.MULTILINE))
    for path in fields(Settings):
        assert path in given or path[-1] in commented, f"the example lacks {'.'.join(path)}"


def test_every_number_has_its_bounds() -> None:
    def is_bounded(kind: object) -> bool:
        match msgspec.inspect.type_info(kind):
            case msgspec.inspect.IntType(ge=low, gt=above, le=high):
                return high is not None and (low is not None or above is not None)
            case msgspec.inspect.FloatType(ge=low, gt=above, le=high):
                return high is not None and (low is not None or above is not None)
            case _:
                return True

    for path, kind in fields(Settings).items():
        assert is_bounded(kind), ".".join(path)


def keys(tables: dict[str, object], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in tables.items():
        if isinstance(value, dict):
            yield from keys(value, (*above, key))
        else:
            yield (*above, key)


def fields(
    struct: type[msgspec.Struct], above: tuple[str, ...] = ()
) -> dict[tuple[str, ...], object]:
    """Every setting by its tables and its name, with its type."""
    found: dict[tuple[str, ...], object] = {}
    for each in msgspec.structs.fields(struct):
        kinds = (each.type, *get_args(each.type))
        table = next((k for k in kinds if isinstance(k, type) and issubclass(k, Struct)), None)
        if table is not None:
            found |= fields(table, (*above, each.name))
        else:
            found[(*above, each.name)] = each.type
    return found


def test_a_later_releases_settings_are_passed_over_and_named(tmp_path: Path) -> None:
    """After an update that was taken back the file may be the later release's: it must start."""
    path = written(
        tmp_path,
        '[broker]\nhost = "a"\nalpn = "mqtt"\n'
        "[updates]\nspeed_max_kib = 64\nnights_only = true\n"
        "[hardware.camera]\nexposur_us = 5000\nwidth = 640\n[tips]\nallowed = true\n",
    )
    passed_over: list[str] = []
    loaded = load(path, {}, passed_over=passed_over)
    assert loaded.broker == BrokerSettings("a")
    assert (loaded.updates.speed_max_kib, loaded.hardware.camera.width) == (64, 640)
    assert {each.removeprefix(str(path)) for each in passed_over} == {
        ":3: broker.alpn: there is no such setting: passed over",
        ":6: updates.nights_only: there is no such setting: passed over",
        (
            ":8: hardware.camera.exposur_us: there is no such setting, was exposure_us meant?"
            ": passed over"
        ),
        ":10: tips: there is no such setting: passed over",
    }
    with pytest.raises(SettingsError, match="there is no such setting"):
        load(path, {})


def test_a_setting_that_is_known_and_wrong_is_refused_all_the_same(tmp_path: Path) -> None:
    path = written(tmp_path, "[broker]\nport = 1\nnew = 2\n")
    with pytest.raises(SettingsError, match="host: must be set"):
        load(path, {}, passed_over=[])
