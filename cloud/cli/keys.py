"""The cloud's signing keys: which there are, and how one is replaced."""

from typing import Annotated

import typer

from cloud.cli.frame import Config, State, fail, faults_told, open_database

app = typer.Typer(
    no_args_is_help=True,
    help="""The cloud's signing keys, and how to replace one.

    `prepare` makes the new key and tells the appliances; `activate` lets it sign once they have
    all acknowledged it. NAME is reply, badge, checkpoint, ticket, or wallet.EVENT.""",
)

Name = Annotated[
    str, typer.Argument(help="reply, badge, checkpoint, ticket, or wallet.EVENT.", metavar="NAME")
]


@app.command("list")
def list_keys(config: Config = None, state: State = None) -> None:
    """Every key by name: the one that signs, one that is prepared, those that are retired."""
    from typing import get_args

    from rich.console import Console
    from rich.table import Table

    from cloud.keys import KeyRing, KeyRole

    with faults_told(), open_database(config, state) as (_, settings):
        keys = KeyRing(settings.keys_folder)
        table = Table("key", "signs", "prepared", "retired")
        for role in get_args(KeyRole):
            kids = list(keys.public(role))
            ahead = keys.prepared(role)
            retired = [kid for kid in kids[1:] if kid != ahead]
            table.add_row(role, kids[0], ahead or "", " ".join(retired))
        for event_id in keys.wallet_events():
            named = [each.kid for each in keys.known_wallets(event_id)]
            ahead = keys.prepared(f"wallet.{event_id}")
            retired = [kid for kid in named[1:] if kid != ahead]
            table.add_row(f"wallet.{event_id}", named[0], ahead or "", " ".join(retired))
    Console().print(table)


@app.command()
def prepare(name: Name, config: Config = None, state: State = None) -> None:
    """Make the key that will sign, and put it into every appliance's next policy."""
    from cloud.clock import utc_clock
    from cloud.keys import KeyRing
    from cloud.operations.fleet.rotate_keys import prepare_key
    from cloud.operations.refusals import Refusal

    with faults_told(), open_database(config, state) as (database, settings):
        keys = KeyRing(settings.keys_folder)
        done = prepare_key(database, keys, name, actor="system:console", now=utc_clock())
    if isinstance(done, Refusal):
        fail("keys", str(done))
    typer.echo(f"{done.name}: {done.kid} is prepared; {len(done.policies)} appliance(s) are told.")


@app.command()
def activate(
    name: Name,
    force: Annotated[
        bool, typer.Option("--force", help="Though some appliances do not know it yet.")
    ] = False,
    config: Config = None,
    state: State = None,
) -> None:
    """Let the prepared key sign; what the old one signed stays good. Then restart the servers,
    one after the other: each signs with the keys it found when it started."""
    from cloud.clock import utc_clock
    from cloud.keys import KeyRing
    from cloud.operations.fleet.rotate_keys import activate_key
    from cloud.operations.refusals import Refusal

    with faults_told(), open_database(config, state) as (database, settings):
        keys = KeyRing(settings.keys_folder)
        done = activate_key(
            database, keys, name, actor="system:console", now=utc_clock(), force=force
        )
    if isinstance(done, Refusal):
        fail("keys", str(done))
    typer.echo(f"{done.name}: {done.kid} signs. Restart the servers, one after the other.")
