"""railtix-venue: a whole venue on this machine, for demos, trials and tests."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

app = typer.Typer(
    name="railtix-venue",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A whole venue on this machine: certificate authority, broker, cloud and appliances.",
)


@app.callback()
def venue() -> None:
    """A whole venue on this machine: certificate authority, broker, cloud and appliances."""


@app.command()
def demo(
    *,
    sales: Annotated[
        int, typer.Option(help="Approved sales in all, the script's two included.", min=2)
    ] = 2,
    appliances: Annotated[int, typer.Option(help="How many tills sell.", min=1, max=50)] = 1,
    database: Annotated[
        str | None,
        typer.Option(help="postgresql://...: an empty database; default: SQLite.", metavar="URL"),
    ] = None,
    enrol: Annotated[
        bool, typer.Option("--enrol", help="The first till comes out of its box: by camera.")
    ] = False,
    exit_: Annotated[
        bool, typer.Option("--exit", help="End after the script; the last line is JSON.")
    ] = False,
    keep: Annotated[
        Path | None, typer.Option(help="Keep logs, journals and database in this folder.")
    ] = None,
) -> None:
    """One sale, for real: top up, sign in, sell, decline, lose the network, end in net zero.

    Everything is real (mosquitto with mutual TLS, the cloud, the appliance's own program) but
    camera, keypad, lamp, buzzer and printer, which are simulated at their outermost edge.
    Afterwards you press the keys; Ctrl-C ends it and leaves nothing running.
    """
    # A shell that starts programs in the background has them ignore Ctrl-C: here it always ends.
    signal.signal(signal.SIGINT, _end)
    signal.signal(signal.SIGTERM, _end)
    try:
        raise typer.Exit(_demo(sales, appliances, database, keep, ends=exit_, enrols=enrol))
    except KeyboardInterrupt:
        typer.echo("\nEverything is stopped.", err=True)
        raise typer.Exit(130 if exit_ else 0) from None


def main() -> None:
    app()


def _demo(
    sales: int,
    appliances: int,
    database: str | None,
    keep: Path | None,
    *,
    ends: bool,
    enrols: bool,
) -> int:
    from rich.console import Console

    from venue.attendee import DeskError
    from venue.demo import play, wallet_link
    from venue.edge import EdgeError
    from venue.enrolling import SERIAL
    from venue.enrolling import enrol as enrol_box
    from venue.hands_on import HandsOn
    from venue.narrator import Narrator
    from venue.programs import ProgramError
    from venue.stack import Venue

    console = Console(highlight=False)
    narrator = Narrator(console)
    narrator.title("RailTix Credits", "a whole venue on this machine; the light never lies")
    ready = appliances - 1 if enrols else appliances
    stage = Venue(keep, database=database, appliances=ready, doing=narrator.doing, enrols=enrols)
    try:
        with stage as venue:
            if enrols:
                enrol_box(venue, venue.blank(serial=SERIAL, relays=True))
            played, verdict = play(venue, console, sales, pause_s=0.0 if ends else 1.0)
            if ends:
                sys.stdout.write(verdict.as_json() + "\n")
                sys.stdout.flush()
                return 0 if verdict.is_right else 1
            HandsOn(venue, played.ada, console).run(wallet_link(venue))
    except (ProgramError, EdgeError, DeskError) as fault:
        console.print(f"[red1]It did not work:[/] {fault}")
        return 1
    return 0


def _end(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
