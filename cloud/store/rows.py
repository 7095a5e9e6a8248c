"""Many rows in one statement: joined to, inserted, or updated from, on both databases."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    CursorResult,
    Executable,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    Uuid,
    bindparam,
    cast,
    column,
    func,
    insert,
    select,
)
from sqlalchemy.sql.selectable import FromClause
from sqlalchemy.types import TypeEngine

from cloud.store.tables import UtcTime

_ROWS: Final = "rows"


class BatchStatement:
    """A statement over a table of bound rows, compiled once, whatever the number of rows.

    PostgreSQL gets one array a column (`unnest`), SQLite one JSON text (`json_each`).
    """

    def __init__(
        self, columns: Mapping[str, TypeEngine[Any]], build: Callable[[FromClause], Executable]
    ) -> None:
        self._columns = columns
        self._statements: Final = {
            "postgresql": build(_unnested(columns)),
            "sqlite": build(_from_json(columns)),
        }

    def run(
        self, connection: Connection, rows: Sequence[Sequence[Any]], **others: Any
    ) -> CursorResult[Any]:
        """Execute it with these rows; `others` are its further parameters."""
        assert rows, "a statement over no rows"
        dialect = connection.dialect.name
        if dialect == "sqlite":
            parameters: dict[str, Any] = {_ROWS: json.dumps([self._for_json(row) for row in rows])}
        else:
            parameters = {
                f"each_{name}": _array(kind, values)
                for (name, kind), values in zip(
                    self._columns.items(), zip(*rows, strict=True), strict=True
                )
            }
        return connection.execute(self._statements[dialect], parameters | others)

    def _for_json(self, row: Sequence[Any]) -> list[Any]:
        return [
            uuid_text(value).replace("-", "")
            if value is not None and isinstance(kind, Uuid)
            else value
            for value, kind in zip(row, self._columns.values(), strict=True)
        ]


def insert_rows(
    connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Insert all rows in one round trip; ids are text, JSON is what `json.dumps` takes.

    Raises sqlalchemy.exc.IntegrityError where one stands already.
    """
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        kinds = [table.c[name].type for name in columns]
        connection.execute(
            insert(table),
            [
                {
                    name: UUID(value) if isinstance(kind, Uuid) and value is not None else value
                    for name, kind, value in zip(columns, kinds, row, strict=True)
                }
                for row in rows
            ],
        )
        return
    names = tuple(columns)
    arrays = tuple(
        _array(table.c[name].type, values)
        for name, values in zip(names, zip(*rows, strict=True), strict=True)
    )
    connection.exec_driver_sql(_insert_unnested(table, names), arrays)


def uuid_text(value: UUID | str) -> str:
    return value if isinstance(value, str) else str(value)


def as_uuid_text(text: str) -> str | None:
    """A UUID in its one spelling, or None where the text, which came from outside, is none."""
    try:
        return str(UUID(text))
    except ValueError:
        return None


@cache
def _insert_unnested(table: Table, names: tuple[str, ...]) -> str:
    arrays = ", ".join(f"%s::{_postgresql_name(table.c[name])}[]" for name in names)
    return f"INSERT INTO {table.name} ({', '.join(names)}) SELECT * FROM unnest({arrays})"  # noqa: S608  # our own names


def _postgresql_name(of: Column[Any]) -> str:
    for kind, name in _POSTGRESQL_NAMES:
        if isinstance(of.type, kind):
            return name
    raise TypeError(f"no array of {of.type!r}")


_POSTGRESQL_NAMES: Final[list[tuple[type[TypeEngine[Any]], str]]] = [
    (Uuid, "uuid"),
    (JSON, "jsonb"),
    (UtcTime, "timestamptz"),
    (BigInteger, "bigint"),
    (Integer, "integer"),
    (Boolean, "boolean"),
    (LargeBinary, "bytea"),
    (String, "text"),
]


def _unnested(columns: Mapping[str, TypeEngine[Any]]) -> FromClause:
    arrays = (
        cast(bindparam(f"each_{name}", type_=Text), ARRAY(kind)) for name, kind in columns.items()
    )
    listed = [column(name, kind) for name, kind in columns.items()]
    return func.unnest(*arrays).table_valued(*listed, name="wanted").render_derived()


def _from_json(columns: Mapping[str, TypeEngine[Any]]) -> FromClause:
    each = func.json_each(bindparam(_ROWS, type_=Text)).table_valued("value")
    return select(
        *(
            func.json_extract(each.c.value, f"$[{position}]", type_=kind).label(name)
            for position, (name, kind) in enumerate(columns.items())
        )
    ).subquery("wanted")


def _array(kind: TypeEngine[Any], values: Sequence[Any]) -> str:
    """A PostgreSQL array as text (manual, section 8.15.2): the driver would look at every element
    anew, which cost more than all else in a batch."""
    write = _WRITERS.get(type(kind), str)
    return f"{{{','.join(['NULL' if value is None else write(value) for value in values])}}}"


def _quoted(text: str) -> str:
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


_WRITERS: Final[dict[type[TypeEngine[Any]], Callable[[Any], str]]] = {
    String: _quoted,
    Text: _quoted,
    LargeBinary: lambda raw: f'"\\\\x{raw.hex()}"',
    UtcTime: lambda time: f'"{time.isoformat()}"',
    JSON: lambda value: _quoted(json.dumps(value)),
}
