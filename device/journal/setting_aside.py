"""Sets a sound journal aside, whole, under a name that no later start takes for a damaged one."""

import sqlite3
from contextlib import closing
from pathlib import Path

from device.durable import fsync
from device.journal.chain import FILE_NAME


def set_aside(state: Path) -> str:
    """Its new name; empty where there was none. Raises sqlite3.Error and OSError."""
    journal = state / FILE_NAME
    if not journal.exists():
        return ""
    with closing(sqlite3.connect(journal)) as connection:
        # The last to close a journal folds its log into it: then one file is all there is.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    aside = next(
        path
        for path in (state / f"journal-before-reset-{n}.db" for n in range(1, 10_000))
        if not path.exists()
    )
    journal.rename(aside)
    fsync(state)
    return aside.name
