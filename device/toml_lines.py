"""Where each key of a TOML file stands: tomllib tells no lines, so it is asked line by line."""

import tomllib
from collections.abc import Iterator, Mapping
from typing import cast

Path = tuple[str, ...]
"""A key and the tables it is in: `("broker", "port")`."""


def lines_of(text: str) -> dict[Path, int]:
    """The line (1 is the first) at which each key and each table of a valid file begins."""
    lines = text.replace("\r\n", "\n").split("\n")
    found: dict[Path, int] = {}
    read = 0
    for count in range(1, len(lines) + 1):
        try:
            tables = tomllib.loads("\n".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue  # in the middle of a value of several lines
        for path in _paths(tables):
            found.setdefault(path, read + 1)
        read = count
    return found


def _paths(tables: Mapping[str, object], above: Path = ()) -> Iterator[Path]:
    for key, value in tables.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from _paths(cast("dict[str, object]", value), (*above, key))
