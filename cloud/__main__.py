"""railtix-cloud, also as `python -m cloud`: what one types on the server itself."""

import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from sqlalchemy.exc import DBAPIError

from cloud.access.tokens import Role
from cloud.keys import KeyRingError
from cloud.settings import Settings, SettingsError, read_settings
from cloud.store.database import Database, NotMigratedError, migrate
from protocol.money import Money

app = typer.Typer(
    name="railtix-cloud",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""RailTix Credits in the cloud: wallets, top-ups, and answers for the stalls.

    On one machine: `migrate` once, then `serve`. `token create NAME` lets `railtix-ops` in.
    Settings come from /etc/railtix/cloud.toml or `--config`, overridden by RAILTIX_ variables,
    as RAILTIX_HTTP__PORT for `port` under `[http]`.""",
)
token_app = typer.Typer(no_args_is_help=True, help="Access tokens for railtix-ops and programs.")
attendee_app = typer.Typer(no_args_is_help=True, help="Attendees and their sign-in links.")
app.add_typer(token_app, name="token")
app.add_typer(attendee_app, name="attendee")

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


@app.command()
def serve(config: Config = None, state: State = None, ready_file: ReadyFile = None) -> None:
    """Everything in one process: the HTTP edge, and a worker where [broker] is set."""
    from cloud.logs import log_as_json
    from cloud.serving import serve

    with _faults_told():
        log_as_json()
        serve(read_settings(config, state=state), ready_file)


@app.command()
def api(config: Config = None, state: State = None, ready_file: ReadyFile = None) -> None:
    """The HTTP edge alone; run workers beside it."""
    from cloud.logs import log_as_json
    from cloud.serving import serve_api

    with _faults_told():
        log_as_json()
        serve_api(read_settings(config, state=state), ready_file)


@app.command()
def worker(config: Config = None, state: State = None, ready_file: ReadyFile = None) -> None:
    """One worker alone, on the shared subscription; each has a certificate of its own."""
    from cloud.logs import log_as_json
    from cloud.serving import serve_worker

    with _faults_told():
        log_as_json()
        serve_worker(read_settings(config, state=state), ready_file)


@app.command("migrate")
def migrate_command(config: Config = None, state: State = None) -> None:
    """Bring the database's tables to this version; harmless when they are there already."""
    with _faults_told():
        migrate(read_settings(config, state=state).database_url)
    typer.echo("The database is ready.")


@app.command()
def reconcile(config: Config = None, state: State = None, as_json: AsJson = False) -> None:
    """Compare every balance with the sum of its transactions; exit 1 and name those that differ."""
    from cloud.operations.reconcile import reconcile

    with _faults_told(), _database(config, state) as (database, _):
        found = reconcile(database)
    if as_json:
        said = {
            "balanced": found.is_balanced,
            "wallets": found.wallets,
            "transactions": found.transactions,
            "sales": found.sales,
            "differences": [
                {
                    "user_id": str(each.user_id),
                    "currency": each.currency,
                    "balance_in_cents": each.balance_in_cents,
                    "sum_in_cents": each.sum_in_cents,
                }
                for each in found.differences
            ],
        }
        typer.echo(json.dumps(said))
    else:
        for each in found.differences:
            balance = Money(each.balance_in_cents, each.currency)
            total = Money(each.sum_in_cents, each.currency)
            typer.echo(
                f"{each.user_id}  balance {balance}  transactions {total}  off by {balance - total}"
            )
        verdict = "balanced" if found.is_balanced else f"{len(found.differences)} differ"
        typer.echo(f"{found.wallets} wallets, {found.transactions} transactions: {verdict}")
    if not found.is_balanced:
        raise typer.Exit(1)


@token_app.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="Whose it is, as the audit log will say.")],
    role: Annotated[Role, typer.Option(help="What it may do.")] = Role.OPS,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it counts.")] = 90,
    config: Config = None,
    state: State = None,
) -> None:
    """A new access token, printed this once and kept as a hash."""
    from cloud.clock import utc_clock
    from cloud.operations.access_tokens import create_token

    with _faults_told(), _database(config, state) as (database, _):
        now = utc_clock()
        made = create_token(database, role, name, now + timedelta(days=days), now)
    typer.echo(made.token)


@token_app.command("revoke")
def revoke_token(
    name: Annotated[str, typer.Argument(help="Whose tokens end.")],
    role: Annotated[Role, typer.Option()] = Role.OPS,
    config: Config = None,
    state: State = None,
) -> None:
    """End every token of this name, at once."""
    from cloud.clock import utc_clock
    from cloud.operations.access_tokens import revoke_tokens

    with _faults_told(), _database(config, state) as (database, _):
        ended = revoke_tokens(database, role, name, utc_clock())
    typer.echo(f"{ended} token(s) revoked.")
    if not ended:
        raise typer.Exit(1)


@attendee_app.command("add")
def add_attendee(
    email: Annotated[str | None, typer.Option(help="Their address, where they have one.")] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Where attendees reach the server, unless it is set.")
    ] = None,
    config: Config = None,
    state: State = None,
) -> None:
    """Print a sign-in link that works once; a known address gets a new link."""
    from cloud.clock import utc_clock
    from cloud.operations.sign_in_attendee import invite

    with _faults_told(), _database(config, state) as (database, settings):
        invitation = invite(database, email, actor="system:console", now=utc_clock())
        home = base_url or settings.public_url or f"http://localhost:{settings.http.port}"
    typer.echo(f"{str(home).rstrip('/')}/#sign-in={invitation.link_token}")


@contextmanager
def _database(config: Path | None, state: Path | None) -> Generator[tuple[Database, Settings]]:
    settings = read_settings(config, state=state)
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(settings.database_url)
    try:
        database.check_migrated()
        yield database, settings
    finally:
        database.close()


@contextmanager
def _faults_told() -> Generator[None]:
    """What a person can mend is told in a sentence; our own bugs keep their trace."""
    try:
        yield
    except SettingsError as error:
        _fail("settings", str(error))
    except (NotMigratedError, KeyRingError) as error:
        _fail("start", str(error))
    except DBAPIError as error:
        _fail("database", str(error.orig))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail("files", f"{where}{error.strerror or error}")


def _fail(what: str, why: str) -> NoReturn:
    for line in why.splitlines():
        typer.echo(f"{what}: {line}", err=True)
    sys.exit(2)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
