"""Whether this process does its work, part by part; and that it is about to stop."""

import threading
from collections.abc import Callable, Mapping
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from cloud.store.database import Database, NotMigratedError

WELL: Final = "ok"

Part = Callable[[], str | None]
"""Asked whenever somebody wants to know: None while it is well, else what is wrong with it."""


class Readiness:
    """The database and its tables, and whatever else the process adds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._parts: dict[str, Part] = {}
        self._leaving = threading.Event()

    def add(self, name: str, part: Part) -> None:
        self._parts[name] = part

    def add_thread(self, name: str, is_alive: Callable[[], bool]) -> None:
        """A thread that should run for as long as the process does."""
        self.add(name, lambda: None if is_alive() else "its thread has ended; look at the log")

    def leave(self) -> None:
        """From now on not ready: whoever spreads the requests sends them elsewhere."""
        self._leaving.set()

    @property
    def is_leaving(self) -> bool:
        return self._leaving.is_set()

    def look(self) -> Mapping[str, str]:
        """Each part by name: `ok`, or what is wrong with it."""
        parts: dict[str, Part] = {"database": self._look_at_database, **self._parts}
        found = {name: part() or WELL for name, part in parts.items()}
        found["stopping"] = "it was told to stop" if self.is_leaving else WELL
        return found

    def _look_at_database(self) -> str | None:
        try:
            self._database.check_migrated()
        except NotMigratedError:
            return "its tables are those of another version; run `railtix-cloud migrate`"
        except SQLAlchemyError:
            return "it does not answer; start it, or mend its address"
        return None


def is_well(found: Mapping[str, str]) -> bool:
    return all(state == WELL for state in found.values())
