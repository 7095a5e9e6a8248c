"""railtix-ops device claim, claims, withdraw-claim: a QR that makes a box an appliance of ours."""

import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import segno
import typer
from rich.markup import escape
from rich.table import Table

from provisioning.cli.cloud import DEFAULT_URL, AsJson, Cloud, Document, TokenFile, Url, show_json
from provisioning.cli.speaking import err, out, refuse
from provisioning.files import PRIVATE, write_atomically

POLL_S: Final = 1.0

ClaimId = Annotated[str, typer.Argument(metavar="CLAIM", help="As `device claims` has it.")]


def claim(
    *,
    event: Annotated[str, typer.Option(help="The event it will work at.")],
    stall: Annotated[str, typer.Option(help="The stall it will stand at.")],
    device_id: Annotated[
        str | None,
        typer.Option("--id", help="Its name; left out, the stall's lowest free one."),
    ] = None,
    serial: Annotated[
        str | None, typer.Option(help="Only the appliance with this serial number may use it.")
    ] = None,
    replaces: Annotated[
        str | None, typer.Option(help="Decommission this one once the new one has enrolled.")
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Write the QR as a picture.")] = None,
    text: Annotated[Path | None, typer.Option(help="Write what the QR says.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay until an appliance has used it, or it is over.")
    ] = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Show a code that an appliance without an identity enrols by, within 15 minutes.

    Whoever photographs the code can enrol in the appliance's place until it is used: `device
    withdraw-claim` ends it.
    """
    cloud = Cloud(url, token_file)
    wanted: Document = {"event_id": event, "stall_id": stall}
    chosen = {"device_id": device_id, "serial": serial, "replaces": replaces}
    wanted |= {name: value for name, value in chosen.items() if value is not None}
    made = cloud.post("/claims", wanted)
    began_at = _clock()
    code = segno.make_qr(made["qr_text"], error="m")
    if png is not None:
        # Made before anything is in it: nobody else reads it for a moment either.
        write_atomically(png, b"", mode=PRIVATE)
        code.save(str(png), kind="png", scale=8, border=4)
    if text is not None:
        write_atomically(text, made["qr_text"].encode(), mode=PRIVATE)
    if as_json:
        show_json(made)
    else:
        if png is None and text is None:
            code.terminal(border=4, compact=True)
        _tell(made, png, text)
    if wait:
        _await_end(cloud, made, began_at, as_json=as_json)


def list_claims(
    url: Url = DEFAULT_URL, token_file: TokenFile = None, as_json: AsJson = False
) -> None:
    """The claims that are open, and how those of the last day ended."""
    found = Cloud(url, token_file).get("/claims")
    if as_json:
        show_json(found)
        return
    if not found:
        out.print("No claim is open, and none was made within a day.")
        return
    table = Table("Claim", "Appliance", "Stall", "State", "Until (UTC)", "Made by")
    for each in found:
        table.add_row(
            each["claim_id"],
            each["device_id"],
            f"{each['stall_id']} at {each['event_id']}",
            _state(each),
            each["expires_at"][:16].replace("T", " "),
            escape(each["created_by"]),
        )
    out.print(table)


def withdraw_claim(
    claim_id: ClaimId,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Nobody enrols with this claim any more."""
    ended = Cloud(url, token_file).post(f"/claims/{claim_id}/withdraw", {})
    if as_json:
        show_json(ended)
        return
    out.print(f"{ended['claim_id']} for {ended['device_id']}: {_state(ended)}")


def _tell(made: Document, png: Path | None, text: Path | None) -> None:
    for path in (png, text):
        if path is not None:
            out.print(f"  {path}")
    until = made["expires_at"][11:16]
    out.print(
        f"[bold]{made['device_id']}[/] at {made['stall_id']}, {made['event_id']}: "
        f"good until {until} UTC, for one appliance."
    )
    out.print(
        "Switch the appliance on. Once it asks for a code, hold this before its camera (a Wi-Fi "
        "network's QR first, where it has no network)."
    )
    if made["replaces"] is not None:
        out.print(f"{made['replaces']} sells on until then, and is decommissioned with it.")


def _await_end(cloud: Cloud, made: Document, began_at: float, *, as_json: bool) -> None:
    """Returns once it was used; any other end ends the command."""
    lasts_s = (_moment(made["expires_at"]) - _moment(made["created_at"])).total_seconds()
    claim = made
    with err.status("") as status:
        while claim["state"] == "open":
            left_s = max(0, round(lasts_s - (_clock() - began_at)))
            wrong = f", {claim['tries']} wrong tries" if claim["tries"] else ""
            status.update(
                f"waiting for {made['device_id']}, {left_s // 60}:{left_s % 60:02} left{wrong}"
            )
            time.sleep(POLL_S)
            claim = cloud.get(f"/claims/{made['claim_id']}")
    if as_json:
        show_json(claim)
    if claim["state"] != "used":
        refuse(f"the claim is {claim['state']}, and no appliance enrolled: make another one")
    if not as_json:
        out.print(
            f"[green]{claim['device_id']} has enrolled.[/] It prints a slip with its name; "
            f"`device show {claim['device_id']}` says how it is."
        )


def _state(claim: Any) -> str:
    colour = {"open": "green", "used": "dim", "locked": "red"}.get(claim["state"], "yellow")
    return f"[{colour}]{claim['state']}[/]"


def _moment(said: str) -> datetime:
    return datetime.fromisoformat(said)


def _clock() -> float:
    return time.monotonic()  # noqa: TID251  # a command is an edge
