"""railtix-ops device: appliances, where they stand, and the end of one."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from provisioning.cli.cloud import DEFAULT_URL, AsJson, Cloud, Document, TokenFile, Url, show_json
from provisioning.cli.speaking import out, refuse

app = typer.Typer(
    no_args_is_help=True,
    help="""Appliances: `add` one with its certificate, `move` it, `revoke` it when it is lost,
    `release` it when it was quarantined without harm.""",
)

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


@app.command("list")
def list_devices(
    url: Url = DEFAULT_URL, token_file: TokenFile = None, as_json: AsJson = False
) -> None:
    """Every appliance: its stall, its policy, what waits in its queue, when it was last heard."""
    devices = Cloud(url, token_file).get("/devices")
    if as_json:
        show_json(devices)
        return
    table = Table("Appliance", "Status", "Stall", "Policy", "Queue", "Printer", "Last heard")
    for device in devices:
        queue = "" if device["queue"] is None else str(device["queue"])
        table.add_row(
            device["device_id"],
            _status(device),
            _place(device),
            f"{device['policy_acked']} of {device['policy_version']}",
            queue,
            escape(device["printer"] or ""),
            _minute(device["last_seen_at"]),
        )
    out.print(table)


@app.command("show")
def show(
    device_id: DeviceId,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """One appliance: where it stands, what it last said of itself, and whether it is believed."""
    device = Cloud(url, token_file).get(f"/devices/{device_id}")
    if as_json:
        show_json(device)
        return
    out.print(f"[bold]{device['device_id']}[/]: {_status(device)}")
    if device["quarantined_at"] is not None:
        cause = device["quarantine_cause"]
        out.print(f"  [red]since {_minute(device['quarantined_at'])} UTC: {_why(cause)}[/]")
        out.print("  see docs/offline.md; then `device release` it, or `device revoke` it")
    if device["revoked_at"] is not None:
        out.print(f"  revoked {_minute(device['revoked_at'])} UTC")
    out.print(f"  {_place(device) or 'at no stall yet'}")
    out.print(f"  policy {device['policy_acked']} of {device['policy_version']}")
    if device["last_seen_at"] is None:
        out.print("  never heard of yet")
        return
    out.print(f"  last heard {_minute(device['last_seen_at'])} UTC")
    out.print(f"  firmware {escape(device['firmware'])}")
    out.print(f"  printer {escape(device['printer'])}")
    out.print(f"  {device['queue']} messages wait to be sent")


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


def _why(cause: str | None) -> str:
    """A quarantine's cause in words."""
    return {
        "journal_went_back": "its journal is shorter, or less settled, than it said before",
        "journal_forked": "its journal has other entries than it said before",
        "journal_returned": "it went back to a journal that it had left for a new one",
        "journal_entry_twice": "two sales say that they are the same entry of its journal",
        "journal_entry_unseen": "a sale from before what it said was settled, never seen till now",
    }.get(cause or "", str(cause))


def _place(device: Document) -> str:
    return f"{device['stall_id']} at {device['event_id']}" if device["stall_id"] else ""


def _minute(moment: str | None) -> str:
    """`2026-06-01T12:34:56Z` as `2026-06-01 12:34` (UTC)."""
    return "never" if moment is None else moment[:16].replace("T", " ")
