"""railtix-ops staff: badges, printed as QR codes, and their PINs."""

from pathlib import Path
from typing import Annotated

import segno
import typer

from protocol.wallet_qr import to_digits
from provisioning.cli.cloud import DEFAULT_URL, AsJson, Cloud, TokenFile, Url, show_json
from provisioning.cli.speaking import out
from provisioning.files import PRIVATE, write_atomically

app = typer.Typer(
    no_args_is_help=True,
    help="Staff badges. Who works where stands in the event's file (`event apply`).",
)


@app.command("badge")
def badge(
    event_id: Annotated[str, typer.Argument(metavar="EVENT")],
    staff_id: Annotated[str, typer.Argument(metavar="STAFF", help="Their id in the event's file.")],
    *,
    choose_pin: Annotated[
        bool, typer.Option("--choose-pin", help="Ask for the PIN instead of drawing one.")
    ] = False,
    png: Annotated[Path | None, typer.Option(help="Write the QR as a picture.")] = None,
    text: Annotated[Path | None, typer.Option(help="Write what the QR says.")] = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """A new badge and PIN; the badge they had no longer signs in."""
    pin: str | None = None
    if choose_pin:
        pin = typer.prompt("PIN", hide_input=True, confirmation_prompt=True)
    answer = Cloud(url, token_file).post(f"/events/{event_id}/staff/{staff_id}/badge", {"pin": pin})
    # As digits, like the wallet's: fewer modules, so cameras read it from further away.
    code = segno.make_qr(to_digits(answer["badge"]), error="m")
    if png is not None:
        code.save(str(png), kind="png", scale=8, border=4)
        png.chmod(PRIVATE)
    if text is not None:
        write_atomically(text, answer["badge"].encode(), mode=PRIVATE)
    if as_json:
        show_json(answer)
        return
    if png is None and text is None:
        code.terminal(border=4, compact=True)
    out.print(f"{staff_id} at {event_id}: badge {answer['badge_id']}")
    for path in (png, text):
        if path is not None:
            out.print(f"  {path}")
    if answer["pin"] is not None:
        out.print(f"PIN (shown this once): [bold]{answer['pin']}[/]")
