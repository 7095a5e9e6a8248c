"""The appliance's settings: one TOML file, overridden by RAILTIX_* in the environment."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, cast

import msgspec

from device.hardware.settings import HardwareSettings

DEFAULT_PATH: Final = Path("/etc/railtix/pos.toml")
PREFIX: Final = "RAILTIX_"


class SettingsError(Exception):
    """A setting is wrong; the message names it."""


class BrokerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where mosquitto listens; its certificate must be for `host`."""

    host: Annotated[str, msgspec.Meta(min_length=1)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 8883


class StateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the identity and the journal are kept."""

    directory: str = "/var/lib/railtix"

    @property
    def path(self) -> Path:
        return Path(self.directory)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything `railtix-pos` needs to know before it can ask the cloud."""

    broker: BrokerSettings
    state: StateSettings = StateSettings()
    hardware: HardwareSettings = HardwareSettings()


def load(path: Path | None, environment: Mapping[str, str], state: Path | None = None) -> Settings:
    """Read `path` (or the default one, if it is there), then the environment, then `state`.

    `RAILTIX_BROKER_HOST` is `host` in `[broker]`; a section within a section is joined the same
    way: `RAILTIX_HARDWARE_CAMERA_WIDTH`. Raises SettingsError.
    """
    tables = _read(DEFAULT_PATH if path is None else path, is_optional=path is None)
    for name, value in sorted(environment.items()):
        if name.startswith(PREFIX):
            _override(tables, name, value)
    if state is not None:
        _table(tables, "state")["directory"] = str(state)
    try:
        return msgspec.convert(tables, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(_spell(str(error))) from error


def _read(path: Path, *, is_optional: bool) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        if is_optional:
            return {}
        raise SettingsError(f"{path}: {error.strerror}") from error
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error


def _override(tables: dict[str, object], name: str, value: str) -> None:
    """Put a variable where it belongs; another program's (`RAILTIX_DATABASE`) is left alone."""
    words = name.removeprefix(PREFIX).lower()
    struct: type[msgspec.Struct] = Settings
    table = tables
    while True:
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}
        section = next(
            (each for each in fields if words.startswith(f"{each}_") and _is_table(fields[each])),
            None,
        )
        if section is None:
            break
        struct = cast("type[msgspec.Struct]", fields[section])
        table = _table(table, section)
        words = words.removeprefix(f"{section}_")
    if words in fields and not _is_table(fields[words]):
        table[words] = value
    elif struct is not Settings:
        raise SettingsError(f"{name} names no setting")


def _is_table(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)


def _table(tables: dict[str, object], section: str) -> dict[str, object]:
    found = tables.setdefault(section, {})
    if not isinstance(found, dict):
        raise SettingsError(f"{section} must be a table")
    return cast("dict[str, object]", found)


def _spell(message: str) -> str:
    """msgspec says `... - at `$.broker.port``; people look for `broker.port`."""
    what, found, where = message.partition(" - at `$.")
    return f"{where.rstrip('`')}: {what}" if found else message
