"""One moment of the database to read from, however long that takes and whoever writes meanwhile."""

from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from cloud.store.database import Database


@contextmanager
def snapshot(database: Database) -> Generator[Connection]:
    """A connection that only reads, and sees what stood when it was first asked."""
    with database.reading() as connection:
        if database.dialect == "postgresql":
            # SQLite's readers see one moment anyway.
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        yield connection
