"""The appliance's settings: one TOML file, overridden by RAILTIX_* in the environment."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Final, Literal, cast, get_args

import msgspec

from device.hardware.settings import HardwareSettings, Port
from device.journal.retention import Retention
from device.toml_lines import lines_of

DEFAULT_PATH: Final = Path("/etc/railtix/pos.toml")
PREFIX: Final = "RAILTIX_"

_AT_LINE: Final = re.compile(r"\(at line (\d+), column \d+\)")
_STRANGE: Final = re.compile(r"Object contains unknown field `(.*)`")
_MISSING: Final = re.compile(r"Object missing required field `(.*)`")
_ABOUT: Final = re.compile(r"([a-z_]+(?:\.[a-z_]+)*): (.*)")


class SettingsError(Exception):
    """A setting is wrong; the message names the file and line, or the variable, and the setting."""


class BrokerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where mosquitto listens; its certificate must be for `host`."""

    host: Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
    port: Port = 8883


class StateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the identity and the journal are kept."""

    directory: Annotated[str, msgspec.Meta(min_length=1)] = "/var/lib/railtix"

    @property
    def path(self) -> Path:
        return Path(self.directory)


class KeySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the appliance's own key is: see device.credentials."""

    kind: Literal["file", "credential"] = "file"


class EnrolmentSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an appliance without an identity comes by one."""

    wifi: Literal["networkmanager", "none"] = "networkmanager"
    """Who joins the network that a Wi-Fi code names."""
    serial: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]{0,64}\Z")] = ""
    """What a claim may be bound to; without one a Pi's own."""


class UpdateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an image gets its next version; without two slots to install into, nothing of it."""

    slots: Annotated[str, msgspec.Meta(min_length=1)] = "/run/railtix-slots/socket"
    """Where `railtix-slots` is asked."""
    lock: Annotated[str, msgspec.Meta(min_length=1)] = "/run/railtix/sale.lock"
    """Held while anything is unfinished at the till."""
    speed_max_kib: Annotated[int, msgspec.Meta(ge=16, le=1_048_576)] = 1024
    """KiB a second, so that others on the same network find room."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything `railtix-pos` needs to know before it can ask the cloud."""

    broker: BrokerSettings | None = None
    """None: where the cloud said when the appliance enrolled."""
    state: StateSettings = StateSettings()
    enrolment: EnrolmentSettings = EnrolmentSettings()
    keys: KeySettings = KeySettings()
    journal: Retention = Retention()
    hardware: HardwareSettings = HardwareSettings()
    updates: UpdateSettings = UpdateSettings()


@dataclass(frozen=True)
class _Source:
    """Where the values came from, to say it when one is wrong."""

    path: Path
    text: str
    variables: dict[tuple[str, ...], str] = field(default_factory=dict[tuple[str, ...], str])
    """Which variable set a key."""


def load(
    path: Path | None,
    environment: Mapping[str, str],
    state: Path | None = None,
    passed_over: list[str] | None = None,
) -> Settings:
    """Read `path` (or the default one, if it is there), then the environment, then `state`.

    `RAILTIX_BROKER_HOST` is `host` in `[broker]`; a section within a section is joined the same
    way: `RAILTIX_HARDWARE_CAMERA_WIDTH`. Raises SettingsError.

    `passed_over`: what the file sets and this release does not know is put there, a line each, and
    does not count. After an update that was taken back the file may be a later release's, and the
    appliance must start all the same. Without a list it is refused.
    """
    source, tables = _read(DEFAULT_PATH if path is None else path, is_optional=path is None)
    for name, value in sorted(environment.items()):
        if name.startswith(PREFIX):
            _override(tables, name, value, source)
    if state is not None:
        _table(tables, ("state",), source)["directory"] = str(state)
    if passed_over is not None:
        for strange in _drop_strangers(tables, Settings, ()):
            meant = _meant(strange[:-1], strange[-1])
            where = f"{_place(strange, source)}: {'.'.join(strange)}"
            passed_over.append(f"{where}: there is no such setting{meant}: passed over")
    try:
        return msgspec.convert(tables, Settings)
    except msgspec.ValidationError as error:
        raise SettingsError(_spell(str(error), source)) from error


def _drop_strangers(
    tables: dict[str, object], struct: type[msgspec.Struct], path: tuple[str, ...]
) -> list[tuple[str, ...]]:
    """The keys that no setting has, taken out."""
    fields = {each.encode_name: each.type for each in msgspec.structs.fields(struct)}
    strangers = [(*path, name) for name in tables if name not in fields]
    for stranger in strangers:
        del tables[stranger[-1]]
    for name, value in tables.items():
        inner = _struct_in(fields[name])
        if inner is not None and isinstance(value, dict):
            inside = cast("dict[str, object]", value)
            strangers += _drop_strangers(inside, inner, (*path, name))
    return strangers


def _read(path: Path, *, is_optional: bool) -> tuple[_Source, dict[str, object]]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        if is_optional:
            return _Source(path, ""), {}
        raise SettingsError(f"{path}: {error.strerror}") from error
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    try:
        text = raw.decode("utf-8")
        return _Source(path, text), tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise SettingsError(f"{path}:{line}: this is not UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        named = _AT_LINE.search(str(error))
        line = raw.count(b"\n") + 1 if named is None else int(named[1])
        raise SettingsError(f"{path}:{line}: {error}") from error


def _override(tables: dict[str, object], name: str, value: str, source: _Source) -> None:
    """Put a variable where it belongs; another program's (`RAILTIX_DATABASE`) is left alone."""
    words = name.removeprefix(PREFIX).lower()
    struct: type[msgspec.Struct] = Settings
    path: tuple[str, ...] = ()
    while True:
        fields = {each.encode_name: each.type for each in msgspec.structs.fields(struct)}
        section = next(
            (each for each in fields if words.startswith(f"{each}_") and _is_table(fields[each])),
            None,
        )
        if section is None:
            break
        struct = _struct_in(fields[section]) or struct
        path = (*path, section)
        words = words.removeprefix(f"{section}_")
    if words in fields and not _is_table(fields[words]):
        _table(tables, path, source)[words] = _value(value, fields[words])
        source.variables[(*path, words)] = name
    elif path:
        raise SettingsError(f"{name} names no setting")


def _value(text: str, kind: object) -> object:
    """A variable's text as the setting's kind: itself where that is text, else as in TOML."""
    try:
        msgspec.convert(text, kind)
    except msgspec.ValidationError:
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            return text  # refused with all the others, and named
    return text


def _is_table(annotation: object) -> bool:
    return _struct_in(annotation) is not None


def _struct_in(annotation: object) -> type[msgspec.Struct] | None:
    """The table that a setting is, or that it may be left without."""
    for each in (annotation, *get_args(annotation)):
        if isinstance(each, type) and issubclass(each, msgspec.Struct):
            return each
    return None


def _table(tables: dict[str, object], path: tuple[str, ...], source: _Source) -> dict[str, object]:
    for at, section in enumerate(path, 1):
        found = tables.setdefault(section, {})
        if not isinstance(found, dict):
            where = _place(path[:at], source)
            raise SettingsError(f"{where}: {'.'.join(path[:at])} must be a table")
        tables = cast("dict[str, object]", found)
    return tables


def _spell(message: str, source: _Source) -> str:
    """msgspec says `... - at `$.broker.port[2]``; people look for a line and `broker.port`."""
    what, _, where = message.partition(" - at `$")
    path = tuple(each.partition("[")[0] for each in where.rstrip("`").split(".")[1:])
    if strange := _STRANGE.fullmatch(what):
        path, what = (*path, strange[1]), f"there is no such setting{_meant(path, strange[1])}"
    elif missing := _MISSING.fullmatch(what):
        # The table in which it is missing has a line; what is missing has none.
        place = _place(path, source)
        return f"{place}: {'.'.join((*path, missing[1]))}: must be set"
    elif about := _ABOUT.fullmatch(what):
        path, what = (*path, *about[1].split(".")), about[2]
    return f"{_place(path, source)}: {'.'.join(path)}: {what}"


def _place(path: tuple[str, ...], source: _Source) -> str:
    """The variable that set this, or the file and the line of the key, of its table, of none."""
    if path in source.variables:
        return source.variables[path]
    lines = lines_of(source.text)
    while path and path not in lines:
        path = path[:-1]
    return f"{source.path}:{lines[path]}" if path else str(source.path)


def _meant(path: tuple[str, ...], word: str) -> str:
    struct: type[msgspec.Struct] = Settings
    for section in path:
        fields = {each.encode_name: each.type for each in msgspec.structs.fields(struct)}
        struct = _struct_in(fields[section]) or struct
    known = [each.encode_name for each in msgspec.structs.fields(struct)]
    near = get_close_matches(word, known, n=1)
    return f", was {near[0]} meant?" if near else ""
