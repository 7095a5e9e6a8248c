"""Access tokens for railtix-ops and programs."""

from datetime import timedelta
from typing import Annotated

import typer

from cloud.access.roles import Role
from cloud.cli.frame import Config, State, faults_told, open_database

app = typer.Typer(no_args_is_help=True, help="Access tokens for railtix-ops and programs.")


@app.command("create")
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

    with faults_told(), open_database(config, state) as (database, _):
        now = utc_clock()
        made = create_token(database, role, name, now + timedelta(days=days), now)
    typer.echo(made.token)


@app.command("revoke")
def revoke_token(
    name: Annotated[str, typer.Argument(help="Whose tokens end.")],
    role: Annotated[Role, typer.Option()] = Role.OPS,
    config: Config = None,
    state: State = None,
) -> None:
    """End every token of this name, at once."""
    from cloud.clock import utc_clock
    from cloud.operations.access_tokens import revoke_tokens

    with faults_told(), open_database(config, state) as (database, _):
        ended = revoke_tokens(database, role, name, utc_clock())
    typer.echo(f"{ended} token(s) revoked.")
    if not ended:
        raise typer.Exit(1)
