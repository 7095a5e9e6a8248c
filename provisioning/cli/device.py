"""railtix-ops device: appliances, where they stand, and the end of one."""

from pathlib import Path
from typing import Annotated, Any

import typer

from provisioning.cli import claim, fleet_view, leaving
from provisioning.cli.cloud import DEFAULT_URL, AsJson, Cloud, Document, TokenFile, Url, show_json
from provisioning.cli.speaking import out, refuse

app = typer.Typer(
    no_args_is_help=True,
    help="""Appliances: `claim` shows a code that a new one enrols by; `list`, `show` and `watch`
    them; `move` one; `replace` it by another, `decommission` it at the end, `revoke` it when it is
    lost or stolen; `release` it when it was quarantined without harm; `channel` says whose updates
    it gets. `add` enters one whose certificate was made by hand.""",
)

app.command("claim")(claim.claim)
app.command("claims")(claim.list_claims)
app.command("withdraw-claim")(claim.withdraw_claim)
app.command("list")(fleet_view.list_devices)
app.command("show")(fleet_view.show)
app.command("watch")(fleet_view.watch)
app.command("replace")(leaving.replace)
app.command("revoke")(leaving.revoke)
app.command("decommission")(leaving.decommission)

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
    force: leaving.Force = False,
    reason: Annotated[str | None, typer.Option(help="With --force, for the audit log.")] = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Put an appliance at another stall; staff there sign in again.

    To another event it goes once nothing of the old one is left in it: the refusal says what is.
    What it sold is posted at the old event whenever it comes; but people there see it no more.
    """
    if force != (reason is not None):
        refuse("--force and --reason go together")
    body: Document = {"event_id": event, "stall_id": stall}
    if force:
        body["force_reason"] = reason
    _show(Cloud(url, token_file).post(f"/devices/{device_id}/move", body), as_json=as_json)


@app.command("channel")
def channel(
    device_id: DeviceId,
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="`stable` or `beta`.")],
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Whose releases an appliance is to have: `device channel bar-1 beta`.

    Back to `stable` takes nothing away: it keeps what it runs until stable has something newer.
    """
    answer = Cloud(url, token_file).post(f"/devices/{device_id}/channel", {"channel": channel})
    if as_json:
        show_json(answer)
        return
    out.print(f"{answer['device_id']}: hears the releases of {answer['channel']}")


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
