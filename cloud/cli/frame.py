"""What every command shares: its options, its database, its way to say what went wrong."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from sqlalchemy.exc import DBAPIError

from cloud.keys import KeyRingError
from cloud.settings import Settings, SettingsError, read_settings
from cloud.store.database import Database, NotMigratedError

Config = Annotated[
    Path | None, typer.Option("--config", help="The settings file.", show_default=False)
]
State = Annotated[
    Path | None,
    typer.Option("--state", help="Where keys and the SQLite database live.", show_default=False),
]
ReadyFile = Annotated[
    Path | None,
    typer.Option(help="Written (JSON: pid, port, url) once requests are answered."),
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: JSON on stdout.")]


@contextmanager
def open_database(config: Path | None, state: Path | None) -> Generator[tuple[Database, Settings]]:
    settings = read_settings(config, state=state)
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(settings.database_url)
    try:
        database.check_migrated()
        yield database, settings
    finally:
        database.close()


@contextmanager
def faults_told() -> Generator[None]:
    """What a person can mend is told in a sentence; our own bugs keep their trace."""
    try:
        yield
    except SettingsError as error:
        fail("settings", str(error))
    except (NotMigratedError, KeyRingError) as error:
        fail("start", str(error))
    except DBAPIError as error:
        fail("database", str(error.orig))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        fail("files", f"{where}{error.strerror or error}")


def fail(what: str, why: str) -> NoReturn:
    for line in why.splitlines():
        typer.echo(f"{what}: {line}", err=True)
    sys.exit(2)
