"""Attendees and their sign-in links."""

from typing import Annotated

import typer

from cloud.cli.frame import Config, State, faults_told, open_database

app = typer.Typer(no_args_is_help=True, help="Attendees and their sign-in links.")


@app.callback()
def attendees() -> None:
    """A group, though it has one command so far."""


@app.command("add")
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
    from cloud.operations.people.sign_in_attendee import invite

    with faults_told(), open_database(config, state) as (database, settings):
        invitation = invite(database, email, actor="system:console", now=utc_clock())
        home = base_url or settings.public_url or f"http://localhost:{settings.http.port}"
    typer.echo(f"{str(home).rstrip('/')}/#sign-in={invitation.link_token}")
