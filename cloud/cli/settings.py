"""What the settings come to, and where each comes from."""

import json

import typer

from cloud.cli.frame import AsJson, Config, State, faults_told
from cloud.effective_settings import effective_settings


def install(app: typer.Typer) -> None:
    app.command("settings")(settings_command)


def settings_command(config: Config = None, state: State = None, as_json: AsJson = False) -> None:
    """Every setting as it counts here: its value (secrets masked) and where that came from."""
    with faults_told():
        effective = effective_settings(config, state=state)
    if as_json:
        said = [{"name": each.name, "value": each.shown, "from": each.source} for each in effective]
        typer.echo(json.dumps(said))
        return
    names = max(len(each.name) for each in effective)
    values = max(len(each.shown) for each in effective)
    for each in effective:
        typer.echo(f"{each.name:{names}}  {each.shown:{values}}  {each.source}")
