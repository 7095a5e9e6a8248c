"""What the settings come to here, and where each comes from; no secret is told."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource

from cloud.settings import (
    CONFIG,
    Section,
    Settings,
    given_only,
    of_file,
    read_settings,
    secret_files,
)


@dataclass(frozen=True, slots=True)
class Effective:
    """One setting as it counts: `http.port`, its value as text, where it came from."""

    name: str
    shown: str
    source: str


def effective_settings(config: Path | None, **overrides: object) -> list[Effective]:
    """Every setting, by name; secrets are masked. Raises SettingsError."""
    settings = read_settings(config, **overrides)
    model = of_file(config)
    variables = EnvSettingsSource(model, env_prefix="RAILTIX_", env_nested_delimiter="__")
    sources: list[tuple[str, Mapping[str, Any]]] = [
        ("command line", given_only(overrides)),
        ("variable", variables()),
        ("secret file", secret_files(model)()),
        (str(config or CONFIG), TomlConfigSettingsSource(model)()),
    ]
    return [
        Effective(name, _shown(value), _source_of(name, sources))
        for name, value in _leaves(settings)
    ]


def every_setting() -> list[str]:
    """The name of each setting there is, those of sections that are off included."""
    return [name for name, _ in _names(Settings)]


def _names(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        section = _section_of(field.annotation)
        if section is None:
            yield f"{before}{name}", field
        else:
            yield from _names(section, f"{before}{name}.")


def _section_of(annotation: object) -> type[BaseModel] | None:
    for each in (annotation, *get_args(annotation)):
        if isinstance(each, type) and issubclass(each, Section):
            return each
    return None


def _leaves(settings: Settings) -> Iterator[tuple[str, object]]:
    for name, _ in _names(Settings):
        value: object = settings
        for part in name.split("."):
            value = getattr(value, part, None)
        yield name, value


def _shown(value: object) -> str:
    match value:
        case None:
            return "(unset)"
        case SecretStr():
            return "**********"
        case bool():
            return str(value).lower()
        case tuple():
            return ", ".join(str(each) for each in cast("tuple[object, ...]", value)) or "(none)"
        case _:
            return str(value)


def _source_of(name: str, sources: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    for source, found in sources:
        value: object = found
        for part in name.split("."):
            value = cast("dict[str, object]", value).get(part) if isinstance(value, dict) else None
        if value is not None:
            return source
    return "default"
