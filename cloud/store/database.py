"""The database: one engine, one way to begin and commit, on SQLite and PostgreSQL alike."""

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

SCHEMA: Final = "0005"
"""The newest migration's revision: what this program's tables are."""

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_READS_ONLY: Final = "railtix_reads_only"
_BUSY_TIMEOUT_MS: Final = 15_000
_OVERFLOW_MAX: Final = 20
"""Connections beside the ones that are kept, while many ask at once."""
PING_AFTER_S: Final = 1.0
"""How long a connection may rest before it is asked whether it is still there."""


class NotMigratedError(RuntimeError):
    """The database's tables are not those this program was written for."""


class CommitUnknownError(RuntimeError):
    """A COMMIT failed on the way: what it held may stand or not. Look it up; never assume."""


class Database:
    """Hands out connections; every write goes through `transaction`."""

    def __init__(self, url: str, *, pool_size: int = 5) -> None:
        self.url: Final = database_url(url)
        self.dialect: Final[Literal["sqlite", "postgresql"]] = _dialect_of(self.url)
        self.engine: Final = _engine(self.url, pool_size)
        self.connections_max: Final = pool_size + _OVERFLOW_MAX
        # SQLite has one writer. Its own busy handler sleeps up to 100 ms between tries and is not
        # fair; within this process writers queue here instead.
        self._writer: Final = threading.Lock() if self.dialect == "sqlite" else nullcontext()

    def __repr__(self) -> str:
        return f"Database({self.url.render_as_string(hide_password=True)})"

    @contextmanager
    def transaction(self) -> Generator[Connection]:
        """One transaction, committed at the end of the block and rolled back if it raises.

        SQLite: BEGIN IMMEDIATE. PostgreSQL: READ COMMITTED; take locks by `store.locks` first.

        Raises:
            CommitUnknownError: the COMMIT itself failed.
        """
        with self._writer, self.engine.connect() as connection:
            transaction = connection.begin()
            try:
                yield connection
            except BaseException:
                transaction.rollback()
                raise
            try:
                transaction.commit()
            except DBAPIError as error:
                connection.invalidate()
                raise CommitUnknownError("the COMMIT was not acknowledged") from error

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """A connection that only reads and never waits for a writer."""
        with (
            self.engine.connect().execution_options(**{_READS_ONLY: True}) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def one_moment(self) -> Generator[Connection]:
        """`reading`, where all that is read is of one moment, whatever is written meanwhile."""
        with self.reading() as connection:
            if self.dialect == "postgresql":
                # SQLite's readers always do.
                connection.exec_driver_sql(
                    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
                )
            yield connection

    def check_migrated(self) -> None:
        """Raises NotMigratedError where `migrate` has to run first."""
        with self.reading() as connection:
            current: str | None = None
            if inspect(connection).has_table("alembic_version"):
                current = connection.exec_driver_sql(
                    "SELECT version_num FROM alembic_version"
                ).scalar_one_or_none()
        if current != SCHEMA:
            state = "has no tables yet" if current is None else "was made by another version"
            raise NotMigratedError(
                f"The database {self.url.render_as_string(hide_password=True)} {state}. "
                "Run `railtix-cloud migrate` once, then start again."
            )

    def is_reachable(self) -> bool:
        """Whether it answers at all, for a health check or before trying on.

        No also where every connection is waiting for it.
        """
        try:
            with self.reading() as connection:
                connection.exec_driver_sql("SELECT 1")
        except SQLAlchemyError:
            return False
        return True

    def close(self) -> None:
        self.engine.dispose()


def database_url(url: str) -> URL:
    """`postgresql://...` or `sqlite:///PATH`, with the driver this program ships."""
    parsed = make_url(url)
    if parsed.drivername in {"postgresql", "postgres"}:
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def migrate(url: str) -> None:
    """Bring the database's tables to the newest version; harmless when they are there already."""
    # Half a second of imports that no other command needs.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    parsed = database_url(url)
    if _dialect_of(parsed) == "sqlite" and parsed.database is not None:
        Path(parsed.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = _engine(parsed, pool_size=1)
    try:
        with engine.begin() as connection:
            config = Config()
            config.set_main_option("script_location", str(_MIGRATIONS))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()


def _dialect_of(url: URL) -> Literal["sqlite", "postgresql"]:
    match url.get_backend_name():
        case "sqlite":
            assert url.database not in {None, "", ":memory:"}, "SQLite needs a file"
            return "sqlite"
        case "postgresql":
            return "postgresql"
        case other:
            raise ValueError(f"neither SQLite nor PostgreSQL: {other}")


def _engine(url: URL, pool_size: int) -> Engine:
    if _dialect_of(url) == "postgresql":
        engine = create_engine(
            url,
            isolation_level="READ COMMITTED",
            pool_size=pool_size,
            max_overflow=_OVERFLOW_MAX,
            hide_parameters=True,  # an error's text must not carry e-mail addresses or hashes
        )
        _ping_after_rest(engine)
        return engine
    _create_private(url)
    engine = create_engine(
        url, pool_size=pool_size, max_overflow=_OVERFLOW_MAX, hide_parameters=True
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _ping_after_rest(engine: Engine) -> None:
    """Ask a connection whether it is still there, unless it was in use just now: a worker's next
    batch follows at once, and its failure is mended (a batch is tried again)."""
    returned_at = "railtix_returned_at"

    def note(_: object, record: ConnectionPoolEntry) -> None:
        record.info[returned_at] = _clock()

    def ping(dbapi_connection: Any, record: ConnectionPoolEntry, _: object) -> None:
        if _clock() - record.info.get(returned_at, _clock()) < PING_AFTER_S:
            return
        try:
            engine.dialect.do_ping(dbapi_connection)
        except engine.dialect.loaded_dbapi.Error as error:
            # The pool then makes a new one.
            raise DisconnectionError("the connection is gone") from error

    event.listen(engine, "checkin", note)
    event.listen(engine, "checkout", ping)


def _clock() -> float:
    return time.monotonic()  # noqa: TID251  # how long a connection rested is no one's business time


def _create_private(url: URL) -> None:
    """Addresses and the hashes of short PINs are nobody else's to read, and SQLite would let all.

    Its own files beside the database take the same mode.
    """
    assert url.database is not None, "SQLite needs a file"
    path = Path(url.database)
    if path.parent.is_dir():
        path.touch(mode=0o600)


def _prepare_sqlite(dbapi_connection: Any, _record: object) -> None:
    # The driver's own BEGIN is deferred: two readers that both turn writers then fail.
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    # NORMAL loses commits on a power cut (docs/facts.md).
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    # Without it INSERT OR REPLACE deletes a row past the append-only triggers.
    cursor.execute("PRAGMA recursive_triggers = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    reads_only = connection.get_execution_options().get(_READS_ONLY, False)
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")
