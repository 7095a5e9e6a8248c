"""Who may use the console; the first admin is entered here, on the server itself."""

import json
from datetime import datetime
from typing import Annotated

import typer

from cloud.access.roles import Grant, Role
from cloud.cli.frame import AsJson, Config, State, fail, faults_told, open_database
from cloud.settings import Settings
from protocol.ids import EventId, StallId

app = typer.Typer(no_args_is_help=True, help="Who may use the console, and as what.")

Name = Annotated[str, typer.Argument(help="The name they sign in with, as `ana`.")]
Event = Annotated[str | None, typer.Option(help="At this event alone; default: every event.")]
Stall = Annotated[str | None, typer.Option(help="For a stall owner: which stall.")]
BaseUrl = Annotated[
    str | None, typer.Option(help="Where people reach the server, unless it is set.")
]
_ACTOR = "system:console"


@app.command("add")
def add(
    name: Name,
    *,
    email: Annotated[str, typer.Option(help="Where their invitation goes.")],
    role: Annotated[Role, typer.Option(help="What they may do.")],
    event: Event = None,
    stall: Stall = None,
    base_url: BaseUrl = None,
    config: Config = None,
    state: State = None,
) -> None:
    """Enter somebody; prints their invitation, which is sent to them too and works once."""
    from cloud.clock import utc_clock
    from cloud.operations.people.console_people import add_person
    from cloud.operations.refusals import Refusal
    from protocol.ids import is_slug

    if not is_slug(name):
        fail("name", "1 to 40 of a-z 0-9 -, as `ana-byrne`")
    if email.count("@") != 1 or not email.isascii() or any(not c.isprintable() for c in email):
        fail("email", "an address is needed, as ana@example.org")
    with faults_told(), open_database(config, state) as (database, settings):
        invitation = add_person(
            database,
            name,
            email,
            [_grant(role, event, stall)],
            _home(settings, base_url),
            actor=_ACTOR,
            now=utc_clock(),
        )
    if isinstance(invitation, Refusal):
        fail("console-user", str(invitation))
    typer.echo(invitation.link)


@app.command("list")
def list_command(config: Config = None, state: State = None, as_json: AsJson = False) -> None:
    """Everybody, what they may do, and whether they ever signed in."""
    from cloud.clock import utc_clock
    from cloud.operations.people.console_people import list_people

    with faults_told(), open_database(config, state) as (database, _):
        people = list_people(database, utc_clock())
    if as_json:
        said = [
            {
                "user_name": each.user_name,
                "email": each.email,
                "is_enrolled": each.is_enrolled,
                "disabled_at": _moment(each.disabled_at),
                "sessions": each.sessions,
                "grants": [str(held.grant) for held in each.grants],
            }
            for each in people
        ]
        typer.echo(json.dumps(said))
        return
    for each in people:
        state_now = "enrolled" if each.is_enrolled else "invited"
        if each.disabled_at is not None:
            state_now = "disabled"
        grants = ", ".join(str(held.grant) for held in each.grants) or "nothing"
        typer.echo(f"{each.user_name}  {each.email}  {state_now}  {grants}")


@app.command("grant")
def grant_command(
    name: Name,
    *,
    role: Annotated[Role, typer.Option(help="What they may do.")],
    event: Event = None,
    stall: Stall = None,
    config: Config = None,
    state: State = None,
) -> None:
    """Let somebody do something, from their next request on."""
    from cloud.clock import utc_clock
    from cloud.operations.people.console_people import grant_role
    from cloud.operations.refusals import Refusal

    with faults_told(), open_database(config, state) as (database, _):
        grant = _grant(role, event, stall)
        held = grant_role(database, name, grant, actor=_ACTOR, now=utc_clock())
    if isinstance(held, Refusal):
        fail("console-user", str(held))
    typer.echo(f"{name} may {held.grant} now.")


@app.command("revoke")
def revoke_command(
    name: Name,
    *,
    role: Annotated[Role, typer.Option(help="What they may do no longer.")],
    event: Event = None,
    stall: Stall = None,
    config: Config = None,
    state: State = None,
) -> None:
    """End a grant, from their next request on."""
    from cloud.clock import utc_clock
    from cloud.operations.people.console_people import revoke_grant

    with faults_told(), open_database(config, state) as (database, _):
        grant = _grant(role, event, stall)
        refusal = revoke_grant(database, name, grant, actor=_ACTOR, now=utc_clock())
    if refusal is not None:
        fail("console-user", str(refusal))
    typer.echo(f"{name} may {grant} no longer.")


@app.command("disable")
def disable_command(name: Name, config: Config = None, state: State = None) -> None:
    """End everything of theirs at once, for good: sessions, invitations, signing in."""
    from cloud.clock import utc_clock
    from cloud.operations.people.console_people import disable_person

    with faults_told(), open_database(config, state) as (database, _):
        refusal = disable_person(database, name, actor=_ACTOR, now=utc_clock())
    if refusal is not None:
        fail("console-user", str(refusal))
    typer.echo(f"{name} is disabled.")


@app.command("new-link")
def new_link(
    name: Name, base_url: BaseUrl = None, config: Config = None, state: State = None
) -> None:
    """A new invitation for whoever lost a password or a second factor."""
    from cloud.clock import utc_clock
    from cloud.operations.people.console_people import renew_invitation
    from cloud.operations.refusals import Refusal

    with faults_told(), open_database(config, state) as (database, settings):
        home = _home(settings, base_url)
        invitation = renew_invitation(database, name, home, actor=_ACTOR, now=utc_clock())
    if isinstance(invitation, Refusal):
        fail("console-user", str(invitation))
    typer.echo(invitation.link)


def _grant(role: Role, event: str | None, stall: str | None) -> Grant:
    return Grant(
        role,
        None if event is None else EventId(event),
        None if stall is None else StallId(stall),
    )


def _home(settings: Settings, base_url: str | None) -> str:
    home = base_url or settings.public_url or f"http://localhost:{settings.http.port}"
    return str(home).rstrip("/")


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
