"""Many rows in one statement: joined to, inserted, or updated from, on both databases."""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import Cursor
from psycopg.rows import namedtuple_row
from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    ClauseElement,
    Column,
    Connection,
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
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.selectable import FromClause
from sqlalchemy.types import TypeEngine

from cloud.store.tables import UtcTime

_ROWS: Final = "rows"
_PSYCOPG: Final = PGDialect_psycopg()


Answer = Callable[[], Sequence[Any]]
"""Gives the rows that a statement found, by column name, and waits for them where it must."""


class BatchStatement:
    """A statement over a table of bound rows, compiled once, whatever the number of rows.

    PostgreSQL gets one array a column (`unnest`), SQLite one JSON text (`json_each`).
    """

    def __init__(
        self,
        columns: Mapping[str, TypeEngine[Any]],
        build: Callable[[FromClause], Executable],
    ) -> None:
        self._columns = columns
        self._for_sqlite: Final = build(_from_json(columns))
        for_postgresql = build(_unnested(columns))
        assert isinstance(for_postgresql, ClauseElement), "every statement is one"
        self._for_postgresql: Final = str(for_postgresql.compile(dialect=_PSYCOPG))

    def run(self, connection: Connection, rows: Sequence[Sequence[Any]]) -> Sequence[Any]:
        """The rows that it finds, by column name, with these rows for `wanted`."""
        return self.ask(connection, rows)()

    def ask(self, connection: Connection, rows: Sequence[Sequence[Any]]) -> Answer:
        """Send it; what it finds is there when it is asked for, or after `in_one_go`."""
        if not rows:
            return tuple
        if connection.dialect.name == "sqlite":
            return connection.execute(self._for_sqlite, self._as_json(rows)).all
        cursor = self._send(connection, rows, {})

        def answer() -> Sequence[Any]:
            with _faults_named(connection):
                return cursor.fetchall()

        return answer

    def write(self, connection: Connection, rows: Sequence[Sequence[Any]], **others: Any) -> None:
        """Execute it for what it changes; `others` are its further parameters."""
        if not rows:
            return
        if connection.dialect.name == "sqlite":
            connection.execute(self._for_sqlite, self._as_json(rows) | others)
        else:
            self._send(connection, rows, others)

    def _send(
        self, connection: Connection, rows: Sequence[Sequence[Any]], others: Mapping[str, Any]
    ) -> Cursor[Any]:
        arrays = {
            f"each_{name}": _array(kind, values)
            for (name, kind), values in zip(
                self._columns.items(), zip(*rows, strict=True), strict=True
            )
        }
        return _send(connection, self._for_postgresql, arrays | dict(others))

    def _as_json(self, rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
        return {_ROWS: json.dumps([self._for_json(row) for row in rows])}

    def _for_json(self, row: Sequence[Any]) -> list[Any]:
        return [
            _as_sqlite_has_it(value, kind)
            for value, kind in zip(row, self._columns.values(), strict=True)
        ]


def printable(text: str) -> str:
    """What an appliance says of itself, without control characters (PostgreSQL refuses NUL)."""
    return "".join(character for character in text if character.isprintable())


def _as_sqlite_has_it(value: Any, kind: TypeEngine[Any]) -> Any:
    if value is None:
        return None
    if isinstance(kind, Uuid):
        return uuid_text(value).replace("-", "")
    if isinstance(kind, UtcTime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    return value


@contextmanager
def in_one_go(connection: Connection) -> Generator[None]:
    """Statements of this module that are sent in the block do not wait for each other's answers.

    They still take effect one after the other. On PostgreSQL (pipeline mode) this saves a round
    trip each, and what they wrote may be refused only at the end of the block.
    """
    if connection.dialect.name == "sqlite":
        yield
        return
    with _faults_named(connection), _driver(connection).pipeline():
        yield


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
    _send(connection, _insert_unnested(table, names), arrays)


def uuid_text(value: UUID | str) -> str:
    return value if isinstance(value, str) else str(value)


def as_uuid_text(text: str) -> str | None:
    """A UUID in its one spelling, or None where the text, which came from outside, is none."""
    try:
        return str(UUID(text))
    except ValueError:
        return None


def _driver(connection: Connection) -> psycopg.Connection[Any]:
    """The driver's connection, in the transaction that SQLAlchemy began: what runs once a batch
    does without the layer that would look at each statement and each row again."""
    driver: Any = connection.connection.driver_connection
    return driver


def _send(
    connection: Connection, statement: str, parameters: Sequence[Any] | Mapping[str, Any]
) -> Cursor[Any]:
    cursor = _driver(connection).cursor(row_factory=namedtuple_row)
    with _faults_named(connection):
        # `encode`: the text is our own, and never holds a value.
        return cursor.execute(statement.encode(), parameters, prepare=True)


@contextmanager
def _faults_named(connection: Connection) -> Generator[None]:
    """The driver's faults under SQLAlchemy's names, which the rest of this program knows."""
    try:
        yield
    except psycopg.Error as error:
        named = DBAPIError.instance(
            None, None, error, psycopg.Error, hide_parameters=True, dialect=connection.dialect
        )
        raise named from error


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


@lru_cache(maxsize=1024)
def _quoted_time(time: datetime) -> str:
    # A batch's requests arrive at one time, which stands in four columns of each.
    return f'"{time.isoformat()}"'


_WRITERS: Final[dict[type[TypeEngine[Any]], Callable[[Any], str]]] = {
    String: _quoted,
    Text: _quoted,
    LargeBinary: lambda raw: f'"\\\\x{raw.hex()}"',
    UtcTime: _quoted_time,
    JSON: lambda value: _quoted(json.dumps(value)),
}
