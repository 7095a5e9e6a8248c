"""railtix-pos, also as `python -m device`: the program an appliance runs."""

import os
import sys
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

    passed_over: list[str] = []
    settings = _settings(config, state, passed_over)
    raise typer.Exit(serve(settings, passed_over))


@app.command()
def status(
    config: Config = None,
    state: State = None,
    json: Annotated[bool, typer.Option("--json", help="Everything, for a program.")] = False,
) -> None:
    """Say what waits for the cloud, why it is not moving, and how the appliance is otherwise.

    Reads only, while the appliance runs and while it does not. Exit code 1 where a person should do
    something about it: each trouble is a line of its own.
    """
    from device.condition.status import status_of

    passed_over: list[str] = []
    settings = _settings(config, state, passed_over)
    said = status_of(settings, passed_over)
    if json:
        import msgspec

        typer.echo(msgspec.json.encode(said).decode())
    elif sys.stdout.isatty():
        from device.condition.status_lines import show

        show(said)
    else:
        from device.condition.status_lines import plain

        typer.echo(plain(said))
    raise typer.Exit(0 if said.is_sound else 1)


@app.command()
def receipts(
    config: Config = None,
    state: State = None,
    drop: Annotated[bool, typer.Option("--drop", help="Let them go, unprinted.")] = False,
) -> None:
    """Say which slips wait for the printer, oldest first; with `--drop` they wait no longer.

    Also while the appliance runs: it misses those that are gone within some seconds. No sale hangs
    on any of them, and key D prints the last receipt again.
    """
    from device.hardware.spool import drop as drop_slip
    from device.hardware.spool import folder_of, look, spell

    folder = folder_of(_settings(config, state).state.path)
    if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
        typer.echo(f"railtix-pos: {folder} may not be read by this user", err=True)
        raise typer.Exit(1)
    waiting = look(folder.parent)
    for each in waiting:
        typer.echo(spell(each))
    dropped = sum(drop_slip(each.path) for each in waiting) if drop else 0
    what = "slip waits" if len(waiting) == 1 else "slips wait"
    typer.echo(f"{dropped} dropped" if drop else f"{len(waiting)} {what} for the printer")
    raise typer.Exit(1 if drop and dropped < len(waiting) else 0)


@app.command()
def selftest(
    config: Config = None,
    state: State = None,
    *,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="This part alone; may be said again.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Nobody is there: skip what needs somebody.")
    ] = False,
    on_paper: Annotated[bool, typer.Option("--print", help="Print the result, too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The result for a program.")] = False,
) -> None:
    """Try every part and what surrounds it: keys, lamp, buzzer, camera, printer, network, clock,
    certificate, disk.

    Stop the appliance first. What to do is said on stderr, the result on stdout; `#` or y says
    yes, `*` or n no. Exit code 1 where a part failed.
    """
    from device.selftest.findings import Part, is_sound, table_of
    from device.selftest.walk import Walk
    from device.state_lock import AlreadyRunningError

    settings = _settings(config, state)
    unknown = sorted(set(only or ()) - set(Part))
    if unknown:
        typer.echo(f"railtix-pos: no part {unknown[0]!r}; there are {', '.join(Part)}", err=True)
        raise typer.Exit(2)
    _log_trouble_alone()
    try:
        found = Walk(settings, is_alone=yes, prints=on_paper).over(
            [part for part in Part if not only or part in only]
        )
    except (AlreadyRunningError, OSError) as error:
        typer.echo(f"railtix-pos: {error}", err=True)
        raise typer.Exit(1) from error
    if json:
        import msgspec

        typer.echo(msgspec.json.encode(found).decode())
    else:
        from rich.console import Console

        Console().print(table_of(found))
    raise typer.Exit(0 if is_sound(found) else 1)


@app.command()
def reset(
    config: Config = None,
    state: State = None,
    keep_identity: Annotated[
        bool, typer.Option("--keep-identity", help="Begin a new journal, and stay who it is.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase who this appliance is, and set its journal aside; nothing of the journal is deleted.

    Refused, with exit code 1, while the cloud has not answered for everything that was sold,
    cancelled, given back or signed out here, and while the appliance runs.
    """
    from device.reset import Done
    from device.reset import reset as reset_appliance

    settings = _settings(config, state)
    what = "journal" if keep_identity else "identity and journal"
    if not yes and not typer.confirm(f"Reset the {what} in {settings.state.path}?"):
        raise typer.Exit(1)
    try:
        ended = reset_appliance(settings, keep_identity=keep_identity)
    except OSError as error:
        typer.echo(f"railtix-pos: {error}", err=True)
        raise typer.Exit(1) from error
    is_done = isinstance(ended, Done)
    for line in ended.lines:
        typer.echo(line, err=not is_done)
    raise typer.Exit(0 if is_done else 1)


@app.command()
def upload(config: Config = None, state: State = None) -> None:
    """Send what waits here over HTTPS: for an appliance that its broker takes nothing of any more.

    A found, revoked or replaced one. Stop the appliance first. What the cloud answers is journaled,
    so that it may be run again at any time; exit code 1 while something is left without an answer.
    """
    from device.upload import upload as upload_all

    _log_trouble_alone()
    try:
        ended = upload_all(_settings(config, state), typer.echo)
    except OSError as error:
        typer.echo(f"railtix-pos: {error}", err=True)
        raise typer.Exit(1) from error
    for line in ended.lines:
        typer.echo(line, err=not ended.is_all)
    raise typer.Exit(0 if ended.is_all else 1)


@app.command()
def update(
    config: Config = None,
    state: State = None,
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Exit code 1 unless it runs what is announced.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="What was given up may be tried once more.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Everything, for a program.")] = False,
) -> None:
    """Say which version runs, from which slot, what is announced, and what is done about it.

    Updates come by themselves, when nobody needs the till. A version that did not prove itself is
    never tried again by itself: `--again` says that it may, also while the appliance runs.
    """
    from device.condition.updates import ask_again, lines_of, updates_of

    passed_over: list[str] = []
    settings = _settings(config, state, passed_over)
    if again:
        try:
            ask_again(settings)
        except OSError as error:
            typer.echo(f"railtix-pos: {error}", err=True)
            raise typer.Exit(1) from error
    said = updates_of(settings)
    if json:
        import msgspec

        typer.echo(msgspec.json.encode(said).decode())
    else:
        for name, line in lines_of(said):
            typer.echo(f"{name:<13}{line}".rstrip())
    raise typer.Exit(1 if check and not said.is_newest else 0)


def main() -> None:
    app()


def _log_trouble_alone() -> None:
    """On stderr, away from the result; a part's own lines would drown what a person is told."""
    import logging

    import structlog

    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
    )


def _settings(
    config: Path | None, state: Path | None, passed_over: list[str] | None = None
) -> "Settings":
    """What this release does not know is refused, unless the caller tells of it."""
    from device.settings import SettingsError, load

    try:
        return load(config, os.environ, state, passed_over)
    except SettingsError as error:
        typer.echo(f"railtix-pos: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    main()
