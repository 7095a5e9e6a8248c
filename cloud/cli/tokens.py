"""Access tokens for railtix-ops and programs."""

import json
from datetime import timedelta
from typing import Annotated

import typer

from cloud.access.roles import Grant, Role
from cloud.cli.frame import AsJson, Config, State, fail, faults_told, open_database

app = typer.Typer(no_args_is_help=True, help="Access tokens for railtix-ops and programs.")


@app.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="Whose it is, as the audit log will say.")],
    *,
    role: Annotated[Role, typer.Option(help="What it may do.")] = Role.OPS,
    event: Annotated[
        str | None, typer.Option(help="At this event alone; default: every event.")
    ] = None,
    stall: Annotated[str | None, typer.Option(help="For a stall owner: which stall.")] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it counts.")] = 90,
    config: Config = None,
    state: State = None,
) -> None:
    """A new access token, printed this once and kept as a hash."""
    from cloud.clock import utc_clock
    from cloud.operations.people.access_tokens import create_token
    from cloud.operations.people.console_people import refuse_scope
    from protocol.ids import EventId, StallId

    event_id = None if event is None else EventId(event)
    stall_id = None if stall is None else StallId(stall)
    refusal = refuse_scope(Grant(role, event_id, stall_id))
    if refusal is not None:
        fail("token", str(refusal))
    with faults_told(), open_database(config, state) as (database, _):
        now = utc_clock()
        ends_at = now + timedelta(days=days)
        made = create_token(
            database, role, name, ends_at, now, event_id=event_id, stall_id=stall_id
        )
    typer.echo(made.token)


@app.command("list")
def list_command(config: Config = None, state: State = None, as_json: AsJson = False) -> None:
    """Whose tokens there are, what for, and until when; the tokens themselves are not kept."""
    from cloud.clock import utc_clock
    from cloud.operations.people.access_tokens import list_tokens

    with faults_told(), open_database(config, state) as (database, _):
        found, now = list_tokens(database), utc_clock()
    if as_json:
        said = [
            {
                "subject": each.subject,
                "grant": str(each.grant),
                "created_at": each.created_at.isoformat(),
                "expires_at": None if each.expires_at is None else each.expires_at.isoformat(),
                "revoked_at": None if each.revoked_at is None else each.revoked_at.isoformat(),
            }
            for each in found
        ]
        typer.echo(json.dumps(said))
        return
    for each in found:
        if each.revoked_at is not None:
            ends = f"revoked {each.revoked_at:%Y-%m-%d}"
        elif each.expires_at is None:
            ends = "no end"
        else:
            past = "expired" if each.expires_at <= now else "until"
            ends = f"{past} {each.expires_at:%Y-%m-%d}"
        typer.echo(f"{each.subject}  {each.grant}  {ends}")


@app.command("revoke")
def revoke_token(
    name: Annotated[str, typer.Argument(help="Whose tokens end.")],
    role: Annotated[Role, typer.Option()] = Role.OPS,
    config: Config = None,
    state: State = None,
) -> None:
    """End every token of this name, at once."""
    from cloud.clock import utc_clock
    from cloud.operations.people.access_tokens import revoke_tokens

    with faults_told(), open_database(config, state) as (database, _):
        ended = revoke_tokens(database, role, name, utc_clock())
    typer.echo(f"{ended} token(s) revoked.")
    if not ended:
        raise typer.Exit(1)
