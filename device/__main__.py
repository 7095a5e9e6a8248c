"""railtix-pos, also as `python -m device`: the program an appliance runs."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from device.settings import Settings

app = typer.Typer(
    name="railtix-pos",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""The RailTix appliance: scans wallet QR codes, deducts Credits, lights the lamp.

    Settings come from `/etc/railtix/pos.toml` or `--config`, and `RAILTIX_*` in the environment
    overrides them: `RAILTIX_BROKER_HOST` is `host` in `[broker]`. The appliance's identity and its
    journal are in `/var/lib/railtix` or `--state`.""",
)

Config = Annotated[
    Path | None,
    typer.Option("--config", help="Settings, instead of /etc/railtix/pos.toml.", metavar="FILE"),
]
State = Annotated[
    Path | None,
    typer.Option(
        "--state", help="Identity and journal, instead of [state] directory.", metavar="FOLDER"
    ),
]


@app.command()
def run(config: Config = None, state: State = None) -> None:
    """Sell, until a SIGTERM or Ctrl-C; the lamp is then dark and the journal complete.

    Logs one JSON object a line to stderr; `sale_timed` says where a sale's milliseconds went.
    """
    from device.service import serve

    raise typer.Exit(serve(_settings(config, state)))


@app.command()
def status(config: Config = None, state: State = None) -> None:
    """Say who this appliance is, what it sells, and what waits for an answer.

    Reads only, also while the appliance runs. Exit code 1 if the identity or the journal cannot be
    read.
    """
    from device.status import lines_of

    lines, is_sound = lines_of(_settings(config, state))
    for line in lines:
        typer.echo(line)
    raise typer.Exit(0 if is_sound else 1)


def main() -> None:
    app()


def _settings(config: Path | None, state: Path | None) -> "Settings":
    from device.settings import SettingsError, load

    try:
        return load(config, os.environ, state)
    except SettingsError as error:
        typer.echo(f"railtix-pos: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    main()
