"""railtix-slots, also as `python -m device.slots`: root's part in an appliance's updates."""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from types import FrameType

app = typer.Typer(
    name="railtix-slots",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="""Root's part in an appliance's updates: which slot runs, a bundle into the other one,
    the one that runs called good, a restart. Nothing else, and never into an open sale.""",
)
Socket = Annotated[Path, typer.Option("--socket", help="Where it is asked.", metavar="PATH")]
_SOCKET = Path("/run/railtix-slots/socket")


@app.command()
def serve(
    socket: Socket = _SOCKET,
    updates: Annotated[
        Path, typer.Option(help="Where the appliance puts bundles.", metavar="FOLDER")
    ] = Path("/data/railtix/update"),
    hold: Annotated[Path, typer.Option(help="Where only root writes.", metavar="FOLDER")] = Path(
        "/data/railtix-slots"
    ),
    lock: Annotated[
        Path, typer.Option(help="Held by the till while a sale is open.", metavar="FILE")
    ] = Path("/run/railtix/sale.lock"),
    user: Annotated[str, typer.Option(help="Who may ask, beside root.")] = "railtix",
    *,
    unconfirmed: Annotated[
        float, typer.Option(help="How long a slot may run that nobody calls good.", metavar="S")
    ] = 1800.0,
) -> None:
    """Answer until a SIGTERM; an installation that goes on is RAUC's, and goes on."""
    import grp
    import pwd
    from threading import Event

    from device.slots.keeper import Keeper, Places
    from device.slots.rauc import Rauc
    from device.slots.server import listen
    from device.slots.server import serve as answer

    try:
        uid = pwd.getpwnam(user).pw_uid
        gid = grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_gid
    except KeyError as error:
        typer.echo(f"railtix-slots: there is no user {user}", err=True)
        raise typer.Exit(2) from error
    _log_as_json()
    users = frozenset({0, os.geteuid(), uid})
    stopping = Event()

    def stop(_number: int, _frame: "FrameType | None") -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    keeper = Keeper(
        Rauc(),
        Places(updates=updates, hold=hold, lock=lock, mark=socket.with_name("good")),
        owners=users,
        unconfirmed_s=unconfirmed,
    )
    with listen(socket, gid) as listening:
        answer(listening, keeper, users, stopping)


@app.command()
def ask(
    what: Annotated[Literal["status", "mark-good", "stay", "reboot"], typer.Argument()],
    socket: Socket = _SOCKET,
) -> None:
    """Ask the one that runs; its answer as JSON. Exit code 1 where it refuses or is not there."""
    from device.slots.client import SlotsClient
    from device.slots.wire import AskMarkGood, AskReboot, AskStatus, AskStay, Refused, line_of

    asks = {
        "status": AskStatus(),
        "mark-good": AskMarkGood(),
        "stay": AskStay(),
        "reboot": AskReboot(),
    }
    answer = SlotsClient(socket).ask(asks[what])
    if isinstance(answer, str):
        typer.echo(f"railtix-slots: {answer}", err=True)
        raise typer.Exit(1)
    typer.echo(line_of(answer).decode().rstrip())
    raise typer.Exit(1 if isinstance(answer, Refused) else 0)


def main() -> None:
    app()


def _log_as_json() -> None:
    import structlog

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    main()
