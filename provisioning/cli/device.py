"""railtix-ops device: appliances, where they stand, and the end of one."""

from pathlib import Path
from typing import Annotated, Any

import typer

from provisioning.cli import fleet_view
from provisioning.cli.cloud import DEFAULT_URL, AsJson, Cloud, Document, TokenFile, Url, show_json
from provisioning.cli.speaking import out, refuse

app = typer.Typer(
    no_args_is_help=True,
    help="""Appliances: `add` one with its certificate, `move` it, `revoke` it when it is lost,
    `release` it when it was quarantined without harm.""",
)

app.command("list")(fleet_view.list_devices)
app.command("show")(fleet_view.show)
app.command("watch")(fleet_view.watch)

DeviceId = Annotated[str, typer.Argument(metavar="ID", help="The common name it was issued to.")]
Event = Annotated[str | None, typer.Option(help="The event it works at.")]
Stall = Annotated[str | None, typer.Option(help="The stall it stands at.")]


@app.command("add")
def add(
    device_id: DeviceId,
    *,
    certificate: Annotated[Path, typer.Option(help="Its certificate.pem.")],
    event: Event = None,
    stall: Stall = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Enter an appliance; a known one gets the certificate besides those it has."""
    if (event is None) != (stall is None):
        refuse("--event and --stall go together")
    body: Document = {
        "device_id": device_id,
        "certificate_pem": certificate.read_text(encoding="ascii", errors="replace"),
    }
    if event is not None:
        body["place"] = {"event_id": event, "stall_id": stall}
    _show(Cloud(url, token_file).post("/devices", body), as_json=as_json)


@app.command("release")
def release(
    device_id: DeviceId,
    reason: Annotated[str, typer.Option(help="For the audit log: `we swapped its card`.")],
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Believe a quarantined appliance again, from where its journal stands now.

    Only once you know why it was: with a clone still about, revoke it instead.
    """
    answer = Cloud(url, token_file).post(f"/devices/{device_id}/release", {"reason": reason})
    _show(answer, as_json=as_json)


@app.command("move")
def move(
    device_id: DeviceId,
    *,
    event: Annotated[str, typer.Option(help="The event it works at.")],
    stall: Annotated[str, typer.Option(help="The stall it stands at from now on.")],
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Put an appliance at another stall; staff there sign in again."""
    place = {"event_id": event, "stall_id": stall}
    _show(Cloud(url, token_file).post(f"/devices/{device_id}/move", place), as_json=as_json)


@app.command("revoke")
def revoke(
    device_id: DeviceId,
    reason: Annotated[str, typer.Option(help="For the audit log: `lost at the gate`.")],
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Nothing new of this appliance is posted from now on. There is no way back.

    Revoke its certificate too (`railtix-ops ca revoke ID`), so that the broker refuses it.
    """
    answer = Cloud(url, token_file).post(f"/devices/{device_id}/revoke", {"reason": reason})
    _show(answer, as_json=as_json)


def _show(device: Any, *, as_json: bool) -> None:
    if as_json:
        show_json(device)
        return
    where = _place(device) or "at no stall yet"
    out.print(f"{device['device_id']}: {_status(device)}, {where}")


def _status(device: Document) -> str:
    colour = {"active": "green", "quarantined": "red bold"}.get(device["status"], "dim")
    return f"[{colour}]{device['status']}[/]"


def _place(device: Document) -> str:
    return f"{device['stall_id']} at {device['event_id']}" if device["stall_id"] else ""
